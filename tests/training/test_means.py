"""Means by hand, and across a kill."""

import pytest
import torch

from kvdistill.training.means import Means
from kvdistill.training.ranks import Ranks

ALONE = Ranks()


def test_each_name_is_weighed_by_the_steps_that_it_was_there_in() -> None:
    means = Means()
    means.add({"kv": torch.tensor(2.0), "floor": torch.tensor(9.0)}, 0.25)
    means.add({"kv": torch.tensor(6.0)}, 0.75)
    assert means.take(ALONE) == {"kv": 5.0, "floor": 9.0}
    assert means.take(ALONE) == {}, "counting starts anew"


def test_counting_goes_on_from_what_was_kept() -> None:
    straight, before = Means(), Means()
    values = torch.rand(7)
    for value in values:
        straight.add({"kv": value}, 1 / 3)
    for value in values[:4]:
        before.add({"kv": value}, 1 / 3)
    after = Means()
    after.load_state(before.state(ALONE), ALONE)
    for value in values[4:]:
        after.add({"kv": value}, 1 / 3)
    assert after.take(ALONE) == straight.take(ALONE), "to the last bit"


def test_only_the_first_process_holds_what_was_kept() -> None:
    held = {"kv": torch.tensor([3.0, 2.0], dtype=torch.float64)}
    first, second = Means(), Means()
    first.load_state(held, Ranks(0, 2))
    second.load_state(held, Ranks(1, 2))
    assert first.weights == {"kv": 2.0}
    assert second.weights == {}


def test_no_graph_is_kept() -> None:
    means = Means()
    means.add({"kv": torch.ones((), requires_grad=True) * 2}, 1.0)
    assert not means.sums["kv"].requires_grad
    assert means.take(ALONE) == pytest.approx({"kv": 2.0})
