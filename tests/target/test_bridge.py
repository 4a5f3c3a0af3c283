"""Pairs of target and student in one geometry, and what all bridges share."""

import torch

from kvdistill.compress import Uniform
from kvdistill.kv import TeacherCache
from kvdistill.target.bridge import SameBridge
from kvdistill.target.build import TargetBuilder
from kvdistill.target.controls import MeanTarget, NoControl
from pico_losses import cache


def builders(*names: str) -> dict[str, TargetBuilder]:
    return {name: TargetBuilder(Uniform(), NoControl(), 3) for name in names}


def test_same_pairs_each_target_with_the_student_as_it_is() -> None:
    student, caches = cache(), [TeacherCache(name, cache(slots=6)) for name in "ab"]
    weights = torch.tensor([1.0, 0.0])
    pairs = SameBridge(builders("a", "b"))(caches, student, torch.arange(2), 0, weights)
    assert [pair.student is student for pair in pairs] == [True, True]
    for pair, each in zip(pairs, caches, strict=True):
        assert torch.equal(pair.target.layers[0].keys, Uniform().compress(each.kv, 3).layers[0].keys)
        assert pair.layer_weights is weights


def test_diagnostics_are_named_where_there_are_several() -> None:
    from kvdistill.compress import RKV

    several = {name: TargetBuilder(RKV(), NoControl(), 2) for name in "ab"}
    bridge, kv = SameBridge(several), cache(slots=4)
    assert "importance_max" in bridge.diagnostics([TeacherCache("a", kv)])
    both = bridge.diagnostics([TeacherCache(name, kv) for name in "ab"])
    assert {"a_importance_max", "b_importance_max"} <= both.keys()


def test_validation_has_no_control_and_moves_no_mean() -> None:
    """The mean over the batch replaces the target in training, and not in validation."""
    bridge = SameBridge({"a": TargetBuilder(Uniform(), MeanTarget(), 3)})
    student, teacher = cache(), cache(slots=6)
    (pair,) = bridge.without_control()([TeacherCache("a", teacher)], student, torch.arange(2), 0)
    assert torch.equal(pair.target.layers[0].keys, Uniform().compress(teacher, 3).layers[0].keys)
    assert bridge.builders["a"].mean is None
    (trained,) = bridge([TeacherCache("a", teacher)], student, torch.arange(2), 0)
    assert not torch.equal(trained.target.layers[0].keys, pair.target.layers[0].keys)
