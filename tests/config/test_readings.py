"""Teachers that read other texts: the order that follows, and what does not fit together."""

from typing import Any

import pytest

from kvdistill.align import NearestSlot, SoftSlot
from kvdistill.config import RunConfig, parse, resolved, with_defaults
from kvdistill.config.readings import sampled_files
from kvdistill.target.methods import Lower

SHARED = {"method": {"kind": "rkv", "selection": "shared"}}


def told(
    reads: dict[str, Any] | None = None, target: dict[str, Any] | None = None, **sections: Any
) -> RunConfig:
    """A run with a teacher that reads something, and a second one that reads the student's text."""
    teacher = {"kind": "live", "name": "x"} | (reads or {})
    tree: dict[str, Any] = {"model": {"name": "base"}, "data": {"train": {"kind": "synthetic"}}}
    tree |= {"teachers": {"a": teacher, "b": {"kind": "live", "name": "y"}}, "target": target or SHARED}
    return parse(tree | sections, "a test")


def test_the_order_follows_from_what_teachers_read() -> None:
    assert told().lower_order == "align_first"
    assert told({"reads": "verbose"}).lower_order == "compress_first"
    assert told(bridge={"kind": "lower", "order": "compress_first"}).lower_order == "compress_first"
    # A teacher that is not loaded reads nothing.
    assert told({"reads": "verbose", "weight": 0}, bridge={"kind": "lower"}).lower_order == "align_first"


def test_slots_are_matched_as_the_bridge_says() -> None:
    for kind, expected in (("nearest", NearestSlot()), ("soft", SoftSlot())):
        bridge = told(bridge={"kind": "lower", "match": {"kind": kind}}).bridge
        assert isinstance(bridge, Lower)
        assert bridge.match == expected
    now = resolved(told(bridge={"kind": "lower"}))
    before = {**now, "bridge": {"kind": "lower", "adapters": None}}
    assert with_defaults(before) == now


def test_missing_chains_come_from_the_teachers_unless_the_data_say() -> None:
    own = {"reads": "own", "traces": "t"}
    assert sampled_files(told(own)) == ["t"]
    data = {"train": {"kind": "synthetic"}, "gold_share": 0.5}
    assert sampled_files(told(own, data=data | {"traces": []})) == []
    assert sampled_files(told(data=data | {"traces": ["u", "v"]})) == ["u", "v"]


REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    (
        {"reads": {"reads": "terse"}, "bridge": {"kind": "lower", "order": "align_first"}},
        r"bridge\.order align_first aligns tokens of one text, and teachers\.a\.reads names another",
    ),
    (
        {"reads": {"reads": "terse"}, "target": {"method": {"kind": "rkv"}}},
        r"set target\.method\.selection to shared \(kind rkv\)",
    ),
    (
        {"reads": {"reads": "terse"}, "target": {"method": {"kind": "full"}}},
        r"target\.method\.kind full keeps every",
    ),
    (
        {"reads": {"reads": "terse"}, "loss": {"kv": {"frame": "as_cached"}}},
        r"set loss\.kv\.frame to pre_rope",
    ),
    (
        {"reads": {"reads": "terse", "adapter": {"kind": "learned"}}},
        r"teachers\.a\.adapter\.kind learned compares caches token by token",
    ),
    ({"reads": {"reads": "own"}}, r'teachers\.a: reads = "own" and traces belong together'),
    ({"reads": {"traces": "t"}}, r'teachers\.a: reads = "own" and traces belong together'),
    ({"reads": {"draw": 1}}, r"teachers\.a: draw chooses among sampled chains"),
    (
        {"data": {"train": {"kind": "file", "path": "x", "streaming": True, "limit": 9}, "gold_share": 0.5}},
        r"data\.train\.streaming: rows of a stream keep their own chains",
    ),
    ({"bridge": {"kind": "lower", "order": "compres_first"}}, r"compress_first"),
    ({"bridge": {"kind": "lower", "match": {"kind": "sof"}}}, r"bridge\.match.*soft"),
)


@pytest.mark.parametrize(("sections", "sentence"), REFUSED)
def test_what_does_not_fit_together_is_refused(sections: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        told(**sections)


def test_lift_reads_other_texts_without_an_order() -> None:
    assert told({"reads": "terse"}, {"method": {"kind": "rkv"}}, bridge={"kind": "lift"}).reads_teachers
