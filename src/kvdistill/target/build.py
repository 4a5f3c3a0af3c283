"""Target builder: compresses a teacher's cache to the student's slots and applies a control."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from kvdistill.compress import CompressorMethod
from kvdistill.kv import LayerKV, ModelKV, full_mask
from kvdistill.target.controls import Control
from kvdistill.target.mean import TargetMean

AllReduceSum = Callable[[Tensor], Tensor]
"""All-reduce with a sum over the processes of a distributed run; the identity in a single process."""


def alone(values: Tensor) -> Tensor:
    """The all-reduce of a single process.

    Args:
        values: Any shape.

    Returns:
        ``values`` themselves.
    """
    return values


@dataclass
class TargetBuilder:
    """Compresses one teacher's caches and keeps the running mean for the control that needs it."""

    method: CompressorMethod
    control: Control
    slots: int
    """M, the number of the student's latent slots."""
    all_reduce_sum: AllReduceSum = alone
    mean: TargetMean | None = None
    """Mean of the compressed targets of all batches so far; None without one."""
    compressed: bool = False
    """Whether caches come in M slots already, so that the compressor is not applied again."""

    def __call__(
        self,
        teacher: ModelKV,
        cot_id: Int[Tensor, " B"],
        draw: int,
        covered: Bool[Tensor, "B N"] | None = None,
    ) -> ModelKV:
        """The target of one batch.

        Args:
            teacher: The cache over N tokens of the chain of thought, un-rotated; in M slots where it is
                ``compressed``.
            cot_id: (B,), equal where samples have the same chain of thought and answer.
            draw: Seed of a control's partners, which are samples of the same process.
            covered: (B, N), True where the token was read; None where all were. Slots of other tokens keep
                their place and are masked.

        Returns:
            A cache of M slots; of N tokens where the compressor keeps them.

        Raises:
            ValueError: where the compressor or the control raises it.
        """
        # Scores and means need float32; autocast would compute their matrix products in half precision.
        with torch.autocast(cot_id.device.type, enabled=False):
            compressed = teacher
            if not self.compressed:
                compressed = self.method.compress(teacher, self.slots)
            if covered is not None and covered.shape[-1]:  # N = 0: all slots are masked already
                read = _by_token(teacher.layers[0], covered)
                compressed = compressed.map(tuple(_masked(layer, read) for layer in compressed.layers))
            if self.control.needs_running_mean:
                # Updated before it is used: the first batch already has a mean.
                self.mean = TargetMean.over(compressed, self.mean, self.all_reduce_sum)
            return self.control.apply(compressed, cot_id, draw, self.mean)

    def state(self) -> dict[str, Tensor]:
        """State for a checkpoint.

        Returns:
            The running mean's tensors by name; empty without one.
        """
        if self.mean is None:
            return {}
        return self.mean.tensors()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Resume from a checkpoint.

        Args:
            state: The result of ``state``.
        """
        self.mean = None
        if state:
            self.mean = TargetMean.of(state)


def _by_token(layer: LayerKV, covered: Bool[Tensor, "B N"]) -> Bool[Tensor, "B N"]:
    """Coverage by the token's number instead of its column, which padding on the left moves."""
    known = (covered & layer.mask[:, 0]).long()
    return torch.zeros_like(known).scatter_reduce(-1, layer.positions[:, 0], known, "amax").bool()


def _masked(layer: LayerKV, covered: Bool[Tensor, "B N"]) -> LayerKV:
    """Mask the slots whose token was not read."""
    # (B, N) -> (B, H, N), read at each slot's token -> (B, H, M)
    heads = covered[:, None].expand(-1, layer.positions.shape[1], -1)
    return layer.replace(mask=layer.mask & heads.gather(-1, layer.positions))


def check_settings(method: CompressorMethod, control: Control, slots: int, batch_size: int) -> None:
    """Build targets from two synthetic batches, so that contradictory settings fail before models are loaded.

    Args:
        method: The compressor.
        control: The control.
        slots: M, the number of the student's latent slots.
        batch_size: Samples per batch and device; with 1, a control that needs a partner is refused.

    Raises:
        ValueError: where ``TargetBuilder`` raises it.
    """
    build = TargetBuilder(method, control, slots)
    # Two lengths: a running mean refuses targets whose number of slots changes.
    for length in (slots + 1, slots + 2):
        keys = torch.ones(min(batch_size, 2), 1, length, 1)
        mask = full_mask(keys)
        positions = torch.arange(length).expand(mask.shape)
        # Importance and step ends are present, so only the settings can be refused, not the data.
        layer = LayerKV(keys, keys, mask, positions, importance=keys[..., 0], step_end=mask)
        build(ModelKV((layer,), (0,), "the check of the settings"), torch.arange(len(keys)), 0)
