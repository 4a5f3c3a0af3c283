"""Maths that several folders use, against numpy, transformers, and numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.glm.modeling_glm import apply_rotary_pos_emb as glm_rotation
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb as llama_rotation

from kvdistill.kv import Rope
from kvdistill.losses.distance import elementwise
from kvdistill.ops import masked_mean, masked_std, rope_angles, rotate, to_float32

CONVENTIONS = pytest.mark.parametrize("convention", ["half_split", "interleaved"])
shapes = st.tuples(
    st.integers(1, 3), st.integers(1, 2), st.integers(1, 5), st.integers(1, 4), st.integers(0, 9999)
)


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_masked_mean_by_hand() -> None:
    values = torch.tensor([[1.0, 3.0, math.nan], [5.0, 7.0, 9.0], [1.0, 1.0, 1.0]])
    mask = torch.tensor([[True, True, False], [True, False, True], [False, False, False]])
    assert masked_mean(values, mask, (1,)).tolist() == [2.0, 7.0, 0.0]


def test_masked_std_by_hand() -> None:
    """Valid numbers 1, 3, 5, 7: mean 4, squares 9, 1, 1, 9, so sqrt(5); a constant sample has the floor."""
    values = torch.tensor([[[[1.0, 3.0], [5.0, 7.0], [100.0, 100.0]]], [[[2.0, 2.0]] * 3]])
    mask = torch.tensor([[[True, True, False]], [[True, True, True]]])
    assert masked_std(values, mask).tolist() == pytest.approx([math.sqrt(5), 1e-6])


@given(shapes)
def test_mean_and_std_are_numpys_over_what_is_valid(shape: tuple[int, int, int, int, int]) -> None:
    *size, seed = shape
    values = random(*size, seed=seed)
    mask = random(*size[:3], seed=seed + 1) > 0
    means, stds = masked_mean(values, mask[..., None].expand_as(values), (1, 2, 3)), masked_std(values, mask)
    for sample, chosen, mean, std in zip(values.double().numpy(), mask.numpy(), means, stds, strict=True):
        valid = sample[chosen]
        assert float(mean) == pytest.approx(valid.mean() if valid.size else 0.0, abs=1e-5)
        assert float(std) == pytest.approx(max(np.std(valid), 1e-6) if valid.size else 1e-6, abs=1e-5)


def test_what_is_masked_reaches_no_gradient() -> None:
    values = torch.tensor([[1.0, math.inf, 2.0]], requires_grad=True)
    masked_mean(values, torch.tensor([[True, False, True]]), (1,)).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [[0.5, 0.0, 0.5]]


def test_the_gradient_of_a_std_of_zero_is_no_number() -> None:
    """What the docstring warns of; targets are detached for it."""
    values = torch.ones(1, 1, 2, 2, requires_grad=True)
    masked_std(values, torch.ones(1, 1, 2, dtype=torch.bool)).sum().backward()
    assert values.grad is not None
    assert values.grad.isnan().all()


def test_a_quarter_turn_by_hand() -> None:
    """Frequency pi / 2 at position 1 turns (a, b) to (-b, a); a factor of 2 doubles it; the other channels
    pass.
    """
    keys = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 4)
    at = torch.ones(1, 1, 1, dtype=torch.long)
    quarter = torch.tensor([math.pi / 2])
    middle = rotate(keys, at, Rope(quarter, start=1))
    assert middle.flatten().tolist() == pytest.approx([1.0, -3.0, 2.0, 4.0], abs=1e-6)
    assert rotate(keys, at, Rope(quarter, factor=2.0)).flatten().tolist() == pytest.approx(
        [-4.0, 2.0, 3.0, 4.0], abs=1e-6
    )
    both = torch.tensor([math.pi / 2, math.pi])
    assert rotate(keys, at, Rope(both)).flatten().tolist() == pytest.approx([-3.0, -2.0, 1.0, -4.0], abs=1e-6)
    pairs = rotate(keys, at, Rope(both, convention="interleaved"))
    assert pairs.flatten().tolist() == pytest.approx([-2.0, 1.0, -3.0, -4.0], abs=1e-6)


@CONVENTIONS
@given(
    frequencies=st.lists(st.floats(0.001, 2.0), min_size=1, max_size=4),
    start=st.integers(0, 3),
    after=st.integers(0, 2),
    factor=st.floats(0.5, 2.0),
    seed=st.integers(0, 9999),
)
def test_the_inverse_undoes_a_rotation(frequencies, start, after, factor, seed, convention) -> None:
    rope = Rope(torch.tensor(frequencies), start, convention, factor)
    keys = random(2, 2, 3, start + 2 * len(frequencies) + after, seed=seed, dtype=torch.float64)
    positions = torch.randint(0, 500, (2, 1, 3), generator=torch.Generator().manual_seed(seed))
    before = keys.clone()
    there = rotate(keys, positions, rope)
    assert torch.allclose(rotate(there, positions, rope, inverse=True), keys, atol=1e-5)
    assert torch.equal(keys, before), "the caller's keys stay as they are"
    turned = slice(start, start + 2 * len(frequencies))
    assert torch.allclose(there[..., turned].norm(dim=-1), factor * keys[..., turned].norm(dim=-1), rtol=1e-5)
    assert torch.equal(there[..., :start], keys[..., :start])
    assert torch.equal(there[..., turned.stop :], keys[..., turned.stop :])


@CONVENTIONS
@given(p=st.integers(0, 200), q=st.integers(0, 200), seed=st.integers(0, 99))
def test_keys_moved_from_p_to_q_stand_as_if_they_had_always_been_there(
    p: int, q: int, seed: int, convention
) -> None:
    rope = Rope(10000.0 ** -torch.arange(0, 1, 0.25), convention=convention, factor=1.25)
    keys = random(1, 2, 1, 8, seed=seed)
    at_p, at_q = (torch.full((1, 1, 1), place) for place in (p, q))
    moved = rotate(rotate(rotate(keys, at_p, rope), at_p, rope, inverse=True), at_q, rope)
    assert torch.allclose(moved, rotate(keys, at_q, rope), atol=1e-5)


def test_the_conventions_are_those_of_transformers() -> None:
    """Llama turns halves, GLM neighbours; both get cosine and sine of the same angles."""
    keys, positions = random(2, 2, 5, 8), torch.arange(5).expand(2, 1, 5)
    frequency = 100.0 ** -torch.arange(0, 1, 0.25)
    angles = torch.cat([positions[:, 0, :, None] * frequency] * 2, dim=-1)
    halves = llama_rotation(keys, keys, angles.cos(), angles.sin())[1]
    assert torch.allclose(rotate(keys, positions, Rope(frequency)), halves, atol=1e-6)
    neighbours = glm_rotation(keys, keys, angles.cos(), angles.sin())[1]
    assert torch.allclose(
        rotate(keys, positions, Rope(frequency, convention="interleaved")), neighbours, atol=1e-6
    )


def test_each_sample_may_have_its_own_frequencies_and_each_head_its_own_positions() -> None:
    keys = random(2, 2, 3, 4)
    frequencies = torch.tensor([[1.0, 0.5], [0.25, 0.125]])
    positions = torch.randint(0, 9, (2, 2, 3))
    together = rotate(keys, positions, Rope(frequencies))
    for sample in range(2):
        for head in range(2):
            at = positions[sample, head][None, None]
            alone = rotate(keys[sample, head][None, None], at, Rope(frequencies[sample]))
            assert torch.allclose(together[sample, head], alone[0, 0], atol=1e-6)
    cosine, sine = rope_angles(Rope(frequencies), positions)
    assert cosine.shape == sine.shape == (2, 2, 3, 2)
    assert float(sine[1, 0, 2, 1]) == pytest.approx(math.sin(0.125 * int(positions[1, 0, 2])), abs=1e-6)


def test_half_precision_stays_half_and_near() -> None:
    keys, positions = random(1, 1, 3, 8), torch.tensor([[[0, 100, 1000]]])
    rope = Rope(10000.0 ** -torch.arange(0, 1, 0.25))
    turned = rotate(keys.bfloat16(), positions, rope)
    assert turned.dtype == torch.bfloat16
    assert torch.allclose(turned.float(), rotate(keys, positions, rope), atol=0.05)


def test_half_precision_is_widened_and_float64_kept() -> None:
    assert to_float32(torch.ones(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert to_float32(torch.ones(1, dtype=torch.float64)).dtype == torch.float64
    large = torch.tensor([300.0], dtype=torch.float16)
    assert elementwise(large, -large, "mse", 1.0).item() == 360000.0  # float16 ends at 65504
