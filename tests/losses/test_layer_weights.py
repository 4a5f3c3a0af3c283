"""Weights of layers by hand, and the loss of each layer for the log."""

import pytest
import torch
from torch import Tensor

from kvdistill.kv import KVPair
from kvdistill.losses.layer_weights import annealed_layer_weights, losses_by_layer, shared, weighted_mean
from pico_losses import cache


def pair(share: Tensor | None = None) -> KVPair:
    return KVPair(cache(), cache(), None, share)


def test_annealed_layer_weights_by_hand() -> None:
    assert annealed_layer_weights(0.1, 7, 0.3).tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert annealed_layer_weights(0.3, 7, 0.3).tolist() == [1] * 7
    assert annealed_layer_weights(0.0, 1, 0.3).tolist() == [1]
    assert annealed_layer_weights(0.0, 6, 0.0).tolist() == [1] * 6


def test_the_mean_over_layers_is_weighted() -> None:
    """Layers 2 and 6 with weights 3 and 1: (3 * 2 + 6) / 4 = 3."""
    layers = torch.tensor([2.0, 6.0]).reshape(2, 1, 1).expand(2, 3, 1)
    assert weighted_mean(layers, None).tolist() == [[4.0]] * 3
    assert weighted_mean(layers, torch.tensor([3.0, 1.0])).tolist() == [[3.0]] * 3
    with pytest.raises(ValueError, match="layer weights sum to 0"):
        weighted_mean(layers, torch.zeros(2))


def test_layers_are_logged_apart_and_summed_over_targets() -> None:
    """Two layers, two samples: losses (1, 3) and (10, 30); a second target of share 1/4 adds a quarter."""
    layers = torch.tensor([[1.0, 3.0], [10.0, 30.0]])[:, None].expand(2, 3, 2).requires_grad_()
    alone = losses_by_layer([layers], [pair()])
    assert {name: value.item() for name, value in alone.items()} == {"kv_layer0": 2.0, "kv_layer1": 20.0}
    assert not any(value.requires_grad for value in alone.values())
    halves = [pair(torch.tensor([0.75, 0.75])), pair(torch.tensor([0.25, 0.25]))]
    both = losses_by_layer([layers, 5 * layers], halves)
    assert both["kv_layer1"].item() == 0.75 * 20 + 0.25 * 100
    # A target of three layers cannot be added to one of two.
    assert losses_by_layer([layers, layers.repeat(2, 1, 1)], halves)["kv_layer0"].item() == 0.75 * 2


def test_a_share_weighs_each_sample() -> None:
    losses = torch.tensor([[1.0, 2.0]])
    assert shared(losses, None) is losses
    assert shared(losses, torch.tensor([0.5, 1.0])).tolist() == [[0.5, 2.0]]
