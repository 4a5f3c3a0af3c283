"""What Trainer trains, as this folder sees it: a module whose forward call is a whole step's loss."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from kvdistill.kv import LossOutput
from kvdistill.text import Batch


@runtime_checkable
class StepModel(Protocol):
    """A student with all that learns beside it; what is learned and from whom is not training's business."""

    student: Any
    """What is evaluated while training, and saved with ``save_pretrained``."""

    def __call__(self, batch: Batch, step: int, progress: float) -> LossOutput:
        """The loss of a batch after ``step`` optimizer steps, at ``progress`` (0 to 1) of the run."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Training mode, or evaluation mode."""
        ...

    def prepare(self, batches: Sequence[Batch]) -> None:
        """Look at the first optimizer step's batches, before the first of them counts."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What belongs into a checkpoint beside the student, by name."""
        ...

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Resume from what ``state`` gave."""
        ...
