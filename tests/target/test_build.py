"""Targets: what the compressor keeps, what a control puts in its place, and what is carried."""

import pytest
import torch

from kvdistill.compress import RKV, CompressorMethod, Full, RightCrop, StepEnd, Uniform
from kvdistill.kv import ModelKV
from kvdistill.target.build import TargetBuilder, check_settings
from kvdistill.target.controls import MeanTarget, NoControl, OtherSample
from pico_losses import cache


def test_without_a_control_the_target_is_the_compressed_cache() -> None:
    kv = cache(slots=5)
    target = TargetBuilder(RightCrop(), NoControl(), 2)(kv, torch.arange(2), 0)
    assert torch.equal(target.layers[0].keys, kv.layers[0].keys[:, :, -2:])


def test_a_control_takes_its_partners_from_the_draw() -> None:
    kv, build = cache(batch=4, slots=3), TargetBuilder(Full(), OtherSample(), 3)
    target = build(kv, torch.arange(4), 7)
    assert not any(torch.equal(target.layers[0].keys[i], kv.layers[0].keys[i]) for i in range(4))
    assert torch.equal(build(kv, torch.arange(4), 7).layers[0].keys, target.layers[0].keys)


def test_the_running_mean_is_carried_and_resumed() -> None:
    first, second = cache(slots=3), cache(slots=3)
    build, later = (TargetBuilder(Uniform(), MeanTarget(), 3) for _ in range(2))
    assert build.state() == {}
    build(first, torch.arange(2), 0)
    later.load_state(build.state())
    one, other = (each(second, torch.arange(2), 1).layers[1].values for each in (build, later))
    assert torch.equal(one, other)
    by_hand = torch.cat((first.layers[1].values, second.layers[1].values)).mean(0)
    assert torch.allclose(one[0], by_hand, atol=1e-6)
    later.load_state({})
    assert later.mean is None


def test_coverage_is_found_by_token_also_with_padding_on_the_left() -> None:
    """Three tokens behind one column of padding, of which the second was not read."""
    (layer, *_), slots = cache(batch=1, slots=4).layers, torch.tensor([0, 0, 1, 2])
    mask = torch.tensor([False, True, True, True]).expand(layer.mask.shape)
    left = layer.replace(mask=mask, positions=slots.expand(mask.shape))
    kv = ModelKV((left,), (0,), "left")
    covered = torch.tensor([[False, True, False, True]])
    (target,) = TargetBuilder(RightCrop(), NoControl(), 3)(kv, torch.arange(1), 0, covered).layers
    assert target.positions[0, 0].tolist() == [0, 1, 2]
    assert target.mask[0, 0].tolist() == [True, False, True]


@pytest.mark.parametrize("method", [RightCrop(), Uniform(), RKV(), StepEnd()])
def test_a_batch_without_a_chain_has_no_target(method: CompressorMethod) -> None:
    empty = cache(slots=0)
    kv = empty.map(tuple(layer.replace(step_end=layer.mask) for layer in empty.layers))
    covered = torch.zeros(2, 0, dtype=torch.bool)
    target = TargetBuilder(method, NoControl(), 3)(kv, torch.arange(2), 0, covered)
    assert all(layer.mask.shape == (2, 2, 3) and not layer.mask.any() for layer in target.layers)


def test_settings_that_contradict_each_other_are_refused() -> None:
    check_settings(Uniform(), MeanTarget(), 4, 1)
    with pytest.raises(ValueError, match="Compress to a fixed number of slots"):
        check_settings(Full(), MeanTarget(), 4, 2)
