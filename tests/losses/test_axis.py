from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kvdistill.kv import LayerKV, ModelKV, Rope
from kvdistill.losses.axis import (
    CachedFrame,
    least_squares_reconstruction,
    mask_invalid,
    read_at_tokens,
    reading_weights,
    require_same_shape,
)
from kvdistill.ops import rotate


def layer(keys: Tensor, mask: Tensor | None = None) -> LayerKV:
    mask = torch.ones(keys.shape[:3], dtype=torch.bool) if mask is None else mask
    return LayerKV(
        keys=keys, values=2 * keys, mask=mask, positions=torch.arange(keys.shape[2]).expand(keys.shape[:3])
    )


def model(*layers: LayerKV, source: str = "test") -> ModelKV:
    return ModelKV(layers, tuple(range(len(layers))), source)


def flags(rows: Sequence[int]) -> Tensor:
    return torch.tensor([[list(rows)]], dtype=torch.bool)


def test_five_tokens_read_three_slots_by_hand() -> None:
    weights = reading_weights(flags([1] * 5), flags([1] * 3), torch.float32)
    assert weights[0, 0].tolist() == [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1]]


def test_two_tokens_supervise_the_two_ends_by_hand() -> None:
    weights = reading_weights(flags([1, 1]), flags([1] * 4), torch.float32)
    assert weights[0, 0].tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]


def test_a_half_is_rounded_up_by_hand() -> None:
    weights = reading_weights(flags([1, 1, 1]), flags([1] * 4), torch.float32)  # u = 0, 1.5, 3
    assert weights[0, 0].argmax(-1).tolist() == [0, 2, 3]


def test_one_token_reads_the_first_slot_and_one_slot_serves_all() -> None:
    assert reading_weights(flags([0, 1]), flags([1, 1]), torch.float32)[0, 0].tolist() == [[0, 0], [1, 0]]
    assert reading_weights(flags([1, 1, 1]), flags([1]), torch.float32)[0, 0].tolist() == [[1], [1], [1]]


bits = st.lists(st.integers(0, 1), min_size=1, max_size=24)


@given(bits, bits)
def test_weights_are_those_of_the_formula_wherever_padding_stands(
    tokens: list[int], slots: list[int]
) -> None:
    weights = reading_weights(flags(tokens), flags(slots), torch.float64)[0, 0]
    at, to = [i for i, bit in enumerate(tokens) if bit], [j for j, bit in enumerate(slots) if bit]
    expected = torch.zeros(len(tokens), len(slots), dtype=torch.float64)
    for rank, row in enumerate(at if to else []):
        u = rank * (len(to) - 1) / max(len(at) - 1, 1)
        low = min(int(u + 1e-12), len(to) - 1)
        if len(at) <= len(to):
            expected[row, to[int(u + 0.5 + 1e-12)]] = 1
        else:
            expected[row, to[low]] += 1 - (u - low)
            expected[row, to[min(low + 1, len(to) - 1)]] += u - low
    assert torch.allclose(weights, expected, atol=1e-9)
    if len(at) <= len(to):
        assert (weights.sum(0) <= 1).all()  # no slot serves two tokens


def test_read_at_tokens_interpolates_keys_and_values_by_hand() -> None:
    student = model(layer(torch.tensor([[[[0.0, 1.0], [4.0, 1.0]]]])))
    target = model(layer(torch.zeros(1, 1, 4, 2), flags([0, 1, 1, 1])))
    read_target, read = read_at_tokens(target, student)
    assert read.layers[0].keys[0, 0, 1:].tolist() == [[0, 1], [2, 1], [4, 1]]
    assert read.layers[0].values[0, 0, 1:].tolist() == [[0, 2], [4, 2], [8, 2]]
    assert (
        read_target.layers[0].mask.tolist() == read.layers[0].mask.tolist() == [[[False, True, True, True]]]
    )


def test_padding_with_nan_reaches_nothing() -> None:
    keys = torch.tensor([[[[1.0], [float("nan")], [3.0]]]], requires_grad=True)
    _, read = read_at_tokens(model(layer(torch.zeros(1, 1, 3, 1))), model(layer(keys, flags([1, 0, 1]))))
    assert read.layers[0].keys.flatten().tolist() == [1, 2, 3]
    read.layers[0].keys.sum().backward()
    assert keys.grad is not None and keys.grad.flatten().tolist() == [1.5, 0, 1.5]


def test_without_a_slot_nothing_is_compared() -> None:
    read_target, read = read_at_tokens(
        model(layer(torch.zeros(1, 1, 3, 1))), model(layer(torch.ones(1, 1, 2, 1), flags([0, 0])))
    )
    assert not read_target.layers[0].mask.any() and not read.layers[0].mask.any()


def test_best_reading_by_hand() -> None:
    """Three tokens 0, 3, 0 through two slots: W = [1 0; ½ ½; 0 1], the best slots are 1 and 1, missed by -1,
    2, -1.
    """
    fit = least_squares_reconstruction(
        model(layer(torch.tensor([[[[0.0], [3.0], [0.0]]]]))), model(layer(torch.zeros(1, 1, 2, 1)))
    )
    assert torch.allclose(fit.layers[0].keys.flatten(), torch.ones(3), atol=1e-6)
    assert torch.allclose(fit.layers[0].values.flatten(), torch.full((3,), 2.0), atol=1e-6)


@pytest.mark.parametrize(
    ("num_tokens", "num_slots"), [(25, 24), (40, 24), (300, 24), (7, 2), (9, 1), (5, 5), (3, 8)]
)
def test_best_reading_is_the_least_squares_fit_in_float64(num_tokens: int, num_slots: int) -> None:
    """A row of left padding and a head of its own mask stand beside; each is fitted alone by lstsq."""
    mask = torch.ones(2, 2, num_tokens + 3, dtype=torch.bool)
    mask[0, :, :3], mask[1, 0, 1], mask[1, 0, -2:], mask[1, 1, :2], mask[1, 1, -1] = (
        False,
        False,
        False,
        False,
        False,
    )
    target, student = (
        layer(torch.randn(2, 2, num_tokens + 3, 3), mask),
        layer(torch.randn(2, 2, num_slots, 3)),
    )
    fit = least_squares_reconstruction(model(target), model(student)).layers[0]
    weights = reading_weights(mask, student.mask, torch.float64)
    for sample, head in ((0, 0), (0, 1), (1, 0), (1, 1)):
        keep = mask[sample, head]
        rows, seen = weights[sample, head, keep], target.keys[sample, head, keep].double()
        expected = rows @ torch.linalg.lstsq(rows, seen, driver="gelsd").solution
        assert torch.allclose(fit.keys[sample, head, keep].double(), expected, atol=1e-5)


def test_autocast_does_not_lower_the_precision() -> None:
    target, student = model(layer(torch.randn(1, 2, 9, 4))), model(layer(torch.randn(1, 2, 3, 4)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = (
            read_at_tokens(target, student)[1].layers[0].keys,
            least_squares_reconstruction(target, student).layers[0].keys,
        )
    outside = (
        read_at_tokens(target, student)[1].layers[0].keys,
        least_squares_reconstruction(target, student).layers[0].keys,
    )
    assert all(torch.equal(a, b) for a, b in zip(inside, outside, strict=True))


def test_cached_frame_turns_each_side_to_its_own_positions() -> None:
    rope = Rope(inv_freq=torch.tensor([torch.pi / 2, 0.0]))
    unit = layer(torch.tensor([[[[1.0, 0.0, 0.0, 0.0]] * 2]]))
    frame = CachedFrame(ropes=(None, rope), teacher_start=torch.tensor([1]), student_start=torch.tensor([2]))
    target, student = frame.turn(1, unit, unit)
    assert torch.allclose(
        target.keys[0, 0], torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0]]), atol=1e-6
    )  # quarter turns: 1, 2
    assert torch.allclose(
        student.keys[0, 0], torch.tensor([[-1.0, 0, 0, 0], [0, 0, -1, 0]]), atol=1e-6
    )  # quarter turns: 2, 3
    assert target.rope is rope
    assert frame.turn(0, unit, unit) == (unit, unit)


def test_cached_frame_equals_rotate_with_a_start_a_sample() -> None:
    rope = Rope(inv_freq=torch.rand(2, 3), start=1, convention="interleaved")  # frequencies a sample
    one = layer(torch.randn(2, 2, 4, 8))
    turned, _ = CachedFrame((rope,), torch.tensor([5, 9]), torch.tensor([0, 0])).turn(0, one, one)
    for sample, start in enumerate((5, 9)):
        alone = Rope(inv_freq=rope.inv_freq[sample], start=1, convention="interleaved")
        expected = rotate(one.keys[sample : sample + 1], one.positions[sample : sample + 1] + start, alone)
        assert torch.allclose(turned.keys[sample], expected[0], atol=1e-6)


def test_other_shapes_are_refused_in_words() -> None:
    a, b = layer(torch.zeros(1, 2, 3, 4)), layer(torch.zeros(1, 2, 5, 4))
    with pytest.raises(ValueError, match=r"target from big has 2 layers, the student 1\. Map"):
        require_same_shape(model(a, a, source="big"), model(a), "slots")
    with pytest.raises(
        ValueError, match=r"student layer 0 are \(\(1, 2, 3, 4\), 4\), the target's from big .*5, 4.*Compress"
    ):
        require_same_shape(model(b, source="big"), model(a), "slots")
    require_same_shape(model(b), model(a), "tokens")
    with pytest.raises(ValueError, match="student layer 0"):
        require_same_shape(model(layer(torch.zeros(1, 4, 5, 4))), model(a), "tokens")


def test_zeroed_leaves_the_input_alone() -> None:
    values = torch.full((1, 1, 2, 1), float("inf"))
    assert mask_invalid(values, flags([0, 0])).tolist() == [[[[0.0], [0.0]]]]
    assert values.isinf().all()
