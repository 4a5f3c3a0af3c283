#!/usr/bin/env bash
# Checks an installation line by line: "ok", "note" (works, but know it) or "FAIL" with what to do.
# Exit status 1 where a line failed.
#
#   bash scripts/test_setup.sh
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=.venv/bin/python
FAILURES=0
export HF_HUB_OFFLINE=1

# check WHAT ADVICE COMMAND...: the last line that a failing command wrote says why.
check() {
  local what=$1 advice=$2 output
  shift 2
  if output=$("$@" 2>&1 </dev/null); then
    echo "ok    $what"
  else
    echo "FAIL  $what: $(tail -n 1 <<<"$output")"
    echo "      $advice"
    FAILURES=$((FAILURES + 1))
  fi
}

note() {
  echo "note  $1"
}

writable() {
  mkdir -p "$1" && touch "$1/.written" && rm "$1/.written"
}

PINS='
from importlib.metadata import PackageNotFoundError, version
wrong = []
for line in open("requirements.txt"):
    name, _, pin = line.split("#")[0].strip().partition("==")
    try:
        found = version(name.split("[")[0]) if name else pin
    except PackageNotFoundError:
        found = "nothing"
    if found.split("+")[0] != pin:
        wrong.append(f"{name} is {found}, not {pin}")
raise SystemExit("; ".join(wrong) or None)
'
HERE='
import kvdistill, pathlib
place = pathlib.Path(kvdistill.__file__).resolve()
raise SystemExit(None if place.is_relative_to(pathlib.Path("src").resolve()) else f"it comes from {place}")
'
BACKWARD='
import torch
device = "cuda" if torch.cuda.is_available() else "cpu"
x = torch.full((3,), 2.0, device=device, requires_grad=True)
(x ** 2).sum().backward()
assert x.grad.tolist() == [4.0, 4.0, 4.0], x.grad
'
MODEL='
import torch, transformers
config = transformers.LlamaConfig(vocab_size=11, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
logits = transformers.LlamaForCausalLM(config)(torch.arange(5)[None]).logits
assert logits.shape == (1, 5, 11) and logits.isfinite().all(), logits
'
SAMPLE='
import json
rows = [json.loads(line) for line in open("data/sample_train.jsonl", encoding="utf-8")]
assert rows and all(row["question"] and row["answer"] for row in rows), "a row lacks question or answer"
'
GPU='
import torch
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(", ".join(names) if names else f"none visible to torch {torch.__version__}: demo and tests run on CPU, training wants a GPU node")
'
HUB='
from huggingface_hub import get_token
print("logged in" if get_token() else "not logged in; gated models need: .venv/bin/hf auth login")
'
AGAIN="Run: bash setup.sh"
FRESH="Run: rm -rf .venv && bash setup.sh"

check "Python 3.11 or newer in .venv" "$AGAIN" "$PYTHON" -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else sys.version)'
check "set-up ran to its end" "$AGAIN" cat .venv/kvdistill.stamp
check "packages at their pinned versions" "$AGAIN (with KVDISTILL_TORCH set, another torch is what you asked for)" "$PYTHON" -c "$PINS"
check "packages fit each other" "$FRESH" "$PYTHON" -m pip check
check "kvdistill is the one in this folder" "$AGAIN" "$PYTHON" -c "$HERE"
check "command kvdistill" "$AGAIN" .venv/bin/kvdistill --help
check "torch computes" "$FRESH; on a GPU node compare the driver (nvidia-smi) with torch's CUDA, KVDISTILL_TORCH names another build" "$PYTHON" -c "$BACKWARD"
check "transformers runs a model" "$FRESH" "$PYTHON" -c "$MODEL"
check "outputs/ can be written" "Free space or repair the folder's rights" writable outputs
check "logs/ can be written" "Free space or repair the folder's rights" writable logs
check "data/sample_train.jsonl" "Restore it: git checkout data/sample_train.jsonl, or copy the project again" "$PYTHON" -c "$SAMPLE"
note "GPU: $("$PYTHON" -c "$GPU" 2>&1 | tail -n 1)"
note "Hugging Face: $("$PYTHON" -c "$HUB" 2>&1 | tail -n 1)"
note "free space here: $(df -Ph . | awk 'NR == 2 { print $4 }')"

if [ "$FAILURES" -gt 0 ]; then
  echo "$FAILURES of the lines above failed."
  exit 1
fi
echo "This installation works."
