"""Steps of training on pico students, alone or beside a larger teacher."""

from typing import Any

import torch
import transformers as tf
from torch import Tensor, nn

import pico
from kvdistill.align import Projector, Ratio
from kvdistill.compress import RKV
from kvdistill.kv import ModelKV, TwoModes
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.losses import Objective
from kvdistill.pipeline import Distillation, OutsideTeacher, Target
from kvdistill.target import NoControl
from kvdistill.teacher import FrozenTeacher
from kvdistill.text import Batch

SLOTS = 4
DEEP = {
    "hidden_size": 48,
    "num_hidden_layers": 5,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "intermediate_size": 48,
}


def student(name: str = "llama", **settings: Any) -> LatentReasoner:
    return pico.reasoner(name, **{"slots": SLOTS, "passes": 2} | settings)


def rows(num: int = 3) -> tuple[dict[str, tuple[int, ...]], ...]:
    """Samples with cues of unlike lengths."""
    cues = [((7,), (8, 9)), ((), (8,)), ((5, 6, 7), ())]
    return tuple(
        row | {"cue": cues[i % 3][0], "student_cue": cues[i % 3][1]}
        for i, row in enumerate(pico.samples(num))
    )


def distillation(model: LatentReasoner, method: Any = None, **settings: Any) -> Distillation:
    target = Target(
        method=method or RKV(),
        control=settings.pop("control", NoControl()),
        anneal_layers=settings.pop("anneal_layers", 0.0),
    )
    return Distillation(
        target, Objective(**settings), SLOTS, model.geometry, model.config.delimiters == "both"
    )


def kv_gradients(loss: Tensor, kv: ModelKV) -> list[float]:
    """How strongly a loss pulls at each layer of a cache."""
    grads = torch.autograd.grad(
        loss, [layer.values for layer in kv.layers], retain_graph=True, allow_unused=True
    )
    return [0.0 if grad is None else float(grad.abs().sum()) for grad in grads]


class Seen(nn.Module):
    """A model whose output is computed once, so that gradients at its caches can be asked for."""

    def __init__(self, model: LatentReasoner, batch: Batch) -> None:
        super().__init__()
        self.two: TwoModes = model(batch)

    def forward(self, batch: Batch) -> TwoModes:
        return self.two


def outside_of(model: LatentReasoner) -> OutsideTeacher:
    """A frozen teacher of five layers with other heads, whose projector the student carries from now on."""
    config = tf.LlamaConfig(
        **DEEP, vocab_size=pico.VOCABULARY, max_position_embeddings=128, eos_token_id=2, pad_token_id=0
    )
    teacher = FrozenTeacher(pico.from_config(config, seed=5), "deep")
    ours, theirs = model.geometry(), teacher.geometry()
    model.projector = Projector(ours, theirs, Ratio().pair(ours, theirs))
    return OutsideTeacher(teacher, model.projector)
