"""CUDA graphs of a training step: forward and backward pass, recorded once for each shape of a batch.

On a GPU a step of many small kernels waits for the host that launches them one by one; a graph launches all
of them at once. Batches have to come in few shapes (``training.pad_to_multiple_of``).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from kvdistill.kv import LossOutput
from kvdistill.text import Batch
from kvdistill.training_step import TrainingStep

MOST = 64
"""Graphs that are kept; batches of further shapes are computed without one."""
Work = Callable[[], None]
Record = Callable[[Work], Work]


class StepGraphs:
    """The forward pass of a training step, from CUDA graphs.

    The first batch of a shape is computed as always, the second is recorded, and from then on the graph is
    replayed. Gradients are computed in the graph, too: the loss hands them on in its backward pass, which has
    to run before the next batch. Checks that read values on the host are left out in a graph; a loss that is
    not finite is still noticed.

    Args:
        step: The training step. Equal batches must have equal losses, whatever the number of the step is.
        begin: Progress, 0 to 1, up to which the step depends on progress and is computed without graphs.
        record: Records a function's kernels and returns what replays them.

    Source: ours; CUDA graphs, https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs.
    """

    def __init__(self, step: TrainingStep, begin: float = 0.0, record: Record | None = None) -> None:
        self.step, self.begin = step, begin
        self.forward: Callable[..., LossOutput] = step.forward
        self.record = record or CudaRecorder()
        self.graphs: dict[tuple[Any, ...], StepGraph | None] = {}
        """By shape of the batch; None for a shape that has come once."""
        self.gradients: dict[str, Tensor] = {}
        """Gradients of the last replay; shared by all graphs, which run one after the other."""

    def __call__(self, batch: Batch, step: int, progress: float) -> LossOutput:
        """The loss of a batch, as the step itself computes it.

        Raises:
            ValueError: if the step cannot be recorded.
        """
        usable = self.step.training and torch.is_grad_enabled() and progress >= self.begin
        if not (usable and self.step.prepared):
            return self.forward(batch, step, progress)
        shape = tuple((tensor.shape, tensor.dtype) for tensor in batch.tensors())
        if shape not in self.graphs:
            if len(self.graphs) < MOST:
                self.graphs[shape] = None
            return self.forward(batch, step, progress)
        graph = self.graphs[shape]
        if graph is None:
            graph = StepGraph(self, batch)
            self.graphs[shape] = graph
        return graph(batch)


class StepGraph:
    """Forward and backward pass of a step for batches of one shape.

    Args:
        graphs: The step, what records, and the gradients that all graphs share.
        batch: A batch of that shape.
    """

    def __init__(self, graphs: StepGraphs, batch: Batch) -> None:
        self.forward, self.gradients = graphs.forward, graphs.gradients
        self.inputs = batch.map(torch.clone)
        trained = {name: each for name, each in graphs.step.named_parameters() if each.requires_grad}
        self.parameters = tuple(trained.values())
        self.names = tuple(trained)
        self.used: tuple[str, ...] = ()
        self.loss, self.metrics = torch.empty(()), {}
        with torch.random.fork_rng(_devices(batch)), _buffers_restored(graphs.step):
            try:
                self.replay = graphs.record(self._work)
            except RuntimeError as error:
                raise ValueError(
                    f"training.cuda_graphs: this step cannot be recorded as a CUDA graph ({error}). Set "
                    "training.cuda_graphs to false."
                ) from error

    def _work(self) -> None:
        """What is recorded: results and gradients go to tensors that stay where they are."""
        output = self.forward(self.inputs, 0, 1.0)
        found = torch.autograd.grad(output.loss, self.parameters, allow_unused=True)
        pairs = {name: each for name, each in zip(self.names, found, strict=True) if each is not None}
        for name, gradient in pairs.items():
            if name not in self.gradients:
                self.gradients[name] = torch.empty_like(gradient)
            self.gradients[name].copy_(gradient)
        self.used = tuple(pairs)
        # Detached: an autograd graph that is kept alive would be one of the recording's stream.
        self.loss = output.loss.detach()
        self.metrics = {name: value.detach() for name, value in output.metrics.items()}

    def __call__(self, batch: Batch) -> LossOutput:
        """The loss of another batch of the same shape."""
        for held, new in zip(self.inputs.tensors(), batch.tensors(), strict=True):
            held.copy_(new)
        self.replay()
        loss: Tensor = _KnownGradients.apply(self, *self.parameters)  # pyright: ignore[reportAssignmentType]
        # Copies: the next replay writes over the graph's own tensors.
        return LossOutput(loss, {name: value.clone() for name, value in self.metrics.items()})


class _KnownGradients(torch.autograd.Function):
    """The loss of a replayed graph, which has computed the gradients already."""

    @staticmethod
    def forward(ctx: Any, graph: StepGraph, *parameters: Tensor) -> Tensor:
        ctx.graph = graph
        return graph.loss.clone()

    @staticmethod
    def backward(ctx: Any, *scale: Tensor) -> tuple[Tensor | None, ...]:
        graph: StepGraph = ctx.graph
        # Products are new tensors, so that no parameter's ``grad`` is one that the next replay writes over.
        gradients = [graph.gradients[name] for name in graph.used]
        scaled = torch._foreach_mul(gradients, scale[0])  # pyright: ignore[reportPrivateImportUsage]
        found = dict(zip(graph.used, scaled, strict=True))
        return (None, *(found.get(name) for name in graph.names))


class CudaRecorder:
    """Records CUDA graphs that share one memory pool."""

    def __init__(self) -> None:
        self.pool: Any = torch.cuda.graph_pool_handle()

    def __call__(self, work: Work) -> Work:
        """Run the work once, then record it.

        Args:
            work: Launches kernels and reads nothing back; results are in tensors that it keeps.

        Returns:
            A function that launches the same kernels on the same memory.
        """
        # Libraries allocate and choose kernels in the first call, which a graph cannot hold.
        stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            work()
        current.wait_stream(stream)
        # Weights that autocast has cast before are not those of later steps: the graph casts its own.
        torch.clear_autocast_cache()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            work()
        torch.clear_autocast_cache()
        return graph.replay


def _devices(batch: Batch) -> list[torch.device]:
    device = batch.cot_id.device
    return [device] if device.type == "cuda" else []


@contextmanager
def _buffers_restored(module: nn.Module) -> Iterator[None]:
    """Buffers are afterwards what they were: running statistics must not count what is only recorded."""
    buffers = list(module.buffers())
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
