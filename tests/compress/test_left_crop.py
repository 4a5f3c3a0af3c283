"""The first valid tokens."""

import torch

from kvdistill.compress.left_crop import LeftCrop


def test_by_hand(make_layer, kept) -> None:
    layer = make_layer(torch.tensor([[[True, True, True, True, False]], [[False, False, True, True, True]]]))
    assert kept(LeftCrop(), layer, 2, sample=0) == [0, 1]
    assert kept(LeftCrop(), layer, 2, sample=1) == [2, 3]
    assert kept(LeftCrop(), layer, 9, sample=1) == [2, 3, 4]
