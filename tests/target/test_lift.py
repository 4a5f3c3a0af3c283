"""Pairs of target and student through a projector, one teacher or several."""

import torch
from torch import Tensor

from kvdistill.align import LayerMap, LayerPair, Projector
from kvdistill.compress import Uniform
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
