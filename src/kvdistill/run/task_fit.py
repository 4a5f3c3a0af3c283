"""Task calibration: adapters trained by the cross-entropy of the answer, with the student frozen."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kvdistill.align.calibration import part_of
from kvdistill.evaluation.log_probability import answer_sums
from kvdistill.evaluation.utility import TargetOf
from kvdistill.latent.given_slots import rows_behind_slots
from kvdistill.pipeline import Distillation
from kvdistill.records.calibration import TaskFitRecord
from kvdistill.run.gathering import chunks
from kvdistill.target.lower import LowerBridge
from kvdistill.target.methods import TaskCalibration
from kvdistill.text import Encoded
from kvdistill.training.ranks import Ranks

EVERY = 5
"""Steps between two measurements on held-out samples."""
PATIENCE = 4
"""Measurements without a likelier answer after which training ends."""


class TaskFit:
    """Trains the fitted adapters of a ``LowerBridge`` in place, from ridge regression on.

    The fused and compressed target takes the place of the student's latent slots, and the right answer is
    read behind it. The student is neither trained nor changed. The samples of a step are divided among the
    processes and their gradients are summed, so that the result does not depend on the number of processes.

    Args:
        step: The training step in evaluation mode, with ridge adapters; its bridge is a ``LowerBridge``.
        target_of: From a batch to its target, M slots, in the graph of the adapters.
        settings: Steps, learning rate and batch size.
        ranks: The processes of the run.

    Source: ours.
    """

    def __init__(
        self, step: Distillation, target_of: TargetOf, settings: TaskCalibration, ranks: Ranks
    ) -> None:
        assert isinstance(step.bridge, LowerBridge)
        self.step, self.bridge = step, step.bridge
        self.target_of, self.settings, self.ranks = target_of, settings, ranks
        self.teachers = [name for name in self.bridge.aligners if self._is_fitted(name)]
        modules = nn.ModuleList(self.bridge.aligner(name).adapter for name in self.teachers)
        self.parameters = list(modules.parameters())

    def run(self, samples: Sequence[Encoded]) -> TaskFitRecord:
        """Train the adapters on one part of the samples, and keep the best on another.

        Args:
            samples: All calibration samples, in an order that is the same in every process.

        Returns:
            The steps taken and kept; the adapters are those of the step that is kept, and need a gradient
            only where their method is trained along with the student.
        """
        fit = [sample for sample in samples if part_of(sample.sample_id) == "fit"]
        choose = [sample for sample in samples if part_of(sample.sample_id) == "choose"]
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        try:
            return self._train(fit, choose)
        finally:
            for name in self.teachers:
                adapter = self.bridge.aligner(name).adapter
                adapter.requires_grad_(adapter.method.learns)

    def _is_fitted(self, name: str) -> bool:
        """Whether a teacher's adapter starts from ridge regression."""
        return bool(self.bridge.aligner(name).adapter.method.penalty_grid())

    def _train(self, fit: Sequence[Encoded], choose: Sequence[Encoded]) -> TaskFitRecord:
        optimizer = torch.optim.Adam(self._groups())
        measured = [(0, self._held_out(choose))]
        kept, best, weights = 0, measured[0][1], self._weights()
        for number in range(1, self.settings.steps + 1):
            self._update(optimizer, self._batch_of(fit, number - 1))
            if number % EVERY and number != self.settings.steps:
                continue
            measured.append((number, self._held_out(choose)))
            # Not a number is never greater, so a fit that diverges keeps what it had.
            if measured[-1][1] > best:
                kept, best, weights = number, measured[-1][1], self._weights()
            if number - kept >= EVERY * PATIENCE:
                break
        with torch.no_grad():
            for parameter, weight in zip(self.parameters, weights, strict=True):
                parameter.copy_(weight)
        pairs = [list(map(float, pair)) for pair in measured]
        return TaskFitRecord(teachers=self.teachers, steps=measured[-1][0], kept=kept, held_out=pairs)

    def _groups(self) -> list[dict[str, object]]:
        """One group per tensor: a teacher's cache may have any scale, and its map the inverse of it."""
        groups = []
        for parameter in self.parameters:
            size = float(parameter.detach().square().mean().sqrt())
            groups.append({"params": [parameter], "lr": self.settings.learning_rate * size})
        return groups

    def _weights(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.parameters]

    def _batch_of(self, samples: Sequence[Encoded], number: int) -> list[Encoded]:
        """The samples of a step over all processes: the next ones, around again after the last."""
        size = min(self.settings.batch_size, len(samples))
        return [samples[(number * size + index) % len(samples)] for index in range(size)]

    def _update(self, optimizer: torch.optim.Optimizer, samples: Sequence[Encoded]) -> None:
        """One optimizer step on samples that all processes share."""
        total = [torch.zeros_like(parameter) for parameter in self.parameters]

        def add(nats: Float[Tensor, " B"]) -> None:
            # torch.autograd.grad leaves the student's own gradients alone.
            found = torch.autograd.grad(-nats.sum() / len(samples), self.parameters, materialize_grads=True)
            for gradient, part in zip(total, found, strict=True):
                gradient.add_(part)

        with torch.enable_grad():
            self._read(samples, add)
        for parameter, gradient in zip(self.parameters, total, strict=True):
            parameter.grad = self.ranks.sum(gradient)
        optimizer.step()
        optimizer.zero_grad()

    def _held_out(self, samples: Sequence[Encoded]) -> float:
        """Log-probability of the right answer in nats, mean over the samples of all processes."""
        sums: list[Tensor] = [torch.zeros((), dtype=torch.float64, device=self.step.student.device)]
        with torch.no_grad():
            self._read(samples, lambda nats: sums.append(nats.double().sum()))
        return float(self.ranks.sum(torch.stack(sums).sum())) / max(len(samples), 1)

    def _read(self, samples: Sequence[Encoded], use: Callable[[Float[Tensor, " B"]], None]) -> None:
        """Give the answers' log-probabilities of this process's samples to ``use``, batch by batch."""
        student = self.step.student
        for some in chunks(samples[self.ranks.rank :: self.ranks.size]):
            batch = self.step.collate(some).to(student.device)
            rows = rows_behind_slots(student, batch, self.target_of(batch))
            # (R, C) -> (B,): the answer's rows alone.
            use(answer_sums(rows, len(batch)))
