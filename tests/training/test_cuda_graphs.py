"""Replayed steps against computed ones; on a CPU a recorder that runs the work again stands for a graph.

That a step can be recorded at all is shown on tensors without values (device ``meta``), from which nothing
can be read back.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import pico
import pico_routing
import pico_steps
from kvdistill.data.pad_to_multiple import pad_to_multiple
from kvdistill.kv import LossOutput
from kvdistill.text import Batch
from kvdistill.training import cuda_graphs
from kvdistill.training.cuda_graphs import StepGraphs
from pico_teachers import save_teachers

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def again(work: Callable[[], None]) -> Callable[[], None]:
    """A recorder whose graph runs the work again, after a first run as the real one needs it."""
    work()
    return work


@contextmanager
def unreadable() -> Iterator[None]:
    """Steps compute as in a graph: nothing is read back."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("capture.sequence", "compress.base", "compress.rkv", "align.heads", "fuse.fuse_kv"):
            patch.setattr(f"kvdistill.{module}.host_reads", lambda values: False)
        yield


def batches() -> list[Batch]:
    """Three batches of one shape."""
    rows = pico_steps.rows(6)
    return [pad_to_multiple(pico.batch(rows[i : i + 3]), 16) for i in (0, 3, 0)]


def gradients(step: nn.Module, compute: Callable[..., LossOutput], batch: Batch) -> dict[str, Tensor]:
    """Loss and gradients of two equal micro-batches of weight 1/4."""
    step.zero_grad()
    outputs = [compute(batch, 0, 1.0), compute(batch, 0, 1.0)]
    for output in outputs:
        (output.loss * 0.25).backward()
    found = {name: p.grad.clone() for name, p in step.named_parameters() if p.grad is not None}
    return found | {"loss": outputs[1].loss.detach(), **outputs[1].metrics}


def test_replayed_steps_have_the_losses_and_gradients_of_computed_ones() -> None:
    """The batch of the call counts and not the recorded one, and micro-batches add up."""
    step = pico_steps.distillation(pico_steps.student().double()).train()
    first, second, third = batches()
    expected = [gradients(step, step, batch) for batch in (first, second, third)]
    assert not torch.equal(expected[0]["loss"], expected[1]["loss"])
    graphs = StepGraphs(step, record=again)
    with unreadable():
        found = [gradients(step, graphs, batch) for batch in (first, second, third)]
    assert [graph is not None for graph in graphs.graphs.values()] == [True]
    for one, other in zip(found, expected, strict=True):
        for name in other.keys() - {"importance_min", "distinctness_min"}:
            torch.testing.assert_close(one[name], other[name], rtol=1e-6, atol=1e-9, msg=name)


def test_results_are_not_written_over_by_the_next_replay() -> None:
    step = pico_steps.distillation(pico_steps.student()).train()
    graphs = StepGraphs(step, record=again)
    first, second, _ = batches()
    graphs(first, 0, 1.0)
    kept = graphs(second, 0, 1.0)
    values = {name: float(value) for name, value in kept.metrics.items()} | {
        "loss": float(kept.loss.detach())
    }
    kept.loss.backward()
    gradient = next(p.grad for p in step.parameters() if p.grad is not None)
    before = gradient.clone()
    graphs(first, 0, 1.0)
    assert values == {name: float(value) for name, value in kept.metrics.items()} | {
        "loss": float(kept.loss.detach())
    }
    assert torch.equal(gradient, before)


def test_what_is_computed_without_a_graph() -> None:
    """The first batch of a shape, evaluation, steps before ``begin``, and shapes beyond the limit."""
    step = pico_steps.distillation(pico_steps.student()).train()
    graphs = StepGraphs(step, begin=0.5, record=again)
    batch = batches()[0]
    graphs(batch, 0, 0.4)
    assert not graphs.graphs
    with torch.no_grad():
        graphs(batch, 0, 1.0)
    step.eval()
    graphs(batch, 0, 1.0)
    assert not graphs.graphs
    step.train()
    graphs(batch, 0, 0.5)
    assert list(graphs.graphs.values()) == [None]
    graphs(batch, 0, 0.5)
    assert None not in graphs.graphs.values()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_graphs, "MOST", 1)
        for _ in range(3):
            graphs(pad_to_multiple(batch, 64), 0, 1.0)
    assert len(graphs.graphs) == 1


def test_a_step_whose_weight_is_not_found_yet_is_not_recorded() -> None:
    step = pico_steps.distillation(pico_steps.student(), kv_weight="auto").train()
    graphs, batch = StepGraphs(step, record=again), batches()[0]
    graphs(batch, 0, 1.0)
    assert step.prepared and not graphs.graphs
    graphs(batch, 0, 1.0)
    found = graphs(batch, 0, 1.0).metrics
    assert float(found["kv_weight"]) == pytest.approx(step.auto_weight)


def test_a_step_that_cannot_be_recorded_names_the_option() -> None:
    def fails(work: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing")

    step = pico_steps.distillation(pico_steps.student()).train()
    graphs = StepGraphs(step, record=fails)
    graphs(batches()[0], 0, 1.0)
    with pytest.raises(ValueError, match="training.cuda_graphs: this step cannot be .*not permitted"):
        graphs(batches()[0], 0, 1.0)


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, Any]], tuple[Any, Batch]]:
    """A step with two unlike teachers and a fusion, and a batch."""
    folder = tmp_path_factory.mktemp("routed")
    models: dict[str, Path] = save_teachers(folder / "models")
    pico_routing.save_table(folder)

    def make(fusion: dict[str, Any], **sections: Any) -> tuple[Any, Batch]:
        step, samples = pico_routing.prepared(pico_routing.config_of(models, folder, fusion, **sections))
        return step.train(), step.collate(samples[:4])

    return make


def test_recording_does_not_count_in_running_statistics(routed: Callable[..., tuple[Any, Batch]]) -> None:
    """Three steps of one batch leave the router's statistics where three computed steps leave them."""
    found = []
    for graphed in (False, True):
        step, batch = routed({"kind": "learnable", "query": "current"})
        compute = StepGraphs(step, record=again) if graphed else step
        before = [buffer.clone() for buffer in step.buffers()]
        for _ in range(3):
            compute(batch, 0, 1.0)
        assert any(not torch.equal(*pair) for pair in zip(before, step.buffers(), strict=True))
        found.append([buffer.clone() for buffer in step.buffers()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


class NoHost(TorchDispatchMode):
    """Refuses operations on tensors of the host that have more than one value, and copies from it."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        tensors = [each for each in tree_leaves((args, kwargs, found)) if isinstance(each, Tensor)]
        if any(not each.is_meta and each.ndim > 0 for each in tensors):
            raise AssertionError(f"{func.name()} works on the host")
        return found


def refused(*args: Any, **options: Any) -> Tensor:
    raise AssertionError("a tensor is made from numbers of the host")


def without_lists(access: Callable[..., Any]) -> Callable[..., Any]:
    """Indexing that refuses lists of numbers, which would be copied to the device too."""

    def checked(tensor: Tensor, index: Any, *value: Any) -> Any:
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, list) for part in parts):
            raise AssertionError("a tensor is indexed with a list of numbers of the host")
        return access(tensor, index, *value)

    return checked


def without_values(step: Any, batch: Batch) -> LossOutput:
    """The loss of a step whose tensors have no values: it fails where one is read."""
    step(batch, 0, 1.0)  # geometries are measured with values
    step.to("meta")
    for teacher in step.teachers:
        if hasattr(teacher, "model"):
            teacher.model.to("meta")
    if step.start is not None:
        step.start.model.to("meta")
    moved = batch.to("meta")
    with pytest.MonkeyPatch.context() as patch, NoHost():
        patch.setattr(torch, "autocast", lambda *args, **options: nullcontext())  # not known for ``meta``
        # Numbers of the host would be copied to the device, unseen on ``meta``.
        patch.setattr(torch, "tensor", refused)
        for name in ("__getitem__", "__setitem__"):
            patch.setattr(Tensor, name, without_lists(getattr(Tensor, name)))
        output = step(moved, 0, 1.0)
        output.loss.backward()
    return output


def test_self_distillation_reads_nothing_back() -> None:
    step = pico_steps.distillation(pico_steps.student()).train()
    assert without_values(step, pico.batch(pico_steps.rows())).loss.is_meta
    with pytest.raises(RuntimeError):
        torch.zeros(1, device="meta").nonzero()  # as every reading of values does


OTHER_TEXT = {
    "target": {"method": {"kind": "step_end"}},
    "bridge": {"kind": "lower", "order": "compress_first"},
}
FUSIONS = (
    {"kind": "fixed"},
    {"kind": "competence"},
    {"kind": "learnable"},
    {"kind": "learnable", "query": "current", "router": {"kind": "attention"}},
    {"kind": "similarity"},
)


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda fusion: fusion["kind"])
def test_several_teachers_read_nothing_back(
    fusion: dict[str, Any], routed: Callable[..., tuple[Any, Batch]]
) -> None:
    for sections in ({}, OTHER_TEXT):
        step, batch = routed(fusion, **sections)
        assert without_values(step, batch).loss.is_meta


@GPU
def test_on_a_gpu() -> None:
    """Recorded in bf16 autocast: the weights of later steps count, and losses equal those computed."""
    step = pico_steps.distillation(pico_steps.student()).to("cuda").train()
    graphs = StepGraphs(step)
    optimizer = torch.optim.SGD(step.parameters(), lr=0.1)
    for batch in batches() * 2:
        moved = batch.to("cuda")
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
            expected = float(step(moved, 0, 1.0).loss)
        with torch.autocast("cuda", torch.bfloat16):
            output = graphs(moved, 0, 1.0)
        assert float(output.loss.detach()) == pytest.approx(expected, rel=2e-2)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
