"""Heads side by side, and the mask that they share."""

import pytest
import torch

from kvdistill.align.heads import flatten_heads, shared_mask
from pico_align import cache, flat, geometry

SHAPE = geometry(2, 3, 4, 2)


def test_heads_are_side_by_side_and_padding_is_0() -> None:
    mask = torch.tensor([[True] * 5, [True, True, False, True, False]])
    kv = cache(SHAPE, mask=mask)
    found = flatten_heads(kv.layers[1].keys, kv.layers[1].mask)
    assert torch.equal(found[mask], flat(kv, (1,), "keys")[mask])
    assert found[~mask].eq(0).all()
    assert torch.equal(shared_mask(kv), mask)


def test_a_slot_that_one_layer_lacks_is_lacking() -> None:
    whole, part = cache(SHAPE), cache(SHAPE, mask=torch.arange(5).expand(2, 5) < 4)
    mixed = whole.map((whole.layers[0], part.layers[1]))
    assert shared_mask(mixed).tolist() == [[True] * 4 + [False]] * 2


@pytest.mark.parametrize("field", ["mask", "positions"])
def test_heads_of_different_tokens_are_refused(field: str) -> None:
    kv = cache(SHAPE)
    other = getattr(kv.layers[1], field).clone()
    other[1, 1, 2] = 0
    unlike = kv.map((kv.layers[0], kv.layers[1].replace(**{field: other})))
    with pytest.raises(ValueError, match="heads of layer 1 of a cache hold different tokens"):
        shared_mask(unlike)
