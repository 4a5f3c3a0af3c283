"""Depths by hand, and what holds for any two models."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvdistill.align.layer_map import LastAligned, LayerMap, LayerPair, Nearest, Ratio, Uniform, keep_one_kind
from kvdistill.kv import Geometry, LayerGeometry


def layer(positional: str = "rotary", window: int | None = None) -> LayerGeometry:
    return LayerGeometry(heads=1, key_width=2, value_width=2, rope=None, positional=positional, window=window)


def plain(num_layers: int) -> Geometry:
    return Geometry((layer(),) * num_layers)


def pairs(found: LayerMap) -> list[tuple[int, int, float]]:
    return [(pair.student, pair.teacher, pair.weight) for pair in found.pairs]


def test_between_two_layers_by_hand() -> None:
    """Layer 1 of 3 stands at depth 1 * 3 / 2 = 1.5 of 4."""
    assert pairs(Ratio().pair(plain(3), plain(4))) == [(0, 0, 1.0), (1, 1, 0.5), (1, 2, 0.5), (2, 3, 1.0)]


def test_unlike_shares_by_hand() -> None:
    """Layers 1 and 2 of 4 stand at 1 * 4 / 3 = 1 1/3 and 2 2/3 of 5."""
    found = pairs(Ratio().pair(plain(4), plain(5)))
    assert [(student, teacher) for student, teacher, _ in found] == [
        (0, 0),
        (1, 1),
        (1, 2),
        (2, 2),
        (2, 3),
        (3, 4),
    ]
    assert [weight for *_, weight in found] == pytest.approx([1, 2 / 3, 1 / 3, 1 / 3, 2 / 3, 1])


def test_whole_depths_take_one_layer() -> None:
    assert pairs(Ratio().pair(plain(2), plain(4))) == [(0, 0, 1.0), (1, 3, 1.0)]
    assert pairs(Ratio().pair(plain(3), plain(5))) == [(0, 0, 1.0), (1, 2, 1.0), (2, 4, 1.0)]


def test_equal_depths_answer_layer_by_layer() -> None:
    assert pairs(Ratio().pair(plain(3), plain(3))) == [(0, 0, 1.0), (1, 1, 1.0), (2, 2, 1.0)]


def test_one_layer_reads_the_last() -> None:
    assert pairs(Ratio().pair(plain(1), plain(6))) == [(0, 5, 1.0)]
    assert pairs(Ratio().pair(plain(2), plain(1))) == [(0, 0, 1.0), (1, 0, 1.0)]


@pytest.mark.parametrize("other", [layer(window=8), layer("none"), layer("learned")])
def test_unlike_kinds_are_not_mixed(other: LayerGeometry) -> None:
    """At 1 1/3 and 2 2/3 of 5 the nearer neighbours are 1 and 3; at 1.5 of 4, a tie, the lower is taken."""
    five = Geometry((layer(), layer(), other, layer(), layer()))
    assert pairs(Ratio().pair(plain(4), five)) == [(0, 0, 1.0), (1, 1, 1.0), (2, 3, 1.0), (3, 4, 1.0)]
    four = Geometry((layer(), layer(), other, layer()))
    assert pairs(Ratio().pair(plain(3), four)) == [(0, 0, 1.0), (1, 1, 1.0), (2, 3, 1.0)]


def test_windows_of_unlike_length_are_of_one_kind() -> None:
    teacher = Geometry((layer(), layer(window=8), layer(window=16), layer()))
    assert (1, 2, 0.5) in pairs(Ratio().pair(plain(3), teacher))


def test_a_map_prints_as_a_table() -> None:
    found = LayerMap((LayerPair(0, 0, 1.0), LayerPair(1, 1, 0.25), LayerPair(1, 2, 0.75)))
    assert str(found).splitlines() == [
        "student layer: teacher layers (weight)",
        "0: 0 (1.00)",
        "1: 1 (0.25), 2 (0.75)",
    ]


@given(st.integers(1, 40), st.integers(1, 80), st.integers(0, 2**80 - 1))
def test_any_two_models(num_ours: int, num_theirs: int, windows: int) -> None:
    """Shares sum to 1 over layers of one kind, whose mean depth is the ratio; beside another kind it is at
    most half a layer off.
    """
    teacher = Geometry(
        tuple(layer(window=8 if windows >> place & 1 else None) for place in range(num_theirs))
    )
    found = Ratio().pair(plain(num_ours), teacher).pairs
    assert [pair.student for pair in found] == sorted(pair.student for pair in found)
    for student in range(num_ours):
        own = [pair for pair in found if pair.student == student]
        depth = (
            Fraction(student * (num_theirs - 1), num_ours - 1) if num_ours > 1 else Fraction(num_theirs - 1)
        )
        around = {teacher.layers[math.floor(depth)].window, teacher.layers[math.ceil(depth)].window}
        assert sum(pair.weight for pair in own) == pytest.approx(1)
        assert all(pair.weight > 0 for pair in own)
        assert len({teacher.layers[pair.teacher].window for pair in own}) == 1
        assert len(own) == (2 if depth.denominator > 1 and len(around) == 1 else 1)
        off = abs(sum(pair.weight * pair.teacher for pair in own) - depth)
        assert off < 1e-9 if len(around) == 1 else off <= 0.5


def test_nearest_takes_one_layer_by_hand() -> None:
    """Depths 0, 1.5 and 3 of 4 layers (a tie: the lower), and 0, 1 1/3, 2 2/3, 4 of 5."""
    assert pairs(Nearest().pair(plain(3), plain(4))) == [(0, 0, 1.0), (1, 1, 1.0), (2, 3, 1.0)]
    assert pairs(Nearest().pair(plain(4), plain(5))) == [(0, 0, 1.0), (1, 1, 1.0), (2, 3, 1.0), (3, 4, 1.0)]
    assert pairs(Nearest().pair(plain(1), plain(6))) == [(0, 5, 1.0)]


@given(st.integers(2, 40), st.integers(1, 80))
def test_nearest_is_the_nearest(num_ours: int, num_theirs: int) -> None:
    for pair in Nearest().pair(plain(num_ours), plain(num_theirs)).pairs:
        depth = Fraction(pair.student * (num_theirs - 1), num_ours - 1)
        assert pair.teacher == min(range(num_theirs), key=lambda layer: (abs(layer - depth), layer))


def test_last_aligned_by_hand() -> None:
    assert pairs(LastAligned().pair(plain(2), plain(5))) == [(0, 3, 1.0), (1, 4, 1.0)]
    with pytest.raises(
        ValueError, match="5 attention layers and the teacher 2, so the first 3 would have no"
    ):
        LastAligned().pair(plain(5), plain(2))


def test_uniform_by_hand() -> None:
    """Four layers go to two; of three, the middle one is shared; one layer goes to both of two."""
    assert pairs(Uniform().pair(plain(2), plain(4))) == [(0, 0, 0.5), (0, 1, 0.5), (1, 2, 0.5), (1, 3, 0.5)]
    found = pairs(Uniform().pair(plain(2), plain(3)))
    assert [(a, b) for a, b, _ in found] == [(0, 0), (0, 1), (1, 1), (1, 2)]
    assert [weight for *_, weight in found] == pytest.approx([2 / 3, 1 / 3, 1 / 3, 2 / 3])
    assert pairs(Uniform().pair(plain(2), plain(1))) == [(0, 0, 1.0), (1, 0, 1.0)]


def test_uniform_keeps_one_kind() -> None:
    """Three of the four layers have full attention: their shares of 1/4 become 1/3."""
    teacher = Geometry((layer(), layer(window=8), layer(), layer()))
    found = pairs(Uniform().pair(plain(1), teacher))
    assert [(a, b) for a, b, _ in found] == [(0, 0), (0, 2), (0, 3)]
    assert [weight for *_, weight in found] == pytest.approx([1 / 3] * 3)
    # At a tie, the kind that comes first.
    tie = keep_one_kind([LayerPair(0, 1, 0.5), LayerPair(0, 2, 0.5)], teacher)
    assert tie == [LayerPair(0, 1, 1.0)]


@given(st.integers(1, 40), st.integers(1, 80))
def test_uniform_gives_every_teacher_layer_the_same_weight(num_ours: int, num_theirs: int) -> None:
    found = Uniform().pair(plain(num_ours), plain(num_theirs))
    for student in range(num_ours):
        assert sum(pair.weight for pair in found.of(student)) == pytest.approx(1)
    for teacher in range(num_theirs):
        total = sum(pair.weight for pair in found.pairs if pair.teacher == teacher)
        assert total == pytest.approx(num_ours / num_theirs)


def test_only_a_measured_map_needs_similarities() -> None:
    assert not any(method.needs_similarity for method in (Ratio(), Nearest(), LastAligned(), Uniform()))
