"""Similarity weights: three metrics by hand, several prototypes, mass, order of the teachers."""

import math

import pytest
import torch

from kvdistill.fuse.similarity import similarities, similarity_weights

QUERY = torch.tensor([[3.0, 4.0]])
PROTOTYPES = torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]]])
EVEN = torch.ones(2, 1)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [("cosine", [0.6, 0.8]), ("dot", [3.0, 8.0]), ("l2", [-math.sqrt(20), -math.sqrt(13)])],
)
def test_metrics_by_hand(metric: str, expected: list[float]) -> None:
    found = similarities(QUERY, PROTOTYPES, metric)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(found.flatten(), torch.tensor(expected))


def test_softmax_by_hand() -> None:
    weights = similarity_weights(QUERY, PROTOTYPES, EVEN, "cosine", 0.1)
    # softmax(6, 8)
    expected = 1 / (1 + math.exp(-2))
    torch.testing.assert_close(weights, torch.tensor([[1 - expected, expected]]))


def test_a_prototype_shorter_than_noise_has_no_direction() -> None:
    short = torch.tensor([[[0.0, 1e-6]], [[1e-6, 0.0]]])
    weights = similarity_weights(QUERY, short, EVEN, "cosine", 0.1)
    torch.testing.assert_close(weights, torch.tensor([[0.5, 0.5]]), atol=1e-3, rtol=0)


def test_mass_is_the_weight_of_a_teacher_whose_prototypes_coincide() -> None:
    same = PROTOTYPES[:1].expand(2, 1, 2)
    weights = similarity_weights(QUERY, same, torch.tensor([[0.9], [0.1]]))
    torch.testing.assert_close(weights, torch.tensor([[0.9, 0.1]]))


def test_one_of_several_prototypes_is_enough() -> None:
    far, near = torch.tensor([-1.0, 0.0]), torch.tensor([0.6, 0.8])
    several = torch.stack([torch.stack([far, near]), torch.stack([far, far])])
    weights = similarity_weights(QUERY, several, torch.full((2, 2), 0.5), "cosine", 0.1)
    assert weights[0, 0] > 0.99
    # A prototype of mass 0 is as good as absent.
    without = similarity_weights(QUERY, several, torch.tensor([[0.5, 0.0], [0.5, 0.0]]), "cosine", 0.1)
    torch.testing.assert_close(without, torch.tensor([[0.5, 0.5]]))


def test_permuted_teachers_get_permuted_weights() -> None:
    query, prototypes, mass = torch.randn(4, 3), torch.randn(3, 2, 3), torch.rand(3, 2)
    order = torch.tensor([2, 0, 1])
    found = similarity_weights(query, prototypes, mass)
    torch.testing.assert_close(similarity_weights(query, prototypes[order], mass[order]), found[:, order])
