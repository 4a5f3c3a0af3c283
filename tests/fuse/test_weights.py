"""Weights by question: standardization, competence, similarity, and the terms of a router, by hand."""

import math

import pytest
import torch

from kvdistill.fuse.methods import Competence, Draw, FusionShape, Learnable, Similarity
from kvdistill.fuse.weights import RouteInputs, SimilarityWeights
from kvdistill.kv import Routing

SHAPE = FusionShape(("a", "b"), (3.0, 1.0), 2, 3)


def test_competence_is_the_weight_and_unknown_is_even() -> None:
    weights = Competence(competence="c").module(SHAPE)
    assert weights is not None
    found = weights(RouteInputs(None, torch.tensor([[0.9, 0.1], [0.0, 0.0]])))
    torch.testing.assert_close(found, torch.tensor([[0.9, 0.1], [0.5, 0.5]]))


def test_a_draw_takes_one_teacher_that_is_present_by_the_weights_of_the_sections() -> None:
    weights = Draw().module(SHAPE)
    assert weights is not None
    ids = tuple(map(str, range(4000)))
    present = torch.ones(4000, 2, dtype=torch.bool)
    present[:1000, 0] = False
    found = weights(RouteInputs(sample_ids=ids, step=3, present=present))
    assert found.sum(-1).eq(1).all() and found.max(-1).values.eq(1).all()
    assert found[:1000, 1].all()
    # Rates 3 and 1: .75 of 3000, with a standard deviation of .008.
    assert found[1000:, 0].mean().item() == pytest.approx(0.75, abs=0.03)
    again = weights(RouteInputs(sample_ids=ids[2000:], step=3, present=present[2000:]))
    assert torch.equal(again, found[2000:])
    other = weights(RouteInputs(sample_ids=ids, step=4, present=present))
    # Equal by chance: .75 ** 2 + .25 ** 2.
    assert (other == found)[1000:, 0].float().mean().item() == pytest.approx(0.625, abs=0.04)


def test_a_section_of_weight_0_is_never_drawn() -> None:
    weights = Draw().module(FusionShape(("a", "b"), (0.0, 1.0), 2, 3))
    assert weights is not None
    present = torch.ones(50, 2, dtype=torch.bool)
    found = weights(RouteInputs(sample_ids=tuple(map(str, range(50))), present=present))
    assert found[:, 1].all()


def test_similarity_by_hand() -> None:
    weights = Similarity(competence="c", temperature=1.0).module(SHAPE)
    assert isinstance(weights, SimilarityWeights)
    weights.set_prototypes(torch.tensor([[[1.0, 0.0]], [[-1.0, 0.0]]]), torch.full((2, 1), 0.5), torch.eye(2))
    found = weights(RouteInputs(torch.tensor([[7.0, 0.0]])))
    # softmax(1, -1)
    assert found[0, 0].item() == pytest.approx(1 / (1 + math.exp(-2)))


def test_terms_by_hand() -> None:
    weights = Learnable(
        competence="c", entropy="specialized", entropy_strength=2.0, load_balance=4.0, competence_weight=3.0
    ).module(SHAPE)
    assert weights is not None
    alpha = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    routing = Routing(alpha, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    found = weights.terms(routing)
    # Entropies 0 and 1 of log 2: mean .5. Mean weights (.75, .25). Cross-entropies 0 and log 2.
    expected = 2 * 0.5 + 4 * (1 - 0.562335 / math.log(2)) + 3 * math.log(2) / 2
    assert found.loss.item() == pytest.approx(expected, abs=1e-4)
    assert found.metrics["weight_a"].item() == pytest.approx(0.75)
    assert found.metrics["route_ce"].item() == pytest.approx(math.log(2) / 2)
    assert found.metrics["route_agreement"].item() == 1


def test_a_router_does_not_train_its_query() -> None:
    weights = Learnable(competence="c", per_layer=True).module(SHAPE)
    assert weights is not None
    query = torch.randn(4, 2, requires_grad=True)
    found = weights(RouteInputs(query))
    assert found.shape == (4, 3, 2)
    found[..., 0].sum().backward()
    assert query.grad is None


def test_statistics_of_questions_move_where_the_student_is_read_as_it_is() -> None:
    query = torch.tensor([[2.0, 0.0], [4.0, 0.0]])
    for query_of, mean in (("start", 0.0), ("current", 0.3 * 3)):
        weights = Learnable(competence="c", query=query_of).module(SHAPE)  # pyright: ignore
        assert weights is not None
        weights.observe(query)
        assert weights.norm.mean[0].item() == pytest.approx(mean)  # pyright: ignore
