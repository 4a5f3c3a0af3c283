#!/usr/bin/env bash
#SBATCH --job-name=kvdistill_all
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=2-00:00:00
#SBATCH --output=logs/%x_%j.out
#SBATCH --open-mode=append
# Experiments E1 to E5 and the two references on every seed, and the report that compares them.
#
#   sbatch scripts/run_all_experiments.sh                      everything in one job, submitted from the project's folder
#   sbatch --array=0-7 scripts/run_all_experiments.sh          a job a seed; whichever ends last writes the report
#   EMBEDDED=llama bash scripts/run_all_experiments.sh         a small model on the embedded task, on a CPU and without downloads
#   SEEDS="0 1" EPOCHS=3 bash scripts/run_all_experiments.sh   every setting below can be given like this
#
# The same command once more goes on where it was cut off. A run is a folder, such as outputs/E4_rkv/seed0.

# module load python/3.11 cuda/12.6
# Nothing has to be set for paths: Python comes from .venv, which setup.sh makes, and files are named relative to the project.

MODEL_NAME=${MODEL_NAME:-Qwen/Qwen2.5-0.5B-Instruct} # hub name or folder
DATASET_NAME=${DATASET_NAME:-}                       # hub name or folder; empty: openai/gsm8k
# Its parts: DATASET_CONFIG, DATASET_SPLIT, VALIDATION_SPLIT, TEST_SPLIT.
TRAIN_FILE=${TRAIN_FILE:-} # data files in place of a data set
VALIDATION_FILE=${VALIDATION_FILE:-}
TEST_FILE=${TEST_FILE:-}
EMBEDDED=${EMBEDDED:-} # llama or gpt2: the embedded task with a small model of that kind, in place of all these

OUTPUT_BASE=${OUTPUT_BASE:-outputs}
SEEDS=${SEEDS:-0 1 2 3 4 5 6 7}
EXPERIMENTS=${EXPERIMENTS:-E1 E2 E3 E4 E5 direct cot}
JOBS=${JOBS:-1}          # seeds side by side
NUM_GPUS=${NUM_GPUS:-}   # for one run; empty: all that are visible; 0: the CPU
PRECISION=${PRECISION:-} # bf16, fp16 or float32; empty: bf16 on a GPU that has it, float32 with EMBEDDED

# Empty: what is said behind; with EMBEDDED, what experiments/configs/e*.toml say.
EPOCHS=${EPOCHS:-}                               # 10
MAX_STEPS=${MAX_STEPS:-}                         # as many as the epochs have
WARM_STEPS=${WARM_STEPS:-}                       # with EMBEDDED, of the explicit chains of thought that the others start from: MAX_STEPS
BATCH_SIZE=${BATCH_SIZE:-}                       # 16
GRADIENT_ACCUMULATION=${GRADIENT_ACCUMULATION:-} # until 128 examples make a step
LR=${LR:-}                                       # 5e-4
TARGET_LEN=${TARGET_LEN:-}                       # 24
NUM_ITERATIONS=${NUM_ITERATIONS:-}               # 3
LORA_R=${LORA_R:-}                               # 128
EVAL_STEPS=${EVAL_STEPS:-}                       # 50
SAVE_STEPS=${SAVE_STEPS:-}                       # at the end of each epoch only
SUBSET_SIZE=${SUBSET_SIZE:-}                     # all training examples
TEST_SIZE=${TEST_SIZE:-}                         # all test questions, 256 during training
EXTRA_ARGS=${EXTRA_ARGS:-}                       # further options of experiments/train_with_kv.py, for every run

set -euo pipefail
NAME=run_all_experiments.sh
# sbatch runs a copy of this file that lies elsewhere.
for ROOT in "$(dirname "${BASH_SOURCE[0]}")/.." "${SLURM_SUBMIT_DIR:-.}"; do
  [ ! -f "$ROOT/scripts/_common.sh" ] || break
done
[ -f "$ROOT/scripts/_common.sh" ] || { echo "$NAME: submit it from the project's folder: cd PROJECT && sbatch scripts/$NAME" >&2 && exit 2; }
source "$ROOT/scripts/_common.sh"

# cot_folder: that of the chains of thought; a study that an earlier version began has another name for it.
cot_folder() { [ -d "$OUTPUT_BASE/explicit_cot" ] && echo explicit_cot || echo cot; }

# describe EXPERIMENT: its folder and its configuration file.
describe() {
  case $1 in
    E1) FOLDER=E1_baseline CONFIG=e1_baseline ;;
    E2) FOLDER=E2_full_kv CONFIG=e2_full ;;
    E3) FOLDER=E3_right_crop CONFIG=e3_right_crop ;;
    E4) FOLDER=E4_rkv CONFIG=e4_rkv ;;
    E5) FOLDER=E5_shuffled CONFIG=e5_shuffled ;;
    direct) FOLDER=direct CONFIG=e1_baseline ;;
    cot) FOLDER=$(cot_folder) CONFIG=e0_warm ;;
    *) die "EXPERIMENTS: there is no experiment '$1'. Choose from E1 E2 E3 E4 E5 direct cot." ;;
  esac
}

# configured OPTION: its value in the experiment's configuration file, without quotes; of a table a line "name = value" for each entry.
configured() {
  sed -n "s/^$1 = \([^#]*[^# ]\).*/\1/p" "experiments/configs/$CONFIG.toml" | tr -d '"{}' | tr ',' '\n'
}

# own_options EXPERIMENT: what makes a run this experiment, into OWN. On the embedded task its file is the whole configuration; elsewhere
# the method and control of its target and its KV weight are taken from it.
own_options() {
  local part name value
  case $1 in
    E*) OWN=(--evaluation.modes '["latent"]') ;;
    *) OWN=(--training.task "$1" --evaluation.modes "[\"$1\"]") && return ;;
  esac
  [ -z "$EMBEDDED" ] || return 0
  value=$(configured kv_weight)
  [ -n "$value" ] || die "experiments/configs/$CONFIG.toml has no line such as kv_weight = \"auto\", which makes it $1. Add it."
  OWN+=(--kv_weight "$value")
  for part in method control; do
    while read -r name _ value; do
      OWN+=("--target.$part.$name" "$value")
    done < <(configured "$part")
  done
}

check_settings() {
  local name seed seeds=($SEEDS)
  case $EMBEDDED in "" | llama | gpt2) ;; *) die "EMBEDDED is '$EMBEDDED': choose llama or gpt2, or leave it empty." ;; esac
  [ -z "$TRAIN_FILE" ] || [ -n "$TEST_FILE" ] || die "TRAIN_FILE needs a TEST_FILE beside it, or there is nothing to compare."
  require_count 1 JOBS
  check_counts
  check_path OUTPUT_BASE
  for seed in "${seeds[@]}"; do require_count 0 seed; done
  MINE=$SEEDS
  if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
    MINE=${seeds[$SLURM_ARRAY_TASK_ID]-}
    [ -n "$MINE" ] || die "SEEDS='$SEEDS' has no seed for task $SLURM_ARRAY_TASK_ID: submit with --array=0-$((${#seeds[@]} - 1))"
  fi
  # On the embedded task the others start from what the explicit chains of thought leave.
  [ -z "$EMBEDDED" ] || EXPERIMENTS="cot $(tr -s ' ' '\n' <<<"$EXPERIMENTS" | sed '/^cot$/d')"
  for name in $EXPERIMENTS; do describe "$name"; done
}

# What all runs have in common, into OPTIONS.
common_options() {
  OPTIONS=(--resume --training.progress false)
  if [ -z "$EMBEDDED" ]; then
    : "${BATCH_SIZE:=16}" "${EVAL_STEPS:=50}"
    device_defaults
    data_defaults
    add MODEL_NAME
    add_data
  else
    add_as data.train.num SUBSET_SIZE
  fi
  add EPOCHS MAX_STEPS BATCH_SIZE LR TARGET_LEN NUM_ITERATIONS LORA_R EVAL_STEPS SAVE_STEPS
  add_as gradient_accumulation_steps GRADIENT_ACCUMULATION
  add_as training.precision PRECISION
  add_as evaluation.num TEST_SIZE
  add_as evaluation.during_training TEST_SIZE
}

# start_options EXPERIMENT SEED: where a run on the embedded task starts, into START; fails where the seed has no warm start.
start_options() {
  local warm newest
  warm=$OUTPUT_BASE/$(cot_folder)/seed$2
  START=(--config "experiments/configs/$CONFIG.toml")
  if [ "$1" != cot ]; then
    newest=$(sed -n 's/^checkpoint: *//p' "$warm/TRAINING_COMPLETED.txt" 2>/dev/null) || return 1
    START+=(--model_name "$warm/$newest")
    return
  fi
  [ -z "$WARM_STEPS" ] || START+=(--max_steps "$WARM_STEPS")
  if [ "$EMBEDDED" = gpt2 ]; then
    START+=(--model.config '{"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128, "initializer_range": 0.06,
      "attn_pdrop": 0, "resid_pdrop": 0, "embd_pdrop": 0}')
  fi
}

# train EXPERIMENT SEED: one run, unless it is complete with these very settings. A run that never began is a mistake in the settings.
train() {
  local folder run begin=$SECONDS settings command START=()
  describe "$1"
  own_options "$1"
  run=$FOLDER/seed$2 folder=$OUTPUT_BASE/$FOLDER/seed$2
  if [ -n "$EMBEDDED" ] && ! start_options "$1" "$2"; then
    echo "$run is left out: it starts from $(cot_folder)/seed$2, which is not complete."
    return
  fi
  command=("${LAUNCH[@]}" experiments/train_with_kv.py "${OWN[@]}" "${OPTIONS[@]}" --seed "$2" --output_dir "$folder")
  [ -z "$EMBEDDED" ] || command+=("${START[@]}")
  settings=$(printf '%q ' "${command[@]}" && cksum <"experiments/configs/$CONFIG.toml")
  if [ -f "$folder/TRAINING_COMPLETED.txt" ] && [ "$settings" = "$(cat "$folder/.settings" 2>/dev/null)" ]; then
    echo "$run is complete already."
    return
  fi
  echo "$run begins."
  mkdir -p "$folder"
  : >"$folder/.begun"
  if "${command[@]}" >"$folder/console.txt" 2>&1 </dev/null; then
    echo "$settings" >"$folder/.settings"
    echo "$run is complete ($((SECONDS - begin)) s)."
    return
  fi
  echo "$run FAILED after $((SECONDS - begin)) s. The end of $folder/console.txt:"
  tail -n 5 "$folder/console.txt" | sed 's/^/    /'
  [ "$folder/run.json" -nt "$folder/.begun" ] || die "$run could not begin, so the rest is not tried. Mend what is said above, then once more."
}

# lane NUMBER: every JOBS-th seed, one after the other.
lane() {
  local place=0 seed name
  for seed in $MINE; do
    if [ $((place % JOBS)) -eq "$1" ]; then
      for name in $EXPERIMENTS; do train "$name" "$seed"; done
    fi
    place=$((place + 1))
  done
}

# incomplete SEED...: the runs of these seeds that are not complete.
incomplete() {
  local name seed
  for seed; do
    for name in $EXPERIMENTS; do
      describe "$name"
      [ -f "$OUTPUT_BASE/$FOLDER/seed$seed/TRAINING_COMPLETED.txt" ] || printf '%s ' "$FOLDER/seed$seed"
    done
  done
}

# stop_lanes SIGNAL NUMBER: end the lanes and all that they have started, each run with a checkpoint, then this script.
stop_lanes() {
  local pid tries pids
  trap '' INT TERM HUP USR1
  pids=$(jobs -p)
  disown -a # bash has nothing to say about their end
  for pid in $pids; do kill -- "-$pid" 2>/dev/null || true; done
  for pid in $pids; do
    for ((tries = 0; tries < 1100; tries++)); do
      kill -0 -- "-$pid" 2>/dev/null || continue 2
      sleep 0.1
    done
    kill -KILL -- "-$pid" 2>/dev/null || true
  done
  echo "Stopped by SIG$1. The same command continues from here."
  exit $((128 + $2))
}

# Each lane is a process group of its own, so that a signal to this script ends all that it has started.
run_lanes() {
  local number pid lanes=() status=0
  trap 'stop_lanes HUP 1' HUP
  trap 'stop_lanes INT 2' INT
  trap 'stop_lanes USR1 10' USR1
  trap 'stop_lanes TERM 15' TERM
  set -m
  for ((number = 0; number < JOBS; number++)); do
    lane "$number" &
    lanes+=("$!")
  done
  for pid in "${lanes[@]}"; do wait "$pid" || status=$?; done
  set +m
  trap - INT TERM HUP USR1
  [ "$status" -eq 0 ] || exit "$status"
}

report() {
  local missing
  missing=$(incomplete $SEEDS)
  if [ -n "${SLURM_ARRAY_TASK_ID:-}" ] && [ -n "$missing" ]; then
    echo "The report is written by the task that ends last. Not complete yet: $missing"
  else
    "$PYTHON" scripts/analyze_results.py --output_base "$OUTPUT_BASE"
  fi
}

main() {
  local missing status=0
  check_settings
  find_python
  find_device "$JOBS"
  common_options
  add_extra
  echo "Seeds $MINE in $PWD: ${LAUNCH[*]} experiments/train_with_kv.py ${OPTIONS[*]} ..."
  run_lanes
  missing=$(incomplete $MINE)
  report || status=1
  echo "Took $SECONDS s."
  if [ -n "$missing" ]; then
    echo "Not complete: $missing- console.txt in each folder says why. The same command tries them again." >&2
    status=1
  fi
  exit "$status"
}

main
