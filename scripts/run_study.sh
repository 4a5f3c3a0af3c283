#!/usr/bin/env bash
#SBATCH --job-name=kvdistill_study
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=1-00:00:00
#SBATCH --output=logs/%x_%j.out
#SBATCH --open-mode=append
# Off; take one # away to switch on: two minutes before the time limit the runs save checkpoints and end (exit code 143). Submitted once
# more, the study resumes from there.
##SBATCH --signal=B:TERM@120
# A study: all arms of a file on all seeds, and the report that compares them.
#
#   STUDY=experiments/studies/e1_e5.toml sbatch scripts/run_study.sh                   everything in one job
#   STUDY=experiments/studies/e1_e5.toml sbatch --array=0-7 scripts/run_study.sh       a job a seed; the last one writes the report
#   TASKS=4 STUDY=... sbatch --array=0-3 scripts/run_study.sh                          four jobs that share the seeds
#   STUDY=experiments/studies/e1_e5.toml JOBS=2 bash scripts/run_study.sh              without SLURM
#
# The same command once more goes on where it was cut off.

# module load python/3.11 cuda/12.6
# Nothing has to be set for paths: Python comes from .venv, which setup.sh makes, and files are named relative to the project.

STUDY=${STUDY:-experiments/studies/e1_e5.toml}
OUTPUT=${OUTPUT:-}   # empty: outputs/NAME_OF_THE_FILE
JOBS=${JOBS:-}       # runs side by side; empty: what the file says
MINUTES=${MINUTES:-} # no run begins after so long
ARMS=${ARMS:-}       # only these arms, with commas
SEEDS=${SEEDS:-}     # only these seeds, such as 0-3
TASKS=${TASKS:-}     # how many jobs of an array share the seeds; empty: a job a seed
NUM_GPUS=${NUM_GPUS:-}

set -euo pipefail
NAME=run_study.sh
# sbatch runs a copy of this file that lies elsewhere.
for ROOT in "$(dirname "${BASH_SOURCE[0]}")/.." "${SLURM_SUBMIT_DIR:-.}"; do
  [ ! -f "$ROOT/scripts/_common.sh" ] || break
done
[ -f "$ROOT/scripts/_common.sh" ] || { echo "$NAME: submit it from the project's folder: cd PROJECT && sbatch scripts/$NAME" >&2 && exit 2; }
source "$ROOT/scripts/_common.sh"

for name in JOBS TASKS; do [ -z "${!name}" ] || require_count 1 "$name"; done
[ -f "$STUDY" ] || die "STUDY is '$STUDY', which is no file. Shipped ones are in experiments/studies."
OUTPUT=${OUTPUT:-outputs/$(basename "$STUDY" .toml)}
check_path OUTPUT
find_python
find_device 1
OPTIONS=(--output "$OUTPUT")
add JOBS MINUTES ARMS SEEDS
if [ -n "$TASKS" ]; then
  [ -n "${SLURM_ARRAY_TASK_ID:-}" ] || die "TASKS is $TASKS outside an array: submit with --array=0-$((TASKS - 1))."
  OPTIONS+=(--array-task "$SLURM_ARRAY_TASK_ID/$TASKS")
fi
# In this shell's place, so that SLURM's signal reaches the study itself.
exec "$PYTHON" -m kvdistill study run "$STUDY" "${OPTIONS[@]}"
