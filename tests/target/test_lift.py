"""Pairs of target and student through a projector, one teacher or several."""

import pytest
import torch
from torch import Tensor

from kvdistill.align import LayerMap, LayerPair, Projector
from kvdistill.compress import Uniform
from kvdistill.fuse.methods import Competence, FusionShape, Learnable
from kvdistill.fuse.weights import RouteInputs
from kvdistill.kv import Geometry, LayerGeometry, TeacherCache, TwoModes
from kvdistill.losses import KVLoss, LossInputs
from kvdistill.target.bridge import part
from kvdistill.target.build import TargetBuilder
from kvdistill.target.controls import NoControl
from kvdistill.target.lift import LiftBridge
from pico_losses import cache, output_of


def builders(*names: str) -> dict[str, TargetBuilder]:
    return {name: TargetBuilder(Uniform(), NoControl(), 3) for name in names}


def geometry(heads: int, layers: int = 2) -> Geometry:
    return Geometry((LayerGeometry(heads, 4, 5, None, "none"),) * layers)


def test_lift_brings_the_student_to_the_teachers_layers() -> None:
    """One student layer answers to two teacher layers by a third and two thirds."""
    pairs = LayerMap((LayerPair(0, 0, 1 / 3), LayerPair(0, 1, 2 / 3)))
    projector = Projector(geometry(2, 1), geometry(2), pairs)
    bridge = LiftBridge(builders("big"), {"big": projector})
    student = cache()
    (pair,) = bridge([TeacherCache("big", cache(slots=6))], student, torch.arange(2), 0)
    assert torch.allclose(pair.layer_weights, torch.tensor([1 / 3, 2 / 3]))
    assert torch.equal(pair.student.layers[1].keys, projector.move(student).layers[1].keys)
    assert {name.split(".")[0] for name, _ in bridge.named_parameters()} == {"projectors"}


def test_lift_weighs_the_losses_of_several_teachers() -> None:
    """Weights 1 and 3: the loss is a quarter of the one teacher's and three quarters of the other's."""
    pairs = LayerMap((LayerPair(0, 0, 1.0),))
    student, caches = cache(), [TeacherCache(name, cache(slots=6)) for name in "ab"]
    projectors = {name: Projector(geometry(2, 1), geometry(2, 1), pairs) for name in "ab"}

    def loss(chosen: list[TeacherCache], weights: dict[str, float]) -> Tensor:
        names = [each.teacher for each in chosen]
        bridge = LiftBridge(builders(*names), {name: projectors[name] for name in names}, weights)
        found = bridge(chosen, student, torch.arange(2), 0)
        own = output_of(student)
        return KVLoss()(LossInputs(TwoModes(own, own), found)).loss

    one, other = (loss([each], {each.teacher: 5.0}) for each in caches)
    both = loss(caches, {"a": 1.0, "b": 3.0})
    torch.testing.assert_close(both, one / 4 + 3 * other / 4)


def test_a_router_weighs_the_losses_of_each_sample_by_hand() -> None:
    """Competence (1, 0) and (1/4, 3/4): each teacher's loss of a sample counts by its share."""
    pairs = LayerMap((LayerPair(0, 0, 1.0),))
    student, caches = cache(), [TeacherCache(name, cache(slots=6)) for name in "ab"]
    projectors = {name: Projector(geometry(2, 1), geometry(2, 1), pairs) for name in "ab"}
    competence = torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    fusion = Competence(competence="c").module(FusionShape(("a", "b"), (1.0, 1.0), 1, 1))
    bridge = LiftBridge(builders("a", "b"), projectors, None, fusion)
    route = RouteInputs(None, competence)
    # The order of the caches is not that of the weights.
    merged = bridge.merge(caches[::-1], {}, student, route)
    found = bridge(merged, student, torch.arange(2), 0)
    loss = KVLoss()
    # (2 teachers, 2 samples), b first
    alone = torch.stack([loss.per_sample(pair.target, pair.student)[0] for pair in found])
    own = output_of(student)
    total = loss(LossInputs(TwoModes(own, own), found)).loss
    expected = (alone[1, 0] + 0.25 * alone[1, 1] + 0.75 * alone[0, 1]) / 2
    torch.testing.assert_close(total, expected)
    terms = bridge.routing_terms(bridge.merge(caches, {}, student, route))
    assert terms is not None
    assert terms.metrics["weight_a"].item() == 0.625
    with pytest.raises(ValueError, match="RouteInputs"):
        bridge.merge(caches, {}, student)


def test_a_router_learns_from_the_losses_and_its_metrics_are_outside_the_graph() -> None:
    pairs = LayerMap((LayerPair(0, 0, 1.0),))
    student, caches = cache(), [TeacherCache(name, cache(slots=6)) for name in "ab"]
    projectors = {name: Projector(geometry(2, 1), geometry(2, 1), pairs) for name in "ab"}
    fusion = Learnable(competence_weight=0.0).module(FusionShape(("a", "b"), (1.0, 1.0), 3, 1))
    assert fusion is not None
    bridge = LiftBridge(builders("a", "b"), projectors, None, fusion)
    merged = bridge.merge(caches, {}, student, RouteInputs(torch.randn(2, 3)))
    own = output_of(student)
    output = KVLoss()(LossInputs(TwoModes(own, own), bridge(merged, student, torch.arange(2), 0)))
    assert not any(value.requires_grad for value in output.metrics.values())
    output.loss.backward()
    assert any(each.grad is not None and each.grad.any() for each in fusion.parameters())
    assert any(name.startswith("fusion/") for name in bridge.state())


def test_what_a_bridge_carries_is_named_after_its_teacher() -> None:
    pairs = LayerMap((LayerPair(0, 0, 1.0),))
    one, other = (
        LiftBridge(builders("big"), {"big": Projector(geometry(2, 1), geometry(2, 1), pairs)})
        for _ in range(2)
    )
    torch.nn.init.normal_(one.projector("big").keys[0].weight)
    other.load_state(one.state())
    assert torch.equal(other.projector("big").keys[0].weight, one.projector("big").keys[0].weight)
    assert part(one.state(), "big/projector/").keys() == {"keys.0.weight", "values.0.weight"}


def test_a_fitted_projector_is_fixed_where_it_is_restored() -> None:
    """Only a fitted map has a bias: an older checkpoint goes on with a trained one."""
    pairs = LayerMap((LayerPair(0, 0, 1.0),))
    fitted, new, older = (
        LiftBridge(builders("big"), {"big": Projector(geometry(2, 1), geometry(2, 1), pairs)})
        for _ in range(3)
    )
    new.load_state(older.state())
    assert all(parameter.requires_grad for parameter in new.parameters())
    fitted.projector("big").fix()
    torch.nn.init.normal_(fitted.projector("big").keys[0].bias)
    new.load_state(fitted.state())
    assert torch.equal(new.projector("big").keys[0].bias, fitted.projector("big").keys[0].bias)
    assert not any(parameter.requires_grad for parameter in new.parameters())
