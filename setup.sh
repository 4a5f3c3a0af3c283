#!/usr/bin/env bash
# One-click set-up: folders, virtual environment, pinned packages, the package itself. Run it again whenever you like.
#
#   bash setup.sh
#
#   KVDISTILL_PYTHON=/path/to/python3.11   the Python that the environment is made from
#   KVDISTILL_TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cu126"
#                                          what pip installs as torch; default: a CPU build where there is neither an NVIDIA
#                                          driver nor SLURM (whose GPUs are not on the login node), the standard build elsewhere
#   PIP_NO_INDEX=1 PIP_FIND_LINKS=wheels   pip's own settings hold: this installs from a folder of wheels, without a network
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

ROOT=$(pwd -P)
LOG=logs/setup.log
STAMP=.venv/kvdistill.stamp
TORCH_MARK=.venv/kvdistill.torch
VENV_PYTHON=.venv/bin/python
TORCH_PIN=$(grep '^torch==' requirements.txt)
export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1

die() {
  printf 'setup.sh: %s\n' "$@" >&2
  exit 1
}

# The environment's own Python where there is one, else the first that is new enough.
find_python() {
  local candidates=(.venv/bin/python python3 python3.13 python3.12 python3.11) candidate version found=""
  [ -z "${KVDISTILL_PYTHON:-}" ] || candidates=("$KVDISTILL_PYTHON")
  for candidate in "${candidates[@]}"; do
    version=$("$candidate" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || continue
    case $version in
      3.1[1-9].* | 3.[2-9][0-9].*)
        PYTHON=$candidate PYTHON_VERSION=$version
        return
        ;;
    esac
    found="$found $candidate ($version)"
  done
  die "Python 3.11 or newer is needed; found:${found:- none that runs as ${candidates[*]}}." \
    "Install one (Debian, Ubuntu: sudo apt install python3.11 python3.11-venv; HPC: module load python/3.11; conda create -n py311 python=3.11)" \
    "or name one: KVDISTILL_PYTHON=/path/to/python3.11 bash setup.sh"
}

require_venv_module() {
  "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || die \
    "$PYTHON ($PYTHON_VERSION) cannot make virtual environments: its venv or ensurepip module is missing." \
    "Debian, Ubuntu: sudo apt install python${PYTHON_VERSION%.*}-venv; elsewhere name a complete Python: KVDISTILL_PYTHON=... bash setup.sh"
}

torch_choice() {
  if [ -n "${KVDISTILL_TORCH:-}" ]; then
    echo "$KVDISTILL_TORCH"
  elif [ -e /proc/driver/nvidia/version ] || command -v nvidia-smi >/dev/null || command -v sbatch >/dev/null; then
    echo "$TORCH_PIN"
  else
    echo "$TORCH_PIN on CPU"
  fi
}

wanted_stamp() {
  printf '%s\n' "root $ROOT" "python $PYTHON_VERSION" "torch $TORCH" "pins $(cat requirements.txt pyproject.toml | cksum)"
}

# A folder copied from elsewhere brings an environment whose programs point back there.
venv_is_ours() {
  grep -qF "$ROOT/.venv/" .venv/bin/pip 2>/dev/null &&
    [ "$("$VENV_PYTHON" -c 'import pip, sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null)" = "$PYTHON_VERSION" ]
}

# A linked folder is emptied only where the environment in it was made for this very place.
refuse_foreign_link() {
  if [ -L .venv ] && [ -n "$(ls -A .venv/ 2>/dev/null)" ] && ! grep -qF "$ROOT/.venv/" .venv/bin/pip 2>/dev/null; then
    die ".venv is a link to $(readlink .venv), and what lies there was not made for $ROOT; setting up would delete it." \
      "Remove the link (rm .venv), or point it to an empty folder (ln -sfn /scratch/me/kvdistill-venv .venv), and run bash setup.sh again."
  fi
}

# Two set-ups at once would tear each other's packages apart.
be_alone() {
  exec 9>logs/setup.lock
  ! command -v flock >/dev/null || flock -n 9 || die "Another setup.sh is running in $ROOT: wait until it has ended."
}

# stage NAME COMMAND...: one line of progress; everything else goes to the log.
stage() {
  local name=$1 start=$SECONDS
  shift
  printf '%-44s' "$name ..."
  printf '\n== %s: %s\n' "$name" "$*" >>"$LOG"
  if "$@" >>"$LOG" 2>&1; then
    echo "ok ($((SECONDS - start)) s)"
    return
  fi
  echo "FAILED"
  tail -n 15 "$LOG" >&2
  die "$name failed; the whole output is in $ROOT/$LOG." \
    "Repair the cause (no network, a full disk, a proxy: see PIP_INDEX_URL, PIP_PROXY, TMPDIR) and run bash setup.sh again: it goes on from here."
}

pip_install() {
  "$VENV_PYTHON" -m pip install --progress-bar off "$@"
}

install_torch() {
  local arguments
  if [ "$TORCH" = "$TORCH_PIN on CPU" ]; then
    # Only the PyTorch index and folders of wheels have builds without CUDA; the standard build works everywhere and is large.
    pip_install --retries 1 "$TORCH_PIN+cpu" ||
      pip_install --retries 1 --index-url https://download.pytorch.org/whl/cpu "$TORCH_PIN" ||
      pip_install "$TORCH_PIN" || return
  else
    # To pip every build of one version is the same: the old one goes first, or it would stay.
    [ "$(cat "$TORCH_MARK" 2>/dev/null)" = "$TORCH" ] || "$VENV_PYTHON" -m pip uninstall -y torch || return
    read -r -a arguments <<<"$TORCH"
    pip_install "${arguments[@]}" || return
  fi
  echo "$TORCH" >"$TORCH_MARK"
}

# Torch is there already, in the build that was chosen; its pin would put the standard build in its place.
install_requirements() {
  grep -v '^torch==' requirements.txt >.venv/requirements-without-torch.txt
  pip_install -r .venv/requirements-without-torch.txt
}

show_machine() {
  "$VENV_PYTHON" - <<'PYTHON' 2>>"$LOG" || echo "GPU             could not be asked; see $LOG"
import torch

print(f"torch           {torch.__version__}")
if torch.cuda.is_available():
    print(f"GPU             {torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}")
else:
    print("GPU             none visible here: the demo and the tests run on CPU; train on a GPU node (sbatch, srun)")
PYTHON
  if [ -n "${HF_TOKEN:-}" ] || [ -s "${HF_TOKEN_PATH:-${HF_HOME:-${XDG_CACHE_HOME:-${HOME:-}/.cache}/huggingface}/token}" ]; then
    echo "Hugging Face    logged in"
  else
    echo "Hugging Face    not logged in; needed only for gated models: .venv/bin/hf auth login"
  fi
}

main() {
  mkdir -p outputs logs data
  find_python
  TORCH=$(torch_choice)
  if [ "$(cat "$STAMP" 2>/dev/null)" = "$(wanted_stamp)" ]; then
    echo "kvdistill is set up."
    return
  fi
  be_alone
  require_venv_module
  refuse_foreign_link
  echo "Setting up kvdistill in $ROOT (Python $PYTHON_VERSION); details in $LOG"
  date >"$LOG"
  rm -f "$STAMP"
  venv_is_ours || stage "Virtual environment" "$PYTHON" -m venv --clear .venv
  stage "Torch ($TORCH)" install_torch
  stage "Packages (requirements.txt)" install_requirements
  stage "kvdistill itself" pip_install --no-deps --no-build-isolation -e .
  # Last, so that a set-up that was cut off is never taken for whole.
  wanted_stamp >"$STAMP"
  show_machine
  printf '%s\n' "" "Done. Next:" \
    "  source .venv/bin/activate       (scripts find the environment without it)" \
    "  bash scripts/test_setup.sh      check this installation" \
    "  make demo                       a small run from data to report, on CPU"
}

main
