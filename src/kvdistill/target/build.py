"""From a teacher's cache to a target: compressed to the student's slots, or replaced by a control."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from kvdistill.compress import CompressorMethod
from kvdistill.kv import LayerKV, ModelKV, full_mask
from kvdistill.target.controls import Control
from kvdistill.target.mean import TargetMean

AllReduceSum = Callable[[Tensor], Tensor]
"""The sum over the processes of a distributed run; the values themselves in a single process."""


def alone(values: Tensor) -> Tensor:
    """The sum over one process."""
    return values


@dataclass
class TargetBuilder:
    """Compresses one teacher's caches; carries the mean over the data set for the control that needs it."""

    method: CompressorMethod
    control: Control
    slots: int
    all_reduce_sum: AllReduceSum = alone
    mean: TargetMean | None = None

    def __call__(self, teacher: ModelKV, cot_id: Int[Tensor, " B"], draw: int) -> ModelKV:
        """The target of one batch.

        Args:
            teacher: the cache over N tokens of the chain of thought, un-rotated.
            cot_id: equal numbers mark samples with equal chains of thought and answers.
            draw: seeds the partners of a control, who are samples of the same process.

        Returns:
            A cache of M slots; of N tokens where the compressor keeps them.

        Raises:
            ValueError: as the compressor and the control do.
        """
        with torch.autocast(cot_id.device.type, enabled=False):
            compressed = self.method.compress(teacher, self.slots)
            if self.control.needs_running_mean:
                self.mean = TargetMean.over(compressed, self.mean, self.all_reduce_sum)
            return self.control.apply(compressed, cot_id, draw, self.mean)

    def state(self) -> dict[str, Tensor]:
        """What belongs into a checkpoint, by name."""
        return {} if self.mean is None else self.mean.tensors()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Resume from what ``state`` gave."""
        self.mean = TargetMean.of(state) if state else None


def check_settings(method: CompressorMethod, control: Control, slots: int, batch_size: int) -> None:
    """Build targets from two made-up batches, so that settings that contradict each other are refused before
    anything is loaded.

    Raises:
        ValueError: as ``TargetBuilder`` does.
    """
    build = TargetBuilder(method, control, slots)
    for length in (slots + 1, slots + 2):
        keys = torch.ones(min(batch_size, 2), 1, length, 1)
        mask = full_mask(keys)
        positions = torch.arange(length).expand(mask.shape)
        layer = LayerKV(keys, keys, mask, positions, importance=keys[..., 0], step_end=mask)
        build(ModelKV((layer,), (0,), "the check of the settings"), torch.arange(len(keys)), 0)
