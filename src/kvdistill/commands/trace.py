"""The walk: one batch from text to loss, a line a station, on pico models or on real ones."""

import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from kvdistill.config import SyntheticData, changed, load, parse
from kvdistill.console.wording import short_number
from kvdistill.data import collate
from kvdistill.kv import Geometry, LossOutput, ModelKV
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.pipeline import Built, Distillation, build_target
from kvdistill.run.samples import Samples, examples
from kvdistill.run.student import build_student
from kvdistill.run.train import pad_id, step_of, to_device
from kvdistill.text import Batch, Example

T = TypeVar("T")

TEXT_WIDTH = 88
"""Of what a station prints: with its name and its time a line has 110 columns."""

PICO: dict[str, Any] = {
    "model": {
        "config": {
            "model_type": "llama",
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 128,
            "max_position_embeddings": 128,
        },
        "tuning": {"kind": "full"},
    },
    "data": {"train": {"kind": "synthetic", "task": {"kind": "chain", "trace": "verbose"}, "num": 8}},
    "latent": {"slots": 4, "passes": 2, "delimiters": "both"},
    "target": {"method": {"kind": "rkv"}},
    "training": {"batch_size": 8},
}
"""What is walked where no configuration is given: a Llama of two layers with random weights, on the embedded
task.
"""


def walk(path: str | None, overrides: list[str]) -> LossOutput:
    """Walk one batch of the configuration's training data to its loss and back, printing a line a station.

    Raises:
        ValueError: as a training run with this configuration would, or if it trains no latents.
    """
    config = parse(changed(PICO, overrides), "the command line") if path is None else load(path, overrides)
    if config.training.task != "latent":
        raise ValueError(
            f"training.task is {config.training.task!r}, so there is no latent walk to show. Set "
            "--training.task latent."
        )
    torch.manual_seed(config.training.seed)
    size = config.training.batch_size
    train = config.data.train
    if isinstance(train, SyntheticData):
        train = train.model_copy(update={"num": min(train.num, size)})  # no more is made than is walked
    found = station("text", lambda: examples(train).examples[:size], _first)
    model = station("student", lambda: to_device(build_student(config)), _described)
    samples = Samples(
        config.data, model, Path(config.training.output_dir)
    )  # writes nothing there: that is for what reads data sets
    batch = station("data", lambda: collate(samples.usable(found), pad_id(model)).to(model.device), _lengths)
    station("capture", model.geometry, _rotations)
    two = station(
        "latent",
        lambda: model(batch),
        lambda t: f"teacher mode {_shape(t.teacher.kv)}; latent slots {_shape(t.student.kv)}",
    )
    step = step_of(config, model)
    assert isinstance(step, Distillation)
    outside = step.outside
    if outside is None:
        print(f"{'align':<10} nothing to align: teacher and student are one model")
        teacher = two.teacher.kv
    else:
        teacher = station(
            "teacher", lambda: outside.teacher.read(batch), lambda kv: f"{outside.teacher.name}: {_shape(kv)}"
        )
        station(
            "align",
            lambda: outside.projector.move(two.student.kv),
            lambda kv: f"the latent slots lifted to {_shape(kv)}",
        )
    print(f"{'fuse':<10} nothing to fuse: one teacher")

    def compressed() -> Built:
        return build_target(teacher, step.target, step.slots, batch.chain, 0)

    station(
        "compress",
        compressed,
        lambda built: f"{step.target.method.kind}, control {step.target.control.kind} -> {_shape(built.kv)}",
    )
    loss = station("loss", lambda: step(model, batch, 0, 0.0), _terms)
    station("backward", loss.loss.backward, lambda _: f"gradients in {_with_gradient(model)} trained tensors")
    return loss


def station(name: str, work: Callable[[], T], say: Callable[[T], str]) -> T:
    """Run a station; print what came out, on as many lines as it takes, and how long it took."""
    start = time.perf_counter()
    result = work()
    milliseconds = f"{short_number(1000 * (time.perf_counter() - start))} ms"
    first, *rest = textwrap.wrap(say(result), TEXT_WIDTH, break_long_words=False, break_on_hyphens=False)
    print(f"{name:<10} {first:<{TEXT_WIDTH}} {milliseconds:>10}", flush=True)
    for more in rest:
        print(f"{'':<10} {more}", flush=True)
    return result


def _first(some: list[Example]) -> str:
    return f"{len(some)} examples; the first: {_short(some[0].question)}"


def _short(text: str, width: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 3] + "..."


def _described(model: LatentReasoner) -> str:
    config = model.config
    count = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return (
        f"{type(model.backbone).__name__}, {count:,} weights, {trained:,} trained; {config.slots} slots, "
        f"{config.passes} passes"
    )


def _lengths(batch: Batch) -> str:
    parts = ("question", "cot", "prompt", "answer")
    widths = ", ".join(f"{name} {getattr(batch, name).ids.shape[1]}" for name in parts)
    return f"{len(batch)} samples, padded to: {widths} tokens"


def _rotations(geometry: Geometry) -> str:
    kinds = {
        layer.positional
        if layer.rope is None
        else f"rotary, {layer.rope.convention}, {2 * layer.rope.inv_freq.shape[-1]} of {layer.key_width} "
        "channels"
        for layer in geometry.layers
    }
    return (
        f"{len(geometry.layers)} layers x {geometry.layers[0].heads} heads; positions: "
        f"{'; '.join(sorted(kinds))}"
    )


def _shape(kv: ModelKV) -> str:
    layer = kv.layers[0]
    kept = layer.mask.sum(-1).float().mean()
    return (
        f"{len(kv.layers)} layers of keys {list(layer.keys.shape)}, values {list(layer.values.shape)}, "
        f"{kept:.1f} slots filled"
    )


def _terms(loss: LossOutput) -> str:
    terms = ", ".join(f"{name} {float(value):.4f}" for name, value in loss.metrics.items())
    return f"{float(loss.loss.detach()):.4f} = {terms}"


def _with_gradient(model: LatentReasoner) -> str:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return f"{sum(parameter.grad is not None for parameter in trained)} of {len(trained)}"
