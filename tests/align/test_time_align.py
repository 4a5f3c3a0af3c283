"""Time alignment by hand, and what padding, dtypes and missing tokens do to it."""

import pytest
import torch

from kvdistill.align.time_align import NearestSlot, SoftSlot, align_time, weighted_gather
from kvdistill.align.tokenizer_align import align_tokens
from kvdistill.kv import LayerKV, ModelKV, Rope, full_mask
from pico_alignment import Spans, reader

TEXTS = ["abcdef", "", "x yz"]
STUDENTS: list[Spans] = [[(0, 4), (4, 6)], [], [(0, 1), (1, 3), (3, 4)]]
TEACHERS: list[Spans] = [[(0, 1), (1, 5), (5, 6)], [], [(0, 1), (2, 4)]]


def cache_of(states: torch.Tensor, **fields: object) -> ModelKV:
    mask = full_mask(states)
    places = torch.arange(states.shape[2]).expand(mask.shape)
    layer = LayerKV(states, states[..., :1] * 10, mask, places, importance=states[..., 0])
    return ModelKV((layer.replace(**fields),), (3,), "a teacher")


def test_by_hand() -> None:
    """Student abcd|ef and one special token, teacher a|bcde|f with the keys 1, 2 and 4."""
    alignment = align_tokens(
        ["abcdef"], reader([[(0, 4), (4, 6), (6, 6)]]), reader([[(0, 1), (1, 5), (5, 6)]])
    )
    moved = align_time(cache_of(torch.tensor([[[[1.0], [2.0], [4.0]]]])), alignment)
    layer = moved.layers[0]
    # Weights 5/17 and 12/17, then 2/7 and 5/7; the special token keeps an empty slot.
    expected = [29 / 17, 24 / 7, 0.0]
    assert layer.keys.flatten().tolist() == pytest.approx(expected)
    assert layer.values.flatten().tolist() == pytest.approx([10 * each for each in expected])
    # 1 + 3/4 of 2, then 1/4 of 2 + 4: the sum of the importance stays 7.
    assert layer.importance is not None
    assert layer.importance.tolist() == [[[2.5, 4.5, 0.0]]]
    assert layer.positions.tolist() == [[[0, 1, 2]]]
    assert layer.mask.tolist() == [[[True, True, True]]]
    assert layer.step_end is not None
    assert layer.step_end.tolist() == [[[False, False, True]]]
    assert (moved.layer_ids, moved.source) == ((3,), "a teacher")


def test_equal_tokens_change_nothing() -> None:
    spans = [(0, 2), (2, 3), (3, 6)]
    kv = cache_of(torch.randn(1, 2, 3, 4))
    moved = align_time(kv, align_tokens(["abcdef"], reader([spans]), reader([spans])))
    for name in ("keys", "values", "mask", "positions", "importance"):
        assert torch.equal(getattr(moved.layers[0], name), getattr(kv.layers[0], name)), name


@pytest.mark.parametrize("student_side", ["left", "right"])
@pytest.mark.parametrize("teacher_side", ["left", "right"])
def test_a_sample_alone_is_the_sample_in_a_batch(student_side: str, teacher_side: str) -> None:
    student, teacher = reader(STUDENTS, student_side), reader(TEACHERS, teacher_side)
    states = torch.randn(3, 2, 3, 4)
    # Whatever is under padding is not read.
    states = states.where(teacher.cot.mask[:, None, :, None], torch.nan)
    together = align_time(cache_of(states), align_tokens(TEXTS, student, teacher)).layers[0]
    for row, text in enumerate(TEXTS):
        alignment = align_tokens([text], reader([STUDENTS[row]]), reader([TEACHERS[row]]))
        kept = states[row : row + 1, :, teacher.cot.mask[row]]
        alone = align_time(cache_of(kept), alignment).layers[0]
        valid = student.cot.mask[row]
        for name in ("keys", "values", "mask", "positions", "importance", "step_end"):
            found = getattr(together, name)[row]
            assert torch.equal(found[:, valid], getattr(alone, name)[0]), name
        assert not together.mask[row][:, ~valid].any()
        assert not together.keys[row][:, ~valid].any()


def test_half_precision_is_summed_in_float32() -> None:
    states = torch.full((1, 1, 8, 1), 1.001, dtype=torch.bfloat16)
    index, weights = torch.arange(8).reshape(1, 1, 8), torch.full((1, 1, 8), 0.125)
    assert weighted_gather(states, index, weights).dtype == torch.bfloat16
    large = torch.full((1, 1, 2, 1), 60000.0, dtype=torch.float16)
    # The sum of the two is beyond float16, their mean is not.
    mean = weighted_gather(large, torch.tensor([[[0, 1]]]), torch.full((1, 1, 2), 0.5))
    assert (mean.dtype, mean.item()) == (torch.float16, 60000.0)
    small = torch.tensor([1.0] + [0.001] * 8, dtype=torch.bfloat16).reshape(1, 1, 9, 1)
    total = weighted_gather(small, torch.arange(9).reshape(1, 1, 9), torch.ones(1, 1, 9))
    assert total.item() == torch.tensor(1.008).bfloat16().item() != 1.0
    exact = weighted_gather(small.double(), torch.arange(9).reshape(1, 1, 9), torch.ones(1, 1, 9))
    assert exact.dtype == torch.float64


def test_a_teacher_without_tokens_leaves_empty_slots() -> None:
    kv = cache_of(torch.zeros(1, 2, 0, 4))
    layer = align_time(kv, align_tokens(["ab"], reader([[(0, 2)]]), reader([[]]))).layers[0]
    assert layer.keys.shape == (1, 2, 1, 4)
    assert not layer.keys.any()
    assert layer.mask.all()


def test_rotated_keys_are_refused() -> None:
    kv = cache_of(torch.randn(1, 1, 2, 4), rope=Rope(torch.ones(2)))
    alignment = align_tokens(["ab"], reader([[(0, 2)]]), reader([[(0, 1), (1, 2)]]))
    with pytest.raises(ValueError, match=r"time alignment: keys of layer 3 of a teacher are rotated"):
        align_time(kv, alignment)


def steps_of(values: list[float], mask: list[bool]) -> ModelKV:
    """One sample and head whose keys are these numbers."""
    states = torch.tensor(values).reshape(1, 1, -1, 1)
    return cache_of(states, mask=torch.tensor(mask).reshape(1, 1, -1))


def test_slots_read_the_steps_of_another_text_by_their_place() -> None:
    """Three steps at 5 slots: places 0, .5, 1, 1.5, 2; the padding in front and between holds NaN."""
    kv = steps_of([torch.nan, 1.0, torch.nan, 3.0, 9.0], [False, True, False, True, True])
    nearest = NearestSlot().match(kv, 5).layers[0]
    assert nearest.keys.flatten().tolist() == [1.0, 3.0, 3.0, 9.0, 9.0]
    assert nearest.values.flatten().tolist() == [10.0, 30.0, 30.0, 90.0, 90.0]
    assert nearest.positions.flatten().tolist() == [1, 3, 3, 4, 4]
    soft = SoftSlot().match(kv, 5).layers[0]
    assert soft.keys.flatten().tolist() == [1.0, 2.0, 3.0, 6.0, 9.0]
    assert soft.importance is not None
    assert soft.importance.flatten().tolist() == [1.0, 2.0, 3.0, 6.0, 9.0]
    assert nearest.mask.all()
    assert soft.mask.all()
    # More steps than slots: places 0 and 2 of the three.
    assert NearestSlot().match(kv, 2).layers[0].keys.flatten().tolist() == [1.0, 9.0]
    assert SoftSlot().match(kv, 1).layers[0].keys.flatten().tolist() == [1.0]


@pytest.mark.parametrize("match", [NearestSlot(), SoftSlot()])
def test_as_many_steps_as_slots_are_matched_one_to_one_and_no_step_with_none(
    match: NearestSlot | SoftSlot,
) -> None:
    kv = cache_of(torch.randn(2, 3, 4, 5))
    found = match.match(kv, 4).layers[0]
    for name in ("keys", "values", "mask", "positions", "importance"):
        assert torch.equal(getattr(found, name), getattr(kv.layers[0], name)), name
    for empty in (steps_of([torch.nan], [False]), cache_of(torch.zeros(1, 1, 0, 1))):
        found = match.match(empty, 3).layers[0]
        assert found.keys.flatten().tolist() == [0.0, 0.0, 0.0]
        assert not found.mask.any()


def test_rotated_keys_are_not_interpolated_between_steps() -> None:
    kv = cache_of(torch.randn(1, 1, 2, 4), rope=Rope(torch.ones(2)))
    with pytest.raises(ValueError, match="soft slot matching: keys of layer 3 of a teacher are rotated"):
        SoftSlot().match(kv, 3)
    assert NearestSlot().match(kv, 2).layers[0].rope is not None
