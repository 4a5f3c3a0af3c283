"""Small caches for the tests of the compressors."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kvdistill.kv import LayerKV, ModelKV


def layer_of(
    mask: Tensor, seed: int = 0, dtype: torch.dtype = torch.float64, key_width: int = 4, value_width: int = 3
) -> LayerKV:
    """Random keys and values; importance that sums to 1 over the valid slots; positions counted over the
    slots.
    """
    batch, heads, slots = mask.shape
    generator = torch.Generator().manual_seed(seed)

    def normal(width: int) -> Tensor:
        return torch.randn(batch, heads, slots, width, generator=generator, dtype=torch.float64).to(dtype)

    importance = torch.rand(batch, heads, slots, generator=generator, dtype=torch.float64) * mask
    return LayerKV(
        keys=normal(key_width),
        values=normal(value_width),
        mask=mask,
        positions=torch.arange(slots).expand(batch, heads, slots),
        importance=(importance / importance.sum(-1, keepdim=True).clamp_min(1e-9)).to(dtype),
        step_end=(torch.rand(batch, 1, slots, generator=generator) < 0.5).expand(batch, heads, slots),
    )


def kv_of(*layers: LayerKV) -> ModelKV:
    """A model of these layers."""
    return ModelKV(layers=layers, layer_ids=tuple(range(len(layers))), source="a tiny model")


@pytest.fixture(scope="session")
def make_layer() -> Callable[..., LayerKV]:
    return layer_of


@pytest.fixture(scope="session")
def make_kv() -> Callable[..., ModelKV]:
    return kv_of


@pytest.fixture(scope="session")
def kept() -> Callable[..., list[int]]:
    """Positions that a method keeps in one head of one sample."""

    def run(method, layer: LayerKV, slots: int, sample: int = 0, head: int = 0) -> list[int]:
        out = method.compress(kv_of(layer), slots).layers[0]
        return out.positions[sample, head][out.mask[sample, head]].tolist()

    return run
