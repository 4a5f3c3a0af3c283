"""Evaluate a trained student on a data file, once with latent slots and once with a chain of thought.

python examples/evaluate_checkpoint.py outputs/mine/checkpoint-ep1 data/sample_train.jsonl outputs/mine_again
"""

import sys

from kvdistill import evaluate

checkpoint, data, output = sys.argv[1:]
for record in evaluate(checkpoint, data, modes="latent,cot", max_new_tokens=64, output=output):
    accuracy = f"{100 * record.accuracy:.1f} % ({100 * record.low:.1f} to {100 * record.high:.1f})"
    print(f"{record.mode}: {accuracy} of {record.num}, {record.sequential_passes_mean:.1f} passes a question")
