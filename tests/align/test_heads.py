"""Heads side by side, and the mask that they share."""

from dataclasses import replace

import pytest
import torch

from kvdistill.align.heads import flatten_heads, geometry_of_heads, select_heads, shared_mask
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


def test_some_heads_of_a_cache_in_the_order_wanted() -> None:
    kv = cache(SHAPE)
    found = select_heads(kv, (2, 0))
    for ours, theirs in zip(found.layers, kv.layers, strict=True):
        assert torch.equal(ours.keys, torch.stack([theirs.keys[:, 2], theirs.keys[:, 0]], 1))
        assert torch.equal(ours.values[:, 1], theirs.values[:, 0])
        assert ours.mask.shape == ours.positions.shape == (2, 2, 5)


def test_the_geometry_of_some_heads_says_which() -> None:
    """A gain for each head goes with its head; one for all heads stays."""
    each, whole = torch.arange(12.0).view(3, 4), torch.ones(4)
    layers = [replace(layer, key_norm=gain) for layer, gain in zip(SHAPE.layers, (each, whole), strict=True)]
    first, second = geometry_of_heads(replace(SHAPE, layers=tuple(layers)), (2, 0)).layers
    assert (first.heads, first.head_ids, second.head_ids) == (2, (2, 0), (2, 0))
    assert first.key_norm is not None and first.key_norm.tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]
    assert second.key_norm is whole
    assert (first.key_width, first.value_width) == (4, 2)


def test_a_head_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^there is no head 3: layer 0 has 3 key/value heads \(0 to 2\)$"):
        geometry_of_heads(SHAPE, (0, 3))
