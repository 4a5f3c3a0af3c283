#!/usr/bin/env bash
# What only a GPU can show, in at most ten minutes: bf16 against float32, attention backends, FSDP2, a training
# step at 0.1 and 1 B parameters, R-KV. Prints a table and writes benchmarks/results/gpu.json.
#
#   bash scripts/gpu_check.sh             # on a machine with a GPU
#   bash scripts/gpu_check.sh --small     # reduced, on the CPU
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-.venv/bin/python}
if ! [ -x "$PYTHON" ]; then
  echo "There is no $PYTHON: run bash setup.sh, or set PYTHON to an interpreter that has kvdistill." >&2
  exit 1
fi
exec "$PYTHON" benchmarks/gpu_check.py "$@"
