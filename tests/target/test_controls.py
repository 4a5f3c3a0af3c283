from collections import Counter
from itertools import permutations
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvdistill.kv import LayerKV, ModelKV, Rope
from kvdistill.target.controls import Control, MeanTarget, NoControl, OtherSample, Shuffled, partners
from kvdistill.target.mean import TargetMean

TENSORS = ("keys", "values", "mask", "positions", "importance", "step_end")


def cache(batch: int = 4, slots: int = 5) -> ModelKV:
    def layer() -> LayerKV:
        mask = torch.rand(batch, 2, slots) < 0.7
        positions = torch.randint(0, 99, (batch, 2, slots)).sort(-1).values
        keys, values = torch.randn(batch, 2, slots, 4), torch.randn(batch, 2, slots, 3)
        return LayerKV(
            keys,
            values,
            mask,
            positions,
            importance=torch.rand(batch, 2, slots),
            step_end=torch.rand(batch, 2, slots) < 0.3,
        )

    return ModelKV((layer(), layer()), (0, 1), "test")


def test_partners_by_hand() -> None:
    """Two chains of two samples: the first two hand theirs to the last two and get theirs back, in one of two
    ways.
    """
    chain = torch.tensor([7, 7, 9, 9])
    seen = {tuple(partners(chain, seed).tolist()) for seed in range(60)}
    assert seen == {(2, 3, 0, 1), (3, 2, 1, 0)}
    assert partners(torch.tensor([5, 6]), 3).tolist() == [1, 0]
    circles = {tuple(partners(torch.tensor([3, 1, 2]), seed).tolist()) for seed in range(60)}
    assert circles == {(1, 2, 0), (2, 0, 1)}


@given(st.lists(st.integers(0, 4), min_size=2, max_size=16), st.integers(0, 2**31))
def test_partners_are_a_derangement_with_the_fewest_meetings(chain: list[int], seed: int) -> None:
    found = partners(torch.tensor(chain), seed).tolist()
    assert sorted(found) == list(range(len(chain)))
    assert all(partner != me for me, partner in enumerate(found))
    met = sum(chain[me] == chain[partner] for me, partner in enumerate(found))
    assert met == max(0, 2 * max(Counter(chain).values()) - len(chain))


@given(st.lists(st.integers(0, 2), min_size=2, max_size=6), st.integers(0, 99))
def test_no_derangement_of_all_has_fewer_meetings(chain: list[int], seed: int) -> None:
    def meetings(choice: tuple[int, ...] | list[int]) -> int:
        return sum(chain[me] == chain[partner] for me, partner in enumerate(choice))

    all_choices = [
        p for p in permutations(range(len(chain))) if all(partner != me for me, partner in enumerate(p))
    ]
    assert meetings(partners(torch.tensor(chain), seed).tolist()) == min(map(meetings, all_choices))


def test_the_step_decides_the_partners() -> None:
    chain, target = torch.arange(8), cache(8)
    keys = [OtherSample().apply(target, chain, seed).layers[0].keys for seed in (1, 1, 2)]
    assert torch.equal(keys[0], keys[1]) and not torch.equal(keys[0], keys[2])
    state = torch.random.get_rng_state()
    partners(chain, 5)
    assert torch.equal(state, torch.random.get_rng_state())  # the global generator is not touched


def test_other_sample_hands_everything_round_in_time_order() -> None:
    chain, target = torch.tensor([0, 0, 1, 2]), cache()
    before = [layer.keys.clone() for layer in target.layers]
    moved, partner = OtherSample().apply(target, chain, 3), partners(chain, 3)
    for old, new, keys in zip(target.layers, moved.layers, before, strict=True):
        for name in TENSORS:
            for sample in range(4):
                assert torch.equal(getattr(new, name)[sample], getattr(old, name)[partner[sample]])
        assert (new.positions.diff(dim=-1) >= 0).all()
        assert torch.equal(old.keys, keys)


def test_shuffled_is_the_other_sample_in_one_order_for_the_whole_run() -> None:
    control, orders = Shuffled(seed=4), []
    for step in range(3):
        target, chain = cache(batch=3 + step), torch.arange(3 + step)
        shuffled, other = control.apply(target, chain, step), OtherSample().apply(target, chain, step)
        for new, old in zip(shuffled.layers, other.layers, strict=True):
            order = [int((old.keys[0, 0] == key).all(-1).nonzero()) for key in new.keys[0, 0]]
            orders.append(tuple(order))
            for name in TENSORS:
                assert torch.equal(getattr(new, name), getattr(old, name)[:, :, order])
    assert len(set(orders)) == 1
    assert all(slot != source for slot, source in enumerate(orders[0]))
    others = {
        tuple(Shuffled(seed=seed).apply(target, chain, 0).layers[0].positions[0, 0].tolist())
        for seed in range(9)
    }
    assert len(others) > 1


def test_shuffled_two_slots_by_hand() -> None:
    keys = torch.tensor([[[[1.0], [2.0]]], [[[3.0], [4.0]]]])
    target = ModelKV(
        (LayerKV(keys, keys, torch.ones(2, 1, 2, dtype=torch.bool), torch.arange(2).expand(2, 1, 2)),),
        (0,),
        "test",
    )
    moved = Shuffled().apply(target, torch.tensor([0, 1]), 0).layers[0]
    assert moved.keys.flatten().tolist() == [4, 3, 2, 1] and moved.positions.flatten().tolist() == [
        1,
        0,
        1,
        0,
    ]


def test_mean_target_and_no_control() -> None:
    target, chain = cache(), torch.arange(4)
    mean = TargetMean.over(target)
    spread = MeanTarget().apply(target, chain, 0, mean).layers[0]
    assert torch.equal(spread.keys[0], spread.keys[3]) and torch.equal(spread.keys[0], mean.layers[0].keys)
    assert NoControl().apply(target, chain, 0) is target


def test_gradients_flow_through_the_choice() -> None:
    target = cache(2)
    keys = target.layers[0].keys.requires_grad_()
    Shuffled().apply(target, torch.arange(2), 0).layers[0].keys[0].sum().backward()
    assert keys.grad is not None and keys.grad[0].sum() == 0 and (keys.grad[1] == 1).all()


def test_what_cannot_be_done_is_said() -> None:
    for control in (OtherSample(), Shuffled()):
        with pytest.raises(ValueError, match=r"a batch of one has no other sample.*Raise the batch size"):
            control.apply(cache(1), torch.tensor([0]), 0)
    with pytest.raises(ValueError, match="Use 'other_sample' for a single slot"):
        Shuffled().apply(cache(slots=1), torch.arange(4), 0)
    with pytest.raises(ValueError, match=r"Carry mean = TargetMean\.over"):
        MeanTarget().apply(cache(), torch.arange(4), 0)
    rotated = cache()
    rotated = rotated.map(tuple(layer.replace(rope=Rope(torch.ones(2))) for layer in rotated.layers))
    with pytest.raises(ValueError, match="target/controls: keys of layer 0 of test are rotated"):
        OtherSample().apply(rotated, torch.arange(4), 0)


def test_every_control_has_a_kind_of_its_own() -> None:
    assert sorted(control().kind for control in get_args(Control)) == [
        "mean_target",
        "none",
        "other_sample",
        "shuffled",
    ]
