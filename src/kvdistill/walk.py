"""The walk: one batch from text to loss, a line a station, on pico models or on real ones."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from kvdistill.config import RunConfig, load
from kvdistill.data import collate
from kvdistill.kv import LossOutput, ModelKV
from kvdistill.pipeline import Distillation, build_target
from kvdistill.runs import examples, read_data, step_of
from kvdistill.students import build_student

T = TypeVar("T")

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
"""What is walked where no configuration is given: a Llama of two layers with random weights, on the embedded task."""


@dataclass
class Printer:
    """Times a station and prints its line."""

    lines: list[str] = field(default_factory=list)

    def station(self, name: str, work: Callable[[], T], say: Callable[[T], str]) -> T:
        """Run a station; say what came out and how long it took."""
        start = time.perf_counter()
        result = work()
        line = f"{name:<10} {say(result):<96} {1000 * (time.perf_counter() - start):9.1f} ms"
        print(line, flush=True)
        self.lines.append(line)
        return result


def walk(path: str | None, overrides: list[str]) -> LossOutput:
    """Walk one batch of the configuration's training data to its loss and back, printing a line a station.

    Raises:
        ValueError: as a training run with this configuration would.
    """
    config = load(path, overrides) if path is not None else _pico(overrides)
    printer = Printer()
    torch.manual_seed(config.training.seed)
    found = printer.station("text", lambda: _few(config), lambda some: f"{len(some)} examples; the first: {_short(some[0].question)}")
    del found
    model = printer.station("student", lambda: build_student(config), lambda m: _described(m))
    batch = printer.station("data", lambda: collate(_encoded(config, model), _pad_id(model)).to(model.device), lambda b: _lengths(b))
    printer.station("capture", model.geometry, _rotations)
    two = printer.station(
        "latent", lambda: model(batch), lambda t: f"teacher mode {_shape(t.teacher.kv)}; latent slots {_shape(t.student.kv)}"
    )
    print(f"{'align':<10} nothing to align: teacher and student are one model")
    print(f"{'fuse':<10} nothing to fuse: one teacher")
    step = step_of(config, model)
    if not isinstance(step, Distillation):
        raise ValueError("training.task is not 'latent': there is no latent walk to show. Set --training.task latent.")
    slots = model.config.slots
    kept = printer.station(
        "compress",
        lambda: build_target(two.teacher.kv, step.target, slots, batch, 0),
        lambda b: f"{step.target.method.kind} -> {_shape(b.kv)}",
    )
    del kept
    loss = printer.station("loss", lambda: step(model, batch, 0, 0.0), _terms)
    printer.station("backward", loss.loss.backward, lambda _: f"gradients in {_with_gradient(model)} weights tensors")
    return loss


def _pico(overrides: list[str]) -> RunConfig:
    import json

    words = [word for name, value in _flat(PICO) for word in (f"--{name}", json.dumps(value))]
    return load(None, [*words, *overrides])


def _flat(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in tree.items():
        pairs += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) and name != "config" else [(f"{prefix}{name}", value)]
    return pairs


def _few(config: RunConfig) -> list[Any]:
    return examples(config.data.train)[: config.training.batch_size]


def _encoded(config: RunConfig, model: Any) -> Any:
    return read_data(config.data, config.data.train, model)[: config.training.batch_size]


def _pad_id(model: Any) -> int:
    return model.tokenizer.pad_token_id


def _short(text: str, width: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 3] + "..."


def _described(model: Any) -> str:
    config = model.config
    count = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return f"{config.backbone.model_type}, {count:,} weights, {trained:,} trained; {config.slots} slots, {config.passes} passes"


def _lengths(batch: Any) -> str:
    parts = ("question", "cot", "prompt", "answer")
    widths = ", ".join(f"{name} {getattr(batch, name).ids.shape[1]}" for name in parts)
    return f"{len(batch)} samples, padded to: {widths} tokens"


def _rotations(geometry: Any) -> str:
    kinds = {
        layer.positional
        if layer.rope is None
        else f"rotary, {layer.rope.convention}, {2 * layer.rope.inv_freq.shape[-1]} of {layer.key_width} channels"
        for layer in geometry.layers
    }
    return f"{len(geometry.layers)} layers x {geometry.layers[0].heads} heads; positions: {'; '.join(sorted(kinds))}"


def _shape(kv: ModelKV) -> str:
    layer = kv.layers[0]
    kept = layer.mask.sum(-1).float().mean()
    return f"{len(kv.layers)} layers of keys {list(layer.keys.shape)}, values {list(layer.values.shape)}, {kept:.1f} slots filled"


def _terms(loss: LossOutput) -> str:
    terms = ", ".join(f"{name} {float(value):.4f}" for name, value in loss.metrics.items())
    return f"{float(loss.loss.detach()):.4f} = {terms}"


def _with_gradient(model: Any) -> str:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return f"{sum(parameter.grad is not None for parameter in trained)} of {len(trained)}"
