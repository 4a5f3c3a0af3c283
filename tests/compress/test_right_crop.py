"""The last valid tokens."""

import torch

from kvdistill.compress.right_crop import RightCrop


def test_by_hand(make_layer, kept) -> None:
    layer = make_layer(torch.tensor([[[True, True, True, True, False]], [[False, False, True, True, True]]]))
    assert kept(RightCrop(), layer, 2, sample=0) == [2, 3]
    assert kept(RightCrop(), layer, 2, sample=1) == [3, 4]
    assert kept(RightCrop(), layer, 9, sample=1) == [2, 3, 4]


def test_a_text_of_many_tokens_is_cropped_exactly(make_layer, kept) -> None:
    layer = make_layer(torch.ones(1, 1, 70_000, dtype=torch.bool))
    assert kept(RightCrop(), layer, 3) == [69_997, 69_998, 69_999], (
        "slot indices stay exact beyond half precision"
    )
