"""The defaults of a method, and the sizes of a map."""

import torch

from kvdistill.align.adapter_base import AdapterSettings, Block, affine_map
from kvdistill.align.layer_map import LayerMap, LayerPair
from pico_align import cache, geometry


def test_sizes_by_hand() -> None:
    """Two heads of width 3 and one of width 2 go to four of width 1."""
    block = Block((2, 1), (3, 2), (0.5, 0.5), 4, 1)
    assert (block.inputs, block.outputs) == (8, 4)


def test_a_method_is_neither_fitted_nor_trained_unless_it_says_so() -> None:
    method, shape = AdapterSettings(), geometry(1, 1, 2, 2)
    method.check(shape, shape, LayerMap((LayerPair(0, 0, 1.0),)))
    assert method.penalty_grid() == ()
    assert not method.learns
    assert method.regularizer(cache(shape), cache(shape)).item() == 0
    start = method.start(Block((1,), (2,), (1.0,), 1, 2), torch.Generator())
    assert start(torch.ones(2)).tolist() == [0, 0]


def test_an_affine_map_copies_its_weight_and_takes_no_random_numbers() -> None:
    before, weight = torch.get_rng_state(), torch.tensor([[1.0, 2.0, 3.0]])
    linear = affine_map(weight)
    assert torch.equal(torch.get_rng_state(), before)
    weight.zero_()
    assert (linear.weight.tolist(), linear.bias.tolist()) == ([[1, 2, 3]], [0])
