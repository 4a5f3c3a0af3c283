"""``StepModel``: interface of the module that Trainer trains; its forward pass returns a step's loss."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from kvdistill.kv import LossOutput
from kvdistill.text import Batch


@runtime_checkable
class StepModel(Protocol):
    """A student and the other trainable modules; training does not depend on teachers or losses."""

    def __call__(self, batch: Batch, step: int, progress: float) -> LossOutput:
        """Loss and metrics of a batch.

        Args:
            batch: B samples.
            step: Optimizer steps done so far.
            progress: Share of all steps done so far, 0 to 1.
        """
        ...

    def trained(self) -> Any:
        """The model that is evaluated during training, and saved with ``save_pretrained``."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Switch to training mode, or to evaluation mode where ``mode`` is False."""
        ...

    @property
    def prepared(self) -> bool:
        """Whether ``prepare`` has nothing left to do."""
        ...

    def prepare(self, batches: Sequence[Batch]) -> None:
        """Initialize from the batches of an optimizer step, before their losses are computed."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Tensors by name that belong in a checkpoint in addition to the student."""
        ...

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Resume from what ``state`` gave."""
        ...
