"""Maps without calibration by hand, and the geometries that they refuse."""

import pytest
import torch

from kvdistill.align.adapter_base import Block
from kvdistill.align.adapter_fixed import GroupMean, Identity, Repeat
from kvdistill.align.head_dim_adapter import Adapter
from kvdistill.align.layer_map import LayerMap, LayerPair
from kvdistill.kv import Geometry, LayerGeometry
from pico_align import geometry

ONE = LayerMap((LayerPair(0, 0, 1.0),))
DRAW = torch.Generator()


def test_group_mean_by_hand() -> None:
    """Four heads of width 1 go to two; two layers count 3/4 and 1/4."""
    block = Block((4, 2), (1, 1), (0.75, 0.25), 2, 1)
    assert GroupMean().start(block, DRAW).weight.tolist() == [
        [0.375, 0.375, 0, 0, 0.25, 0],
        [0, 0, 0.375, 0.375, 0, 0.25],
    ]


def test_repeat_by_hand() -> None:
    """One head of width 2 goes to two heads."""
    linear = Repeat().start(Block((1,), (2,), (1.0,), 2, 2), DRAW)
    assert linear.weight.tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]
    assert linear.bias.tolist() == [0] * 4


@pytest.mark.parametrize(
    ("method", "teacher", "sentence"),
    [
        (
            GroupMean(),
            geometry(1, 4, 3, 2),
            "group_mean: student layer 0 has keys and values of width 2 and 2",
        ),
        (GroupMean(), geometry(1, 3, 2, 2), "3 teacher heads do not divide into 2 groups"),
        (Repeat(), geometry(1, 1, 2, 3), "teacher layer 0 of 2 and 3. Use ridge."),
        (Repeat(), geometry(1, 4, 2, 2), "2 student heads are no multiple of 4 teacher heads"),
        (Identity(), geometry(1, 1, 2, 2), "have to be those of the student"),
        (Identity(), geometry(2, 2, 2, 2), "have to be those of the student"),
    ],
)
def test_unlike_geometries_are_refused(method, teacher: Geometry, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Adapter(geometry(1, 2, 2, 2), teacher, ONE, method)


def test_identity_refuses_other_windows_and_crossed_layers() -> None:
    sliding = Geometry((LayerGeometry(2, 2, 2, None, "none", window=4),))
    with pytest.raises(ValueError, match="each layer paired with itself"):
        Identity().check(geometry(1, 2, 2, 2), sliding, ONE)
    two = geometry(2, 2, 2, 2)
    with pytest.raises(ValueError, match="each layer paired with itself"):
        Identity().check(two, two, LayerMap((LayerPair(0, 1, 1.0), LayerPair(1, 0, 1.0))))
