"""Tiny training runs for the tests of runs and of the command line."""

from pathlib import Path

CHAIN = 'task = {names = 5, steps = 2, trace = "verbose"}'
TOML = f"""
[model]
tuning.kind = "full"
[model.config]
model_type = "llama"
hidden_size = 32
num_hidden_layers = 2
num_attention_heads = 2
intermediate_size = 48
max_position_embeddings = 128
[data]
train = {{kind = "synthetic", num = 24, {CHAIN}}}
validation = {{kind = "synthetic", num = 4, split = "validation", {CHAIN}}}
test = {{kind = "synthetic", num = 5, split = "test", {CHAIN}}}
[latent]
slots = 2
passes = 1
delimiters = "both"
[training]
batch_size = 8
gradient_accumulation_steps = 1
epochs = 2
lr = 1e-3
logging_steps = 1
progress = false
tensorboard = false
[evaluation]
batch_size = 4
max_new_tokens = 6
"""


def toml(folder: Path) -> Path:
    """The configuration of a tiny run as a file in ``folder``."""
    path = folder / "tiny.toml"
    path.write_text(TOML)
    return path
