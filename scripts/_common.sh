# What the training scripts share; they source it after they have set NAME (their own) and ROOT (the project).
# Paths are relative to the project from here on.
# shellcheck shell=bash
cd "$ROOT"
export TOKENIZERS_PARALLELISM=${TOKENIZERS_PARALLELISM:-false}

# die SENTENCE: a mistake in the settings.
die() {
  printf '%s: %s\n' "$NAME" "$1" >&2
  exit 2
}

# require_count LEAST VARIABLE...: whole numbers, as bash and Python both read them. Bash's arithmetic would run commands in anything
# else, and takes 010 for 8.
require_count() {
  local least=$1 name
  shift
  for name; do
    case ${!name} in
      "" | *[!0-9]* | ??????????*) die "$name is '${!name}': give an integer, $least or more." ;;
      0?*) die "$name is '${!name}': write the number without leading zeros." ;;
    esac
    [ "${!name}" -ge "$least" ] || die "$name is ${!name}: give $least or more."
  done
}

# check_counts: the variables of all scripts that hold a number of things.
check_counts() {
  local name
  for name in BATCH_SIZE GRADIENT_ACCUMULATION TARGET_LEN SUBSET_SIZE TEST_SIZE MAX_LENGTH LOGGING_STEPS SAVE_TOTAL_LIMIT \
    SLURM_CPUS_PER_TASK; do
    [ -z "${!name-}" ] || require_count 1 "$name"
  done
  for name in SEED NUM_ITERATIONS LORA_R EVAL_STEPS SAVE_STEPS NUM_WORKERS SLURM_ARRAY_TASK_ID; do
    [ -z "${!name-}" ] || require_count 0 "$name"
  done
}

# check_path VARIABLE: a path that no command takes for an option, with ~ expanded (the shell does not do it inside quotes).
check_path() {
  case ${!1} in
    -*) printf -v "$1" './%s' "${!1}" ;;
    "~" | "~/"*) printf -v "$1" '%s%s' "$HOME" "${!1#\~}" ;;
    "~"*) die "$1 is '${!1}': write the home folder's path, or ./${!1} for a folder of that name." ;;
  esac
}

# add VARIABLE...: the variables that hold something, as options of the same name.
add() {
  local name
  for name; do
    [ -z "${!name-}" ] || OPTIONS+=("--$(tr '[:upper:]' '[:lower:]' <<<"$name")" "${!name}")
  done
}

# add_as OPTION VARIABLE: the same under another name.
add_as() {
  [ -z "${!2}" ] || OPTIONS+=("--$1" "${!2}")
}

# Quotes in EXTRA_ARGS hold words together, as on a command line.
add_extra() {
  local words word
  words=$(xargs -n1 printf '%s\n' <<<"$EXTRA_ARGS" 2>/dev/null) || die "EXTRA_ARGS has a quote that does not end: $EXTRA_ARGS"
  while IFS= read -r word; do
    [ -z "$word" ] || OPTIONS+=("$word")
  done <<<"$words"
}

find_python() {
  PYTHON=.venv/bin/python
  [ -x "$PYTHON" ] || PYTHON=python3
  "$PYTHON" -c 'from importlib.util import find_spec as f; raise SystemExit(not (f("kvdistill") and f("torch")))' 2>/dev/null ||
    die "$PYTHON in $PWD lacks kvdistill or torch. Run: bash setup.sh"
}

# The GPUs that SLURM gave, that CUDA_VISIBLE_DEVICES names, or that there are.
visible_gpus() {
  local shown=${CUDA_VISIBLE_DEVICES-all}
  if [ -n "${SLURM_GPUS_ON_NODE:-}" ]; then
    echo "${SLURM_GPUS_ON_NODE##*:}"
  elif [ "$shown" = all ]; then
    nvidia-smi -L 2>/dev/null | grep -c '^GPU ' || true
  elif [ -z "$shown" ] || [ "$shown" = -1 ]; then
    echo 0
  else
    tr ',' '\n' <<<"$shown" | grep -c .
  fi
}

has_bf16() {
  local capability
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1) || return 1
  [ "${capability%%.*}" -ge 8 ] 2>/dev/null
}

# find_device SIDE_BY_SIDE: NUM_GPUS, threads, and LAUNCH, the beginning of a training command.
find_device() {
  local cpus processes=$1
  if [ -z "$NUM_GPUS" ]; then
    NUM_GPUS=$(visible_gpus)
    [ "$NUM_GPUS" != 0 ] || echo "No GPU is visible: training on the CPU. (Where there is one after all: NUM_GPUS=1.)"
  elif [ "$NUM_GPUS" = 0 ]; then
    export CUDA_VISIBLE_DEVICES=
  fi
  require_count 0 NUM_GPUS
  LAUNCH=("$PYTHON")
  if [ "$NUM_GPUS" -gt 1 ]; then
    LAUNCH+=(-m kvdistill.training.launch --standalone --nproc_per_node "$NUM_GPUS")
    processes=$((processes * NUM_GPUS))
  fi
  cpus=${SLURM_CPUS_PER_TASK:-$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)}
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cpus > processes ? cpus / processes : 1))}
}

# What follows from the device where nothing is said: bf16 on a GPU that has it, and 128 examples to a step on any number of GPUs.
device_defaults() {
  local together
  if [ -z "$PRECISION" ]; then
    PRECISION=float32
    if [ "$NUM_GPUS" -gt 0 ] && has_bf16; then PRECISION=bf16; fi
  fi
  require_count 1 BATCH_SIZE
  together=$((BATCH_SIZE * (NUM_GPUS > 1 ? NUM_GPUS : 1)))
  GRADIENT_ACCUMULATION=${GRADIENT_ACCUMULATION:-$((together < 128 ? 128 / together : 1))}
}

# The data set where none is named is GSM8K. It has no validation split: the last twentieth of its training questions serves.
data_defaults() {
  : "${DATASET_NAME:=openai/gsm8k}"
  case $DATASET_NAME in
    openai/gsm8k) : "${DATASET_CONFIG:=main}" "${DATASET_SPLIT:=train[:95%]}" "${VALIDATION_SPLIT=train[95%:]}" ;;
    whynlp/*) : "${VALIDATION_SPLIT=validation}" ;;
  esac
}

# Options for files, or else for the splits of a data set.
add_data() {
  add TRAIN_FILE VALIDATION_FILE TEST_FILE SUBSET_SIZE
  if [ -z "$TRAIN_FILE" ] && [ -n "$DATASET_NAME" ]; then
    : "${DATASET_CONFIG=}" "${DATASET_SPLIT:=train}" "${VALIDATION_SPLIT=}" "${TEST_SPLIT=test}"
    add DATASET_NAME DATASET_CONFIG DATASET_SPLIT
    add_split validation "$VALIDATION_FILE" "$VALIDATION_SPLIT"
    add_split test "$TEST_FILE" "$TEST_SPLIT"
  fi
}

# add_split ROLE FILE SPLIT: a split of the data set, unless a file is named.
add_split() {
  if [ -z "$2" ] && [ -n "$3" ]; then
    OPTIONS+=("--data.$1.kind" hub "--data.$1.name" "$DATASET_NAME" "--data.$1.split" "$3")
    [ -z "$DATASET_CONFIG" ] || OPTIONS+=("--data.$1.config" "$DATASET_CONFIG")
  fi
}

# The run that the variables describe. It takes the place of this shell, so that SLURM's signals reach it: it then saves a checkpoint at
# the end of its step and exits with 128 + the signal's number.
train_once() {
  check_path OUTPUT_DIR
  OPTIONS+=(--output_dir "$OUTPUT_DIR" --resume)
  add CONFIG MODEL_NAME TEACHER_NAME
  add_data
  add STREAMING EPOCHS MAX_STEPS BATCH_SIZE LR LORA_R MAX_LENGTH TARGET_LEN NUM_ITERATIONS KV_METHOD KV_LOSS KV_WEIGHT CODI_WEIGHT
  add SEED SAVE_STEPS EVAL_STEPS LOGGING_STEPS NUM_WORKERS TORCH_DTYPE GRADIENT_CHECKPOINTING
  add_as gradient_accumulation_steps GRADIENT_ACCUMULATION
  add_as training.precision PRECISION
  add_extra
  printf 'In %s: ' "$PWD" && printf '%q ' "${LAUNCH[@]}" experiments/train_with_kv.py "${OPTIONS[@]}" && echo
  exec "${LAUNCH[@]}" experiments/train_with_kv.py "${OPTIONS[@]}"
}
