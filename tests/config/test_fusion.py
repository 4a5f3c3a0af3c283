"""``[fusion]``: what a run accepts, and the sentence for what it refuses."""

from typing import Any

import pytest

from kvdistill.config import parse, resolved
from kvdistill.config.fusion import check_fusion, require_table, with_paths
from kvdistill.fuse.methods import Fixed, Learnable, Similarity
from kvdistill.fuse.routers import GateRouter

TWO = {"a": {"kind": "live", "name": "x"}, "b": {"kind": "live", "name": "y"}}


def parsed(fusion: dict[str, Any] | None, **sections: Any) -> Any:
    tree: dict[str, Any] = {"model": {"name": "m"}, "data": {"train": {"kind": "synthetic", "num": 3}}}
    tree |= {"teachers": TWO, **sections}
    if fusion is not None:
        tree["fusion"] = fusion
    return parse(tree, "a test")


def test_the_default_is_fixed_and_equals_its_absence() -> None:
    assert parsed(None).fusion == Fixed()
    assert resolved(parsed(None)) == resolved(parsed({"kind": "fixed"}))


def test_a_router_is_chosen_by_its_kind() -> None:
    found = parsed({"kind": "learnable", "competence": "c", "router": {"kind": "gate", "hidden": 8}}).fusion
    assert found.router == GateRouter(hidden=8)


@pytest.mark.parametrize(
    ("fusion", "message"),
    [
        ({"kind": "learnable"}, "competence_weight to 0.*kvdistill competence"),
        ({"kind": "similarity"}, "fusion.competence is missing"),
        ({"kind": "competence"}, "the weights are the table's"),
        ({"kind": "learnable", "competence": "c", "entropy": "specialised"}, "mean 'specialized'"),
        ({"kind": "learnable", "competence": "c", "router": {"kind": "gates"}}, "mean 'gate'"),
        ({"kind": "similarity", "competence": "c", "temperature": 0.0}, "above 0"),
        ({"kind": "learnable", "competence": "c", "load_balance": -1.0}, "0 or more"),
    ],
)
def test_refusals(fusion: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parsed(fusion)


def test_one_teacher_and_other_bridges_are_refused() -> None:
    routed = {"kind": "similarity", "competence": "c"}
    with pytest.raises(ValueError, match="there is 1 teacher"):
        parsed(routed, teachers={"a": TWO["a"]})
    with pytest.raises(ValueError, match="bridge.kind same"):
        check_fusion(Similarity(competence="c"), ("a", "b"), "same")
    lift = {"bridge": {"kind": "lift"}}
    assert parsed(routed, **lift).fusion.kind == "similarity"
    with pytest.raises(ValueError, match="fusion.per_layer weighs the layers"):
        parsed({"kind": "learnable", "competence": "c", "per_layer": True}, **lift)


def test_without_competence_where_it_is_asked_for() -> None:
    assert parsed({"kind": "learnable", "competence_weight": 0.0}).fusion.table is None
    assert parsed({"kind": "similarity", "prototype_file": "p"}).fusion.table is None


def test_paths_are_expanded_and_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    found = with_paths(Similarity(competence="~/c", prototype_file="~/p"))
    assert found == Similarity(competence="/home/someone/c", prototype_file="/home/someone/p")
    with pytest.raises(ValueError, match="there is no table /home/someone/c"):
        require_table(with_paths(Learnable(competence="~/c")))
