"""``kvdistill trace``: follow one batch from text to loss and gradients, one line per stage."""

import textwrap
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from kvdistill.commands.kept_line import kept_line
from kvdistill.config import RunConfig, SyntheticData, changed, load, parse
from kvdistill.console.wording import short_number
from kvdistill.evaluation.kept import kept_tokens
from kvdistill.evaluation.roles import batch_roles
from kvdistill.kv import Geometry, KVPair, LayerGeometry, LossOutput, ModelKV, TeacherCache, TwoModes
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.pipeline import Distillation, TrainingStep
from kvdistill.run.alignment import align_teachers
from kvdistill.run.gathering import SAMPLES
from kvdistill.run.samples import Samples, examples, samples_of
from kvdistill.run.step import step_model
from kvdistill.run.student import build_student
from kvdistill.run.train import to_device
from kvdistill.text import Batch, Encoded, Example, ReaderBatch

T = TypeVar("T")

TEXT_WIDTH = 88
"""Columns of a stage's text; with the stage's name and its time a line has 110 columns."""

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
"""The configuration that is traced by default: a two-layer Llama with random weights on the embedded task."""


def trace(path: str | None, overrides: list[str]) -> LossOutput:
    """Compute the loss of one training batch and its gradients, printing one line per stage.

    Args:
        path: a configuration; None takes ``PICO``.
        overrides: ``--section.option value`` pairs, as typed.

    Returns:
        The loss of the batch, after its backward pass.

    Raises:
        ValueError: as a training run with this configuration would, or if it trains no latents.
    """
    config = _config(path, overrides)
    if config.training.task != "latent":
        raise ValueError(
            f"training.task is {config.training.task!r}, so there are no latents to trace. Set "
            "--training.task latent."
        )
    torch.manual_seed(config.training.seed)
    size = config.training.batch_size
    train = config.data.train
    if isinstance(train, SyntheticData):
        train = train.model_copy(update={"num": min(train.num, size)})  # make one batch, not the data set
    found = run_stage("text", lambda: examples(train).examples[:size], _first)
    model = run_stage("model", lambda: to_device(build_student(config)), _described)
    # Only Samples.read writes to the folder; here ``usable`` encodes the examples.
    samples = samples_of(config, model, Path(config.training.output_dir))
    run_stage("capture", model.geometry, _rotations)
    step = run_stage("step", lambda: step_model(config, model), _parts)
    assert isinstance(step, Distillation)
    usable = samples.usable(found)
    _calibrate(config, step, samples)
    batch = run_stage("data", lambda: step.collate(usable).to(model.device), _lengths)
    step.on_stage = stages(time.perf_counter(), partial(_kept, step, usable, batch))
    loss = step(batch, 0, 0.0)
    step.on_stage("loss", loss)
    run_stage(
        "backward", loss.loss.backward, lambda _: f"gradients in {_with_gradient(step)} trained tensors"
    )
    return loss


def _calibrate(config: RunConfig, step: Distillation, samples: Samples) -> None:
    """Fit the teachers' adapters or projectors as before a run's first step, and print a line per teacher."""
    if not config.reads_teachers or config.bridge_method.kind == "same":
        return
    train = config.data.train
    if isinstance(train, SyntheticData):
        train = train.model_copy(update={"num": min(train.num, SAMPLES)})
    text = samples.usable(examples(train).examples[:SAMPLES])
    record = align_teachers(config, step, text, None, lambda line: None)
    if record is None:
        return  # its projector is trained, from the first step on
    for teacher in record.teachers:
        r2 = ", ".join(f"{states} {teacher.mean_r2(states):.3f}" for states in ("keys", "values"))
        told = f"{teacher.teacher}: {100 * teacher.covered:.1f} % of the tokens covered; held-out R² {r2}"
        cosine = teacher.mean_cosine()
        if cosine is not None:
            told += f"; cosine of the attention output {cosine:.3f}"
        _print("align", "; ".join([told, *teacher.steps]), teacher.seconds)


def _config(path: str | None, overrides: list[str]) -> RunConfig:
    if path is None:
        return parse(changed(PICO, overrides), "the command line")
    return load(path, overrides)


def stages(
    start: float, describe_kept: Callable[[Sequence[TeacherCache]], str] | None = None
) -> Callable[[str, object], None]:
    """A callback that prints each stage of a training step as it ends, with the time since the last one.

    Args:
        start: when the step began, by ``time.perf_counter``.
        describe_kept: describes what the compressors keep of the teachers' caches, in a line after the
            targets; None leaves it out.
    """
    last = [start]  # a list, so that the closure can update it
    caches: list[TeacherCache] = []

    def show(name: str, result: Any) -> None:
        now = time.perf_counter()
        _print(name, _STAGES[name](result), now - last[0])
        if name in ("teachers", "fused"):
            caches[:] = result
        if name == "targets" and describe_kept is not None:
            run_stage("kept", partial(describe_kept, caches), str)
        last[0] = time.perf_counter()

    return show


def run_stage(name: str, work: Callable[[], T], say: Callable[[T], str]) -> T:
    """Run one stage and print its result and its time in milliseconds.

    Args:
        name: name of the stage.
        work: what is run.
        say: describes the result in one sentence, which is wrapped where it is long.

    Returns:
        The result of ``work``.
    """
    start = time.perf_counter()
    result = work()
    _print(name, say(result), time.perf_counter() - start)
    return result


def _print(name: str, text: str, seconds: float) -> None:
    milliseconds = f"{short_number(1000 * seconds)} ms"
    first, *rest = textwrap.wrap(text, TEXT_WIDTH, break_long_words=False, break_on_hyphens=False)
    print(f"{name:<10} {first:<{TEXT_WIDTH}} {milliseconds:>10}", flush=True)
    for more in rest:
        print(f"{'':<10} {more}", flush=True)


def _first(some: list[Example]) -> str:
    return f"{len(some)} examples; the first: {_short(some[0].question)}"


def _short(text: str, width: int = 60) -> str:
    text = " ".join(text.split())
    if len(text) <= width:
        return text
    return f"{text[: width - 3]}..."


def _described(model: LatentReasoner) -> str:
    config = model.config
    count = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return (
        f"{type(model.backbone).__name__}, {count:,} weights, {trained:,} trained; {config.slots} slots, "
        f"{config.passes} passes"
    )


def _lengths(batch: Batch) -> str:
    text = f"{len(batch)} samples, padded to: {_widths(batch.teacher_mode)} tokens"
    return "; ".join((text, *(f"{name}: {_widths(read)}" for name, read in batch.teachers.items())))


def _widths(read: ReaderBatch) -> str:
    parts = {"question": read.question, "cot": read.cot, "prompt": read.prompt, "answer": read.answer}
    return ", ".join(f"{name} {part.ids.shape[1]}" for name, part in parts.items())


def _rotations(geometry: Geometry) -> str:
    kinds = set(map(_rotation, geometry.layers))
    return (
        f"{len(geometry.layers)} layers x {geometry.layers[0].heads} heads; positions: "
        f"{'; '.join(sorted(kinds))}"
    )


def _rotation(layer: LayerGeometry) -> str:
    if layer.rope is None:
        return layer.positional
    channels = 2 * layer.rope.inv_freq.shape[-1]
    return f"rotary, {layer.rope.convention}, {channels} of {layer.key_width} channels"


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


def _parts(step: TrainingStep) -> str:
    """Teachers, bridge and target; all teachers share one target method, so the first builder's is shown."""
    assert isinstance(step, Distillation)
    builder = next(iter(step.bridge.builders.values()))
    names = ", ".join(teacher.name for teacher in step.teachers)
    return (
        f"teachers: {names}; bridge: {type(step.bridge).__name__}; target: {builder.method.kind}, control "
        f"{builder.control.kind}"
    )


def _modes(outputs: TwoModes) -> str:
    return f"teacher mode {_shape(outputs.teacher.kv)}; latent slots {_shape(outputs.student.kv)}"


def _caches(caches: Sequence[TeacherCache]) -> str:
    return "; ".join(f"{cache.teacher}: {_shape(cache.kv)}" for cache in caches)


def _pairs(pairs: Sequence[KVPair]) -> str:
    return "; ".join(f"{_shape(pair.target)}, beside the student's {_shape(pair.student)}" for pair in pairs)


def _kept(
    step: Distillation, samples: Sequence[Encoded], batch: Batch, caches: Sequence[TeacherCache]
) -> str:
    """What the compressor keeps of each teacher's cache; a control's exchange of targets plays no part."""
    steps = [sample.example.steps for sample in samples]
    told = []
    for cache in caches:
        method, roles = (
            step.bridge.builders[cache.teacher].method,
            batch_roles(batch.read_by(cache.teacher), steps),
        )
        kept = kept_tokens(method.kind, method, cache.kv, roles, step.student.config.slots)
        prefix = ""
        if len(caches) > 1:
            prefix = f"{cache.teacher}: "
        told.append(prefix + kept_line(kept, method.blends_tokens))
    return "; ".join(told)


_STAGES: dict[str, Callable[[Any], str]] = {
    "student": _modes,
    "teachers": _caches,
    "fused": _caches,
    "targets": _pairs,
    "loss": _terms,
}
"""How the result of each stage of a training step is described."""


def _with_gradient(model: nn.Module) -> str:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return f"{sum(parameter.grad is not None for parameter in trained)} of {len(trained)}"
