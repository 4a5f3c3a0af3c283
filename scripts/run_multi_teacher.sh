#!/usr/bin/env bash
#SBATCH --job-name=multi_teacher
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=2-00:00:00
#SBATCH --output=logs/%x_%j.out
#SBATCH --open-mode=append
# Off; take one # away to switch on: two minutes before the time limit the run saves a checkpoint at the end of its step and ends (exit
# code 143). Submitted once more, it resumes from there.
##SBATCH --signal=B:TERM@120
# Training from several teachers, phase by phase: 1 one model under two prompts, 2 several chains of thought sampled from one model,
# 3 different models fused with fixed weights, 4 the same with a router. Each phase is a run of its own, OUTPUT_BASE/phaseN.
#
#   sbatch scripts/run_multi_teacher.sh                        phases 1 and 2, from the project's folder
#   PHASES="3 4" TEACHER_MODELS="Qwen/Qwen2.5-1.5B-Instruct Qwen/Qwen3-1.7B" sbatch scripts/run_multi_teacher.sh
#   PHASES="1 2" CHAIN=true bash scripts/run_multi_teacher.sh  phase 2 starts from the checkpoint that phase 1 left
#   CONFIG=experiments/configs/phase4_routing.toml PHASES=4 bash scripts/run_multi_teacher.sh     student, teachers and data of the file
#
# The same command once more goes on where it was cut off; complete phases are left alone.

# module load python/3.11 cuda/12.6
# Nothing has to be set for paths: Python comes from .venv, which setup.sh makes, and files are named relative to the project.

PHASES=${PHASES:-1 2}
STUDENT_MODEL=${STUDENT_MODEL:-}     # hub name or folder; empty: Qwen/Qwen2.5-0.5B-Instruct
TEACHER_MODELS=${TEACHER_MODELS:-}   # hub names or folders without spaces; in phases 1 and 2 the first of them, or the student before training
FUSION=${FUSION:-}                   # fixed, draw, competence, similarity or learnable; empty: fixed in phase 3, learnable in phase 4
ROUTER=${ROUTER:-}                   # mlp, gate or attention, in phase 4; empty: mlp
TEACHER_WEIGHTS=${TEACHER_WEIGHTS:-} # a number for each of TEACHER_MODELS, in phases 3 and 4; empty: 1 each
NUM_SAMPLES=${NUM_SAMPLES:-}         # chains of thought sampled for each question in phase 2; empty: 8
CHAIN=${CHAIN:-false}                # true: each phase starts from the checkpoint of the phase before it
CONFIG=${CONFIG:-}                   # a TOML file; what is set here changes it
DATASET_NAME=${DATASET_NAME:-}       # hub name or folder; empty: openai/gsm8k
# Its parts: DATASET_CONFIG, DATASET_SPLIT, VALIDATION_SPLIT, TEST_SPLIT.
TRAIN_FILE=${TRAIN_FILE:-} # data files in place of a data set
VALIDATION_FILE=${VALIDATION_FILE:-}
TEST_FILE=${TEST_FILE:-}
OUTPUT_BASE=${OUTPUT_BASE:-outputs/multi_teacher}
NUM_GPUS=${NUM_GPUS:-}   # empty: all that are visible; 0: the CPU
PRECISION=${PRECISION:-} # bf16, fp16 or float32; empty: what CONFIG says, or bf16 on a GPU that has it

# Empty: what is said behind, or what CONFIG says.
EPOCHS=${EPOCHS:-} # 10
MAX_STEPS=${MAX_STEPS:-}
BATCH_SIZE=${BATCH_SIZE:-}                       # 16 on each GPU
GRADIENT_ACCUMULATION=${GRADIENT_ACCUMULATION:-} # until 128 examples make a step
LR=${LR:-}                                       # 5e-4
LORA_R=${LORA_R:-}                               # 128; 0 trains every weight
MAX_LENGTH=${MAX_LENGTH:-}                       # 1024 tokens
SUBSET_SIZE=${SUBSET_SIZE:-}
TARGET_LEN=${TARGET_LEN:-}         # 24
NUM_ITERATIONS=${NUM_ITERATIONS:-} # 3
KV_METHOD=${KV_METHOD:-}           # step_end in phases 1 and 2, else rkv
KV_WEIGHT=${KV_WEIGHT:-}           # 1; or auto
SEED=${SEED:-}                     # 0
SAVE_STEPS=${SAVE_STEPS:-}         # at the end of each epoch only
EVAL_STEPS=${EVAL_STEPS:-}         # 50
EXTRA_ARGS=${EXTRA_ARGS:-}         # further options of experiments/train_multi_teacher_kv.py, for every phase

set -euo pipefail
NAME=run_multi_teacher.sh
# sbatch runs a copy of this file that is elsewhere.
for ROOT in "$(dirname "${BASH_SOURCE[0]}")/.." "${SLURM_SUBMIT_DIR:-.}"; do
  [ ! -f "$ROOT/scripts/_common.sh" ] || break
done
[ -f "$ROOT/scripts/_common.sh" ] || { echo "$NAME: submit it from the project's folder: cd PROJECT && sbatch scripts/$NAME" >&2 && exit 2; }
source "$ROOT/scripts/_common.sh"

check_settings() {
  local phase teachers=($TEACHER_MODELS)
  check_counts
  check_path OUTPUT_BASE
  [ -z "$NUM_SAMPLES" ] || require_count 2 NUM_SAMPLES
  case $CHAIN in true | false) ;; *) die "CHAIN is '$CHAIN': choose true or false." ;; esac
  # Phase 4 may begin days after this.
  case $FUSION in
    "" | fixed | draw | competence | similarity | learnable) ;;
    *) die "FUSION is '$FUSION': choose fixed, draw, competence, similarity or learnable." ;;
  esac
  case $ROUTER in "" | mlp | gate | attention) ;; *) die "ROUTER is '$ROUTER': choose mlp, gate or attention." ;; esac
  case $FUSION/$ROUTER in
    */ | /* | learnable/*) ;;
    *) die "ROUTER is $ROUTER, and FUSION $FUSION has no router: leave one of them out." ;;
  esac
  [ -n "${PHASES//[[:space:]]/}" ] || die "PHASES is empty: give one or more of 1 2 3 4."
  for phase in $PHASES; do
    case $phase in
      1 | 2) ;;
      3 | 4)
        [ -n "$CONFIG" ] || [ "${#teachers[@]}" -ge 2 ] ||
          die "phase $phase needs two or more teachers: name them in TEACHER_MODELS, separated by spaces."
        ;;
      *) die "PHASES: there is no phase '$phase'. Choose from 1 2 3 4." ;;
    esac
  done
}

# common_options: what all phases have in common, into COMMON.
common_options() {
  OPTIONS=()
  if [ -z "$CONFIG" ]; then
    : "${STUDENT_MODEL:=Qwen/Qwen2.5-0.5B-Instruct}" "${BATCH_SIZE:=16}" "${EVAL_STEPS:=50}"
    device_defaults
    [ -n "$TRAIN_FILE" ] || data_defaults
  fi
  add CONFIG
  add_data
  add EPOCHS MAX_STEPS BATCH_SIZE LR LORA_R MAX_LENGTH TARGET_LEN NUM_ITERATIONS KV_WEIGHT SEED SAVE_STEPS EVAL_STEPS
  add_as gradient_accumulation_steps GRADIENT_ACCUMULATION
  add_as training.precision PRECISION
  add_extra
  COMMON=("${OPTIONS[@]}")
}

# phase_options PHASE: what makes a run this phase, into OPTIONS. Models are split at spaces, paths of other settings are not.
phase_options() {
  local teachers=($TEACHER_MODELS) weights=($TEACHER_WEIGHTS)
  # Phases 1 and 2 read with one model.
  [ "$1" -ge 3 ] || teachers=("${teachers[@]:0:1}") weights=()
  OPTIONS=("${COMMON[@]}" --phase "$1" --resume --output_dir "$OUTPUT_BASE/phase$1")
  [ "${#teachers[@]}" -eq 0 ] || OPTIONS+=(--teacher_models "${teachers[@]}")
  [ "${#weights[@]}" -eq 0 ] || OPTIONS+=(--teacher_weights "${weights[@]}")
  add KV_METHOD
  [ "$1" != 2 ] || add NUM_SAMPLES
  [ "$1" != 4 ] || add_as router_type ROUTER
  [ "$1" -lt 3 ] || add_as fusion_method FUSION
}

# checkpoint_of FOLDER: the checkpoint that a complete run left.
checkpoint_of() {
  local newest
  newest=$(sed -n 's/^checkpoint: *//p' "$1/TRAINING_COMPLETED.txt" 2>/dev/null) && [ -n "$newest" ] && echo "$1/$newest"
}

# stop SIGNAL NUMBER: pass the signal on to the run, which saves a checkpoint at the end of its step.
stop() {
  trap '' INT TERM HUP USR1
  [ -z "${RUN:-}" ] || { kill -TERM "$RUN" 2>/dev/null && wait "$RUN"; } || true
  echo "Stopped by SIG$1. The same command continues from here."
  exit $((128 + $2))
}

main() {
  local phase folder begin before=$STUDENT_MODEL status
  check_settings
  find_python
  find_device 1
  common_options
  before=$STUDENT_MODEL
  trap 'stop HUP 1' HUP
  trap 'stop INT 2' INT
  trap 'stop USR1 10' USR1
  trap 'stop TERM 15' TERM
  for phase in $PHASES; do
    folder=$OUTPUT_BASE/phase$phase begin=$SECONDS status=0
    phase_options "$phase"
    [ -z "$before" ] || OPTIONS+=(--student_model "$before")
    echo "Phase $phase in $folder begins."
    printf 'In %s: ' "$PWD" && printf '%q ' "${LAUNCH[@]}" experiments/train_multi_teacher_kv.py "${OPTIONS[@]}" && echo
    "${LAUNCH[@]}" experiments/train_multi_teacher_kv.py "${OPTIONS[@]}" &
    RUN=$!
    wait "$RUN" || status=$?
    [ "$status" -eq 0 ] || { echo "Phase $phase ended with exit code $status after $((SECONDS - begin)) s." >&2 && exit "$status"; }
    echo "Phase $phase is complete ($((SECONDS - begin)) s)."
    [ "$CHAIN" = false ] || before=$(checkpoint_of "$folder") || die "$folder holds no complete run, from which the next phase starts."
  done
  echo "Took $SECONDS s."
}

main
