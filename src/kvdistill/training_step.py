"""Base of the modules that Trainer trains: a student and whatever else is trained, in one forward pass."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kvdistill.data.collate import collate
from kvdistill.data.encode import pad_id_of
from kvdistill.data.readers import Reader
from kvdistill.kv import LossOutput
from kvdistill.latent.curriculum import Stages
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.losses import cross_entropy
from kvdistill.target.build import AllReduceSum, alone
from kvdistill.teacher.base import Teacher
from kvdistill.text import Batch, Encoded, Example

FROM_STUDENT = (
    *(
        "config",
        "gradient_checkpointing_enable",
        "gradient_checkpointing_disable",
        "is_gradient_checkpointing",
    ),
    *("enable_input_require_grads", "_no_split_modules", "hf_device_map"),
)
"""Attributes that transformers' Trainer reads from a model; they are forwarded to the student."""


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """Settings of a distillation step."""

    anneal_layers: float = 0.0
    """Share of the run in which only the lowest third of the layers counts in the KV loss."""
    curriculum: Stages | None = None
    """Passes over the slots, and words after them, by progress; None computes all passes in every step."""
    all_reduce_sum: AllReduceSum = alone
    """All-reduce sum over the processes, for statistics over the global batch."""


class TrainingStep(nn.Module):
    """The module that Trainer trains: the student and all other trained parameters.

    ``forward`` returns the loss of a complete step, so that everything trained is inside the one module that
    DDP or FSDP wraps.

    Args:
        student: The latent student; trained.
    """

    # Losses are means over a batch: Trainer divides them by the number of accumulation steps.
    accepts_loss_kwargs = False
    teachers: tuple[Teacher, ...] = ()
    """The teachers whose caches are compared; outside the module tree."""
    competence: Callable[[Example], Sequence[float]] | None = None
    """Competence of each teacher for an example, for a fusion that uses it; set before training."""

    def __init__(self, student: LatentReasoner) -> None:
        super().__init__()
        self.student = student

    def __getattr__(self, name: str) -> Any:
        # Called only where the normal lookup fails; nn.Module finds parameters and submodules here.
        return getattr(self.student, name) if name in FROM_STUDENT else super().__getattr__(name)

    def trained(self) -> LatentReasoner:
        """The student: what is evaluated during training, and saved."""
        return self.student

    @property
    def readers(self) -> dict[str, Reader]:
        """By short name, the teachers that read other tokens or texts than the student's teacher mode."""
        return {}

    def collate(self, samples: Sequence[Encoded], same_text: bool = False) -> Batch:
        """A batch as the loader's workers make it: for the student and every reader.

        Args:
            samples: B encoded examples, at least one.
            same_text: Whether every reader reads the student's text, as calibration needs.

        Returns:
            A batch on the CPU.
        """
        tokenizer = self.student.tokenizer
        assert tokenizer is not None
        readers = self.readers
        if same_text:
            readers = {name: reader.of_student_text() for name, reader in readers.items()}
        return collate(samples, pad_id_of(tokenizer), readers=readers, competence=self.competence)

    @property
    def prepared(self) -> bool:
        """Whether ``prepare`` has nothing left to do."""
        return True

    def prepare(self, batches: Sequence[Batch]) -> None:
        """Hook before the first optimizer step.

        Args:
            batches: All batches of that step on this process.
        """

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of a validation batch, beside accuracy and log-probability.

        Args:
            batch: B samples, padded.

        Returns:
            Scalars by name, without gradient: ``ce`` of the answer, and ``kv`` where caches are compared.
        """
        return {}

    def state(self) -> dict[str, Tensor]:
        """State for a checkpoint, without the student's.

        Returns:
            Tensors by name.
        """
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Resume from a checkpoint.

        Args:
            state: The result of ``state``.
        """


class FineTuning(TrainingStep):
    """Supervised fine-tuning of teacher mode: chains of thought, or direct answers where they are empty."""

    def forward(self, batch: Batch, step: int, progress: float) -> LossOutput:
        """The cross-entropy of teacher mode's labels.

        Args:
            batch: B samples, padded.
            step: Ignored.
            progress: Ignored.

        Returns:
            A scalar in nats per token, logged as ``ce_teacher``.
        """
        rows = self.student(batch=batch, mode="cot").rows
        with torch.autocast(batch.cot_id.device.type, enabled=False):
            loss = cross_entropy(rows, len(batch))
        return LossOutput(loss, {"ce_teacher": loss.detach()})

    @torch.no_grad()
    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """The loss itself, as ``ce``."""
        return {"ce": self(batch, 0, 1.0).loss}
