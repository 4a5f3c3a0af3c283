"""Runs whose steps can be replayed, and those that are refused."""

from typing import Any

import pytest

from kvdistill.config import RunConfig, parse
from kvdistill.config.graphs import WIDTH, pad_width


def told(training: dict[str, Any], **sections: Any) -> RunConfig:
    tree = {"model": {"name": "base"}, "data": {"train": {"kind": "synthetic"}}, "training": training}
    return parse(tree | sections, "a test")


def test_width_by_hand() -> None:
    assert pad_width(told({})) == 1
    assert pad_width(told({"pad_to_multiple_of": 8})) == 8
    assert pad_width(told({"cuda_graphs": True})) == WIDTH == 16
    assert pad_width(told({"cuda_graphs": True, "pad_to_multiple_of": 1})) == 1


TWO = {name: {"kind": "live", "name": name} for name in ("a", "b")}
REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"latent": {"curriculum": {"kind": "stages"}}}, "latent.curriculum"),
    ({"target": {"control": {"kind": "other_sample"}}}, "target.control"),
    ({"teachers": TWO, "fusion": {"kind": "draw"}}, "fusion.kind draw"),
    ({"teachers": TWO, "bridge": {"kind": "lift"}}, "bridge.kind lift"),
    ({"training": {"gradient_checkpointing": True}}, "training.gradient_checkpointing"),
    ({"training": {"precision": "fp16"}}, "training.precision fp16"),
    ({"model": {"name": "base", "device_map": "auto"}}, "model.device_map"),
)


@pytest.mark.parametrize(("sections", "option"), REFUSED, ids=lambda x: x if isinstance(x, str) else "")
def test_what_changes_from_step_to_step_is_refused(sections: dict[str, Any], option: str) -> None:
    training = sections.pop("training", {})
    told(training, **sections)
    with pytest.raises(ValueError, match=rf"training\.cuda_graphs does not fit this run: {option}"):
        told({**training, "cuda_graphs": True}, **sections)
