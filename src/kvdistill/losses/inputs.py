"""Inputs of the losses and the protocol that a loss implements."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from kvdistill.kv import KVPair, LossOutput, TwoModes
from kvdistill.losses.axis import CachedFrame
from kvdistill.text import ReaderBatch

Need = Literal["target", "attention", "slots"]
"""``target``: pairs of target and student caches. ``attention``: the answer's attention to the slots.
``slots``: the slots' last states with what the language model head reads in them.
"""


@dataclass(frozen=True, slots=True)
class LossInputs:
    """What the losses compute on: one batch's outputs, pairs and start positions."""

    outputs: TwoModes
    """The student's outputs in teacher mode and in student mode."""
    pairs: tuple[KVPair, ...] = ()
    """Target caches, each with the student's cache in the same geometry; empty where no loss needs one."""
    frame: CachedFrame | None = None
    """Start positions of both caches, for keys that are compared as cached."""
    read: ReaderBatch | None = None
    """What teacher mode read: the tokens of the chain of thought and their steps."""
    modules: Mapping[str, nn.Module] = field(default_factory=dict)
    """By kind, the modules of the losses that learn."""


@runtime_checkable
class LearnedLoss(Protocol):
    """A loss with a module that is trained beside the student and dropped after training."""

    @property
    def kind(self) -> str:
        """Name of the loss."""
        ...

    def module(self, embedding: Float[Tensor, "C D"]) -> nn.Module:
        """A new module.

        Args:
            embedding: The student's token embeddings, for vocabulary, width, type and start.

        Returns:
            What the loss finds in ``LossInputs.modules`` under its kind.
        """
        ...


@runtime_checkable
class Loss(Protocol):
    """A term of the objective: a frozen dataclass whose fields are its settings."""

    needs: ClassVar[frozenset[Need]]
    """What has to be computed for it in addition to both modes."""

    def __call__(self, inputs: LossInputs) -> LossOutput:
        """The loss of a batch.

        Args:
            inputs: Outputs of both modes, and what ``needs`` asks for.

        Returns:
            The mean over samples, a scalar, and detached metrics by name.
        """
        ...
