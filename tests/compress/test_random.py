"""Tokens drawn by lot."""

import torch

from kvdistill.compress.random import Random, mix


def mix_by_integers(bits: int) -> int:
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        bits = ((bits ^ (bits >> shift)) * factor) % 2**32
    return bits ^ (bits >> 16)


def test_mixing_by_hand() -> None:
    """Published values: the 32-bit MurmurHash3 of nothing, with these seeds."""
    assert mix(torch.tensor([0, 1, 0xFFFFFFFF])).tolist() == [0, 0x514E28B7, 0x81F16F39]


def test_the_lot_by_integers(make_layer) -> None:
    layer = make_layer(torch.tensor([[[False, True, True, True]] * 2]))
    wanted = [
        [
            mix_by_integers(mix_by_integers(mix_by_integers(mix_by_integers(7) ^ h) ^ 3) ^ i) >> 8
            for i in (1, 2, 3)
        ]
        for h in (0, 1)
    ]
    assert (Random(seed=7).score(layer)[0, :, 1:] * 2**24).long().tolist() == wanted


def test_the_seed_the_head_and_the_length_matter(make_layer, kept) -> None:
    layer = make_layer(torch.ones(1, 2, 40, dtype=torch.bool))
    shorter = make_layer(torch.ones(1, 2, 39, dtype=torch.bool))
    draws = [
        kept(Random(seed=0), layer, 6),
        kept(Random(seed=1), layer, 6),
        kept(Random(), layer, 6, head=1),
        kept(Random(), shorter, 6),
    ]
    assert len(set(map(tuple, draws))) == 4
    assert kept(Random(seed=0), layer, 6) == draws[0]
    assert kept(Random(seed=-1), layer, 6) == kept(Random(seed=2**32 - 1), layer, 6), (
        "seeds count modulo 2^32"
    )


def test_every_token_is_drawn_equally_often(make_layer, kept) -> None:
    layer = make_layer(torch.ones(1, 1, 8, dtype=torch.bool))
    counts = torch.zeros(8)
    for seed in range(200):
        counts[kept(Random(seed=seed), layer, 2)] += 1
    assert counts.sum() == 400
    assert ((counts - 50).abs() < 4 * (200 * 0.25 * 0.75) ** 0.5).all(), (
        "within four standard deviations of 200 / 4"
    )
