#!/usr/bin/env bash
#SBATCH --job-name=kvdistill_large
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gres=gpu:8
#SBATCH --cpus-per-task=64
#SBATCH --mem=512G
#SBATCH --time=3-00:00:00
#SBATCH --output=logs/%x_%j.out
#SBATCH --open-mode=append
# Off; take one # away to switch on. --requeue: SLURM starts the job again after a preemption or the failure of a node, and the run resumes
# from its newest checkpoint. --signal: two minutes before the time limit the run is told to save a checkpoint at the end of its step and to
# end (exit code 143; a step has to be shorter than that). SLURM does not start it again then: submit the same command once more.
##SBATCH --requeue
##SBATCH --signal=B:TERM@120
# A large model on eight GPUs of one node: adapters, bfloat16, gradient checkpointing, data read while training.
#
#   sbatch scripts/run_ultra_large.sh                      from the project's folder
#   MODEL_NAME=Qwen/Qwen3-8B MAX_STEPS=6000 sbatch scripts/run_ultra_large.sh
#
# The same command once more goes on where it was cut off. At most SAVE_STEPS steps are lost.

# module load python/3.11 cuda/12.6
# Nothing has to be set for paths: Python comes from .venv, which setup.sh makes, and files are named relative to the project.

MODEL_NAME=${MODEL_NAME:-Qwen/Qwen2.5-7B-Instruct} # hub name or folder
DATASET_NAME=${DATASET_NAME:-whynlp/gsm8k-aug}     # hub name or folder
# Its parts: DATASET_CONFIG, DATASET_SPLIT, VALIDATION_SPLIT, TEST_SPLIT.
TRAIN_FILE=${TRAIN_FILE:-} # data files in place of a data set, also by a pattern: 'data/part-*.jsonl'
VALIDATION_FILE=${VALIDATION_FILE:-}
TEST_FILE=${TEST_FILE:-}
STREAMING=${STREAMING:-true}
OUTPUT_DIR=${OUTPUT_DIR:-outputs/ultra_large}
NUM_GPUS=${NUM_GPUS:-} # empty: all that are visible; 0: the CPU
PRECISION=${PRECISION:-bf16}
TORCH_DTYPE=${TORCH_DTYPE:-bfloat16}
GRADIENT_CHECKPOINTING=${GRADIENT_CHECKPOINTING:-true}
MAX_STEPS=${MAX_STEPS:-3000}
BATCH_SIZE=${BATCH_SIZE:-4}                      # on each GPU
GRADIENT_ACCUMULATION=${GRADIENT_ACCUMULATION:-} # empty: until 128 examples make a step
LR=${LR:-2e-4}
LORA_R=${LORA_R:-128}
MAX_LENGTH=${MAX_LENGTH:-1024}
TARGET_LEN=${TARGET_LEN:-24}
NUM_ITERATIONS=${NUM_ITERATIONS:-3}
KV_METHOD=${KV_METHOD:-rkv}
KV_WEIGHT=${KV_WEIGHT:-1}
SEED=${SEED:-0}
SAVE_STEPS=${SAVE_STEPS:-100}
SAVE_TOTAL_LIMIT=${SAVE_TOTAL_LIMIT:-3} # checkpoints that are kept
EVAL_STEPS=${EVAL_STEPS:-250}
EXTRA_ARGS=${EXTRA_ARGS:-} # further options of experiments/train_with_kv.py

set -euo pipefail
NAME=run_ultra_large.sh
# sbatch runs a copy of this file that lies elsewhere.
for ROOT in "$(dirname "${BASH_SOURCE[0]}")/.." "${SLURM_SUBMIT_DIR:-.}"; do
  [ ! -f "$ROOT/scripts/_common.sh" ] || break
done
[ -f "$ROOT/scripts/_common.sh" ] || { echo "$NAME: submit it from the project's folder: cd PROJECT && sbatch scripts/$NAME" >&2 && exit 2; }
source "$ROOT/scripts/_common.sh"

check_counts
find_python
find_device 1
device_defaults
[ -n "$TRAIN_FILE" ] || data_defaults
OPTIONS=(--training.save_total_limit "$SAVE_TOTAL_LIMIT")
train_once
