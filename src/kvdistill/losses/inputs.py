"""What every loss is given, and what a loss is."""

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

from kvdistill.kv import KVPair, LossOutput, TwoModes
from kvdistill.losses.geometry import CachedFrame

Need = Literal["target", "attention"]
"""``target``: pairs of target and student caches. ``attention``: the answer's attention to the slots."""


@dataclass(frozen=True, slots=True)
class LossInputs:
    """One batch as the losses see it."""

    outputs: TwoModes
    """Teacher mode and student mode of the student."""
    pairs: tuple[KVPair, ...] = ()
    """Targets, each with the student's view of itself; empty where no loss needs one."""
    frame: CachedFrame | None = None
    """Where both caches begin, for keys that are compared as cached."""


@runtime_checkable
class Loss(Protocol):
    """A term of the objective: a frozen dataclass whose fields are its settings."""

    needs: ClassVar[frozenset[Need]]
    """What has to be computed for it beside both modes."""

    def __call__(self, inputs: LossInputs) -> LossOutput:
        """The mean over samples, and detached metrics by name."""
        ...
