#!/usr/bin/env bash
#SBATCH --job-name=kvdistill
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=1-00:00:00
#SBATCH --output=logs/%x_%j.out
#SBATCH --open-mode=append
# Off; take one # away to switch on: two minutes before the time limit the run saves a checkpoint at the end of its step and ends (exit
# code 143). Submitted once more, it resumes from there.
##SBATCH --signal=B:TERM@120
# One training run on one node, on as many GPUs as the job has.
#
#   sbatch scripts/run_hpc_training.sh                                    from the project's folder
#   sbatch --gres=gpu:4 scripts/run_hpc_training.sh                       the same on four GPUs
#   KV_METHOD=full LR=2e-4 OUTPUT_DIR=outputs/full bash scripts/run_hpc_training.sh
#   CONFIG=experiments/configs/kava_llama_3.2_1b_aug.toml sbatch scripts/run_hpc_training.sh
#
# The same command once more goes on where it was cut off.

# module load python/3.11 cuda/12.6
# Nothing has to be set for paths: Python comes from .venv, which setup.sh makes, and files are named relative to the project.

CONFIG=${CONFIG:-}             # a TOML file; what is set below changes it
MODEL_NAME=${MODEL_NAME:-}     # hub name or folder; empty: Qwen/Qwen2.5-0.5B-Instruct
TEACHER_NAME=${TEACHER_NAME:-} # a separate teacher; empty: the student's own teacher mode
DATASET_NAME=${DATASET_NAME:-} # hub name or folder; empty: openai/gsm8k
# Its parts: DATASET_CONFIG, DATASET_SPLIT, VALIDATION_SPLIT, TEST_SPLIT.
TRAIN_FILE=${TRAIN_FILE:-} # data files in place of a data set
VALIDATION_FILE=${VALIDATION_FILE:-}
TEST_FILE=${TEST_FILE:-}
STREAMING=${STREAMING:-} # true: read while training; then MAX_STEPS or SUBSET_SIZE says where it ends
OUTPUT_DIR=${OUTPUT_DIR:-outputs/hpc_training}
NUM_GPUS=${NUM_GPUS:-}   # empty: all that are visible; 0: the CPU
PRECISION=${PRECISION:-} # bf16, fp16 or float32; empty: what CONFIG says, or bf16 on a GPU that has it
TORCH_DTYPE=${TORCH_DTYPE:-}
GRADIENT_CHECKPOINTING=${GRADIENT_CHECKPOINTING:-} # true saves memory

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
KV_METHOD=${KV_METHOD:-}           # rkv; full, right_crop, ...
KV_LOSS=${KV_LOSS:-}               # mse
KV_WEIGHT=${KV_WEIGHT:-}           # 1; or auto
CODI_WEIGHT=${CODI_WEIGHT:-}       # 10
SEED=${SEED:-}                     # 0
SAVE_STEPS=${SAVE_STEPS:-}         # at the end of each epoch only
EVAL_STEPS=${EVAL_STEPS:-}         # 50
LOGGING_STEPS=${LOGGING_STEPS:-}   # 10
NUM_WORKERS=${NUM_WORKERS:-}       # 0
EXTRA_ARGS=${EXTRA_ARGS:-}         # further options of experiments/train_with_kv.py

set -euo pipefail
NAME=run_hpc_training.sh
# sbatch runs a copy of this file that lies elsewhere.
for ROOT in "$(dirname "${BASH_SOURCE[0]}")/.." "${SLURM_SUBMIT_DIR:-.}"; do
  [ ! -f "$ROOT/scripts/_common.sh" ] || break
done
[ -f "$ROOT/scripts/_common.sh" ] || { echo "$NAME: submit it from the project's folder: cd PROJECT && sbatch scripts/$NAME" >&2 && exit 2; }
source "$ROOT/scripts/_common.sh"

check_counts
find_python
find_device 1
OPTIONS=()
if [ -z "$CONFIG" ]; then
  : "${MODEL_NAME:=Qwen/Qwen2.5-0.5B-Instruct}" "${BATCH_SIZE:=16}" "${EVAL_STEPS:=50}"
  device_defaults
  [ -n "$TRAIN_FILE" ] || data_defaults
fi
train_once
