"""The last token of each step."""

import pytest
import torch

from kvdistill.compress.step_end import StepEnd
from kvdistill.kv import LayerKV


def stepped(make_layer, mask: list[int], ends: list[int]) -> LayerKV:
    valid, end = (torch.tensor(values, dtype=torch.bool).expand(1, 2, -1) for values in (mask, ends))
    return make_layer(valid).replace(step_end=end)


def test_by_hand(make_layer, kept) -> None:
    layer = stepped(make_layer, [1, 1, 1, 1, 1, 1], [0, 1, 0, 1, 0, 1])
    assert [kept(StepEnd(), layer, 3, head=head) for head in (0, 1)] == [[1, 3, 5]] * 2
    assert kept(StepEnd(), layer, 2) == [3, 5], "more steps than slots: the last ones"
    assert kept(StepEnd(), layer, 6) == [1, 3, 5], "fewer steps than slots: nothing else gets in"


def test_padding_ends_no_step(make_layer, kept) -> None:
    assert kept(StepEnd(), stepped(make_layer, [0, 0, 1, 1, 1], [0, 1, 0, 1, 0]), 3) == [3]


def test_data_without_steps_is_refused(make_layer, make_kv) -> None:
    layer = make_layer(torch.ones(1, 1, 4, dtype=torch.bool)).replace(step_end=None)
    with pytest.raises(
        ValueError,
        match=r"StepEnd: the data has no steps, so no token ends one. Use a data set whose chain of thought",
    ):
        StepEnd().compress(make_kv(layer), 2)


def test_selection_is_fixed() -> None:
    with pytest.raises(
        ValueError,
        match=r"StepEnd: selection is 'per_head'. Steps are the same for all heads: leave it at 'shared'.",
    ):
        StepEnd(selection="per_head")
