"""Options of teachers: what fits together, and that new ones leave recorded runs as they are."""

from typing import Any

import pytest
from pydantic import ValidationError

from kvdistill.config import RunConfig, parse, resolved, with_defaults
from kvdistill.config.teachers import OwnTeacher, TeacherSection, live_of

NEW = {"revision", "device", "device_map", "rope_scaling", "weight", "tokens", "heads"}
TREE = {"model": {"name": "base"}, "data": {"train": {"kind": "synthetic"}}}


def test_a_run_recorded_without_the_new_options_equals_one_with_their_defaults() -> None:
    teachers = {"a": {"kind": "own"}, "b": {"kind": "live", "name": "x"}}
    now = resolved(parse(TREE | {"teachers": teachers, "teacher": {"name": "y"}}, "a test"))
    before = {**now, "teachers": {name: dict(each) for name, each in now["teachers"].items()}}
    before["teacher"] = {name: value for name, value in now["teacher"].items() if name not in NEW}
    for each in before["teachers"].values():
        for name in NEW & each.keys():
            del each[name]
    assert before != now
    assert with_defaults(before) == now


def test_the_defaults() -> None:
    section = TeacherSection(name="x")
    assert {name: getattr(section, name) for name in sorted(NEW)} == {
        "device": None,
        "device_map": None,
        "heads": "all",
        "revision": None,
        "rope_scaling": None,
        "tokens": "average",
        "weight": 1.0,
    }
    assert OwnTeacher().weight == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -0.5}, "greater than or equal to 0"),
        ({"device": "cpu", "device_map": "auto"}, "device and device_map both name where"),
        (
            {"rope_scaling": {"rope_type": "ntkk", "factor": 2}},
            "rope_scaling: rope_type is 'ntkk': give one",
        ),
        ({"tokens": "first"}, "'average' or 'last'"),
        ({"heads": [0, 2, 0]}, r"heads \[0, 2, 0\] names a head twice"),
        ({"heads": []}, "heads is empty"),
        ({"heads": [-1]}, "greater than or equal to 0"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TeacherSection(name="x", **options)


def test_weights_decide_which_teachers_count() -> None:
    big = {"kind": "live", "name": "x"}
    config = RunConfig.model_validate(TREE | {"teachers": {"a": {"kind": "own"}, "big": big | {"weight": 0}}})
    assert list(config.active_teachers) == ["a"]
    assert config.bridge_method.kind == "same"
    with pytest.raises(ValidationError, match=r"every teacher has weight 0 \(teacher\.weight, teachers\.a"):
        RunConfig.model_validate(
            TREE | {"teacher": {"name": "x", "weight": 0}, "teachers": {"a": {"kind": "own", "weight": 0}}}
        )


def test_separate_models_are_told_from_the_students_own_mode() -> None:
    teachers = {"own": {"kind": "own"}, "a": {"kind": "live", "name": "x", "weight": 0}}
    teachers["b"] = {"kind": "live", "name": "y"}
    config = parse(TREE | {"teachers": teachers}, "a test")
    assert {name: section.name for name, section in live_of(config.all_teachers).items()} == {
        "a": "x",
        "b": "y",
    }
    assert list(config.live_teachers) == ["b"]
