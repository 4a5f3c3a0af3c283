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
from kvdistill.pipeline import Distillation, StepSettings
from kvdistill.target import LiftBridge, NoControl, SameBridge, TargetBuilder
from kvdistill.teacher import OWN, CausalLMTeacher, SelfDistillation
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


def distillation(
    model: LatentReasoner, method: Any = None, step: StepSettings | None = None, **settings: Any
) -> Distillation:
    """Self-distillation; ``settings`` are the control and the objective's."""
    builder = TargetBuilder(method or RKV(), settings.pop("control", NoControl()), SLOTS)
    teachers = [SelfDistillation(model.geometry)]
    return Distillation(model, teachers, SameBridge({OWN: builder}), Objective(**settings), step)


def lifted(
    model: LatentReasoner, method: Any = None, step: StepSettings | None = None, **settings: Any
) -> Distillation:
    """The same from a frozen teacher of five layers with other heads, through a projector."""
    config = tf.LlamaConfig(
        **DEEP, vocab_size=pico.VOCABULARY, max_position_embeddings=128, eos_token_id=2, pad_token_id=0
    )
    teacher = CausalLMTeacher(pico.from_config(config, seed=5), "deep")
    builder = TargetBuilder(method or RKV(), settings.pop("control", NoControl()), SLOTS)
    ours, theirs = model.geometry(), teacher.geometry()
    projector = Projector(ours, theirs, Ratio().pair(ours, theirs))
    bridge = LiftBridge({"teacher": builder}, {"teacher": projector})
    return Distillation(model, [teacher], bridge, Objective(**settings), step)


def on(seen: "Seen", step: Distillation) -> Distillation:
    """The step with outputs that were computed before."""
    step.student = seen  # pyright: ignore[reportAttributeAccessIssue]
    return step


def kv_gradients(loss: Tensor, kv: ModelKV) -> list[float]:
    """How strongly a loss pulls at each layer of a cache."""
    grads = torch.autograd.grad(
        loss, [layer.values for layer in kv.layers], retain_graph=True, allow_unused=True
    )
    return [0.0 if grad is None else float(grad.abs().sum()) for grad in grads]


class Seen(nn.Module):
    """A student whose output is computed once, so that gradients at its caches can be asked for."""

    def __init__(self, model: LatentReasoner, batch: Batch) -> None:
        super().__init__()
        self.two: TwoModes = model(batch)
        self.config, self.geometry = model.config, model.geometry

    def forward(self, batch: Batch, **options: Any) -> TwoModes:
        return self.two
