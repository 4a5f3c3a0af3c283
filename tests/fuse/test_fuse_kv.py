"""Fusion: weighted means by hand, coverage, copies, order of the teachers, refusals."""

import pytest
import torch

from kvdistill.fuse import fuse, normalized_weights, over_present
from kvdistill.kv import LayerKV, ModelKV, Rope


def cache(
    keys: list[float], importance: list[float] | None = None, mask: list[bool] | None = None, name: str = "t"
) -> ModelKV:
    """A cache of one layer, head and channel."""
    states = torch.tensor(keys)[None, None, :, None]
    valid = torch.ones(1, 1, len(keys), dtype=torch.bool)
    if mask is not None:
        valid = torch.tensor(mask)[None, None]
    weight = None
    if importance is not None:
        weight = torch.tensor(importance)[None, None]
    positions = torch.arange(len(keys)).expand(valid.shape)
    layer = LayerKV(states, 10 * states, valid, positions, importance=weight)
    return ModelKV((layer,), (0,), name)


def everywhere(teachers: int, tokens: int) -> torch.Tensor:
    """Every teacher covers every token."""
    return torch.ones(1, teachers, tokens, dtype=torch.bool)


def test_weighted_mean_by_hand() -> None:
    shares = normalized_weights(torch.tensor([3.0, 1.0]), everywhere(2, 2))
    fused = fuse([cache([1.0, 2.0], [0.5, 0.5]), cache([5.0, 6.0], [0.1, 0.9])], shares).layers[0]
    # .75 * 1 + .25 * 5 = 2; .75 * 2 + .25 * 6 = 3
    torch.testing.assert_close(fused.keys.flatten(), torch.tensor([2.0, 3.0]))
    torch.testing.assert_close(fused.values.flatten(), torch.tensor([20.0, 30.0]))
    # .75 * .5 + .25 * .1 = .4
    assert fused.importance is not None
    torch.testing.assert_close(fused.importance.flatten(), torch.tensor([0.4, 0.6]))


def test_only_teachers_that_cover_a_token_count() -> None:
    covered = torch.tensor([[[True, False, False], [True, True, False]]])
    shares = normalized_weights(torch.tensor([0.5, 0.5]), covered)
    expected = torch.tensor([[[0.5, 0.0, 0.0], [0.5, 1.0, 0.0]]])
    torch.testing.assert_close(shares, expected)
    nothing = [float("nan")]
    fused = fuse([cache([1.0, *nothing, *nothing]), cache([3.0, 7.0, *nothing])], shares).layers[0]
    torch.testing.assert_close(fused.keys.flatten(), torch.tensor([2.0, 7.0, 0.0]))


def test_importance_sums_to_one_over_valid_tokens() -> None:
    shares = normalized_weights(torch.tensor([1.0]), everywhere(1, 3))
    fused = fuse([cache([1.0, 2.0, 3.0], [0.2, 0.2, 0.9], mask=[True, True, False])], shares).layers[0]
    assert fused.importance is not None
    torch.testing.assert_close(fused.importance.flatten(), torch.tensor([0.5, 0.5, 0.0]))


def test_copies_fuse_to_the_copy_bit_for_bit() -> None:
    one = cache(torch.randn(5).tolist())
    fused = fuse([one, one], normalized_weights(torch.tensor([0.5, 0.5]), everywhere(2, 5)))
    assert torch.equal(fused.layers[0].keys, one.layers[0].keys)
    assert torch.equal(fused.layers[0].values, one.layers[0].values)


def test_a_weight_of_zero_is_that_teacher_absent() -> None:
    one, other = cache([1.0, 2.0]), cache([float("nan"), 5.0])
    fused = fuse([one, other], normalized_weights(torch.tensor([0.3, 0.0]), everywhere(2, 2)))
    assert torch.equal(fused.layers[0].keys, one.layers[0].keys)


def test_permuted_teachers_are_permuted_weights() -> None:
    one, other = cache(torch.randn(4).tolist()), cache(torch.randn(4).tolist())
    weights = torch.tensor([0.2, 0.8])
    ahead = fuse([one, other], normalized_weights(weights, everywhere(2, 4)))
    behind = fuse([other, one], normalized_weights(weights.flip(0), everywhere(2, 4)))
    assert torch.equal(ahead.layers[0].keys, behind.layers[0].keys)


def test_weights_a_sample_differ() -> None:
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    shares = normalized_weights(weights, torch.ones(2, 2, 1, dtype=torch.bool))
    assert shares[:, :, 0].tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_rotated_keys_are_refused() -> None:
    one = cache([1.0, 2.0])
    turned = one.map((one.layers[0].replace(rope=Rope(torch.ones(1))),))
    with pytest.raises(ValueError, match="rotated"):
        fuse([turned], normalized_weights(torch.ones(1), everywhere(1, 2)))


def test_different_tokens_are_refused() -> None:
    shares = normalized_weights(torch.ones(2), everywhere(2, 2))
    with pytest.raises(ValueError, match="different tokens"):
        fuse([cache([1.0, 2.0]), cache([1.0, 2.0], mask=[True, False])], shares)


def test_different_geometries_are_refused() -> None:
    one, other = cache([1.0, 2.0]), cache([1.0, 2.0])
    wide = other.map((other.layers[0].replace(keys=torch.ones(1, 1, 2, 3)),))
    with pytest.raises(ValueError, match="Align both"):
        fuse([one, wide], normalized_weights(torch.ones(2), everywhere(2, 2)))


def test_weights_of_each_layer_fuse_each_layer_by_its_own() -> None:
    one, other = cache([1.0, 2.0]), cache([5.0, 6.0])
    both = [ModelKV((kv.layers[0], kv.layers[0]), (0, 1), kv.source) for kv in (one, other)]
    weights = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]])
    fused = fuse(both, normalized_weights(weights, everywhere(2, 2)))
    assert torch.equal(fused.layers[0].keys, one.layers[0].keys)
    torch.testing.assert_close(fused.layers[1].keys.flatten(), torch.tensor([3.0, 4.0]))


def test_gradients_of_weights_ignore_what_is_not_covered() -> None:
    weights = torch.tensor([[0.5, 0.5]], requires_grad=True)
    covered = torch.tensor([[[True, True], [True, False]]])
    fused = fuse([cache([1.0, 2.0]), cache([3.0, float("nan")])], normalized_weights(weights, covered))
    fused.layers[0].keys.sum().backward()
    # d(w1 + 3 w2)/(w1 + w2) at (.5, .5): (1 - 2) and (3 - 2); the second token depends on neither weight.
    torch.testing.assert_close(weights.grad, torch.tensor([[-1.0, 1.0]]))


def test_weights_of_a_sample_count_over_the_teachers_that_are_present() -> None:
    present = torch.tensor([[True, False], [True, True], [False, False]])
    found = over_present(torch.tensor([[0.2, 0.8], [0.2, 0.8], [0.2, 0.8]]), present)
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0], [0.2, 0.8], [0.0, 0.0]]))
