"""Head maps by hand."""

import torch
from torch import nn

from kvdistill.align import Adapter, Identity, LayerMap, LayerPair, Ridge
from kvdistill.align.head_norms import head_norms
from pico_align import geometry


def test_norms_by_hand_at_the_layers_that_are_paired() -> None:
    """Two student heads of width 1; the second of two teacher layers, with two heads of width 2."""
    pairs = LayerMap((LayerPair(0, 1, 1.0),))
    adapter = Adapter(geometry(1, 2, 1, 1), geometry(2, 2, 2, 2), pairs, Ridge())
    (keys,) = adapter.keys
    assert isinstance(keys, nn.Linear)
    with torch.no_grad():
        keys.weight.copy_(torch.tensor([[3.0, 4.0, 0.0, 0.0], [0.0, 2.0, 5.0, 12.0]]))
    assert head_norms(adapter, "keys").tolist() == [[0.0, 0.0, 5.0, 0.0], [0.0, 0.0, 2.0, 13.0]]
    assert not head_norms(adapter, "values").any(), "an adapter before its fit"


def test_two_layers_of_one_student_layer_stand_side_by_side() -> None:
    pairs = LayerMap((LayerPair(0, 0, 0.5), LayerPair(0, 2, 0.5)))
    adapter = Adapter(geometry(1, 1, 1, 1), geometry(3, 1, 1, 1), pairs, Ridge())
    (values,) = adapter.values
    assert isinstance(values, nn.Linear)
    with torch.no_grad():
        values.weight.copy_(torch.tensor([[2.0, -7.0]]))
    assert head_norms(adapter, "values").tolist() == [[2.0, 0.0, 7.0]]


def test_the_identity_is_a_diagonal() -> None:
    """The norm of a unit matrix of width 4 is 2."""
    shape = geometry(2, 2, 4, 4)
    pairs = LayerMap((LayerPair(0, 0, 1.0), LayerPair(1, 1, 1.0)))
    norms = head_norms(Adapter(shape, shape, pairs, Identity()), "keys")
    torch.testing.assert_close(norms, 2 * torch.eye(4))
