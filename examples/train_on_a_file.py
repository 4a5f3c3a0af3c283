"""Train a latent student on a file of questions, reasoning steps and answers, and ask it a question.

    python examples/train_on_a_file.py Qwen/Qwen2.5-0.5B-Instruct data/sample_train.jsonl outputs/mine

Each line of the file is a JSON object: {"question": "...", "steps": ["...", "..."], "answer": "..."}.
"""

import sys

from kvdistill import load_config, train

name, data, output = sys.argv[1:]
options = {
    "model.name": name,
    "model.tuning.kind": "full",
    "data.train.kind": "file",
    "data.train.path": data,
    "latent.slots": "6",
    "latent.passes": "2",
    "training.epochs": "1",
    "training.output_dir": output,
}
words = [word for option, value in options.items() for word in (f"--{option}", value)]
run = train(load_config(None, words))
print(f"Checkpoints and report: {run.folder}")
if run.model is not None:
    print(run.model.answer(["Ann has 3 apples and buys 4 more. How many apples does Ann have?"]))
