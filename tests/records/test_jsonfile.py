"""JSON files are whole or not there, and every broken one is refused by file and key."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvdistill.records.jsonfile import DEEPEST, JsonFile, by_dotted_name, depth_of, parse_json, write_atomic


@dataclass(frozen=True, kw_only=True)
class Part:
    size: int
    double: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "double", 2 * self.size)


@dataclass(frozen=True, kw_only=True)
class Thing(JsonFile):
    name: str
    kind: Literal["big", "small"]
    weight: float
    maybe: int | None
    by_size: dict[int, float]
    rows: list[list[str]]
    free: dict[str, Any]
    parts: dict[str, Part]
    list_of_parts: list[Part] = field(default_factory=list)
    note: str | None = None


THING = Thing(
    name="ünï",
    kind="big",
    weight=2.0,
    maybe=None,
    by_size={1: 0.5, 12: 1.0},
    rows=[["a"], []],
    free={"x": [1, {"y": None}]},
    parts={"one": Part(size=3)},
    list_of_parts=[Part(size=4)],
)


def broken(folder: Path, **changes: object) -> Path:
    """A file of THING with some keys changed; ``...`` drops the key."""
    path = folder / "thing.json"
    THING.write(path)
    document = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(
        json.dumps({key: value for key, value in document.items() if value is not ...}), encoding="utf-8"
    )
    return path


def test_what_is_written_is_read_and_defaults_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "thing.json"
    THING.write(path)
    assert Thing.read(path) == THING
    document = json.loads(path.read_text(encoding="utf-8"))
    assert list(document)[:3] == ["version", "name", "kind"] and document["version"] == 1
    assert document["parts"] == {"one": {"size": 3, "double": 6}}
    assert document["list_of_parts"] == [{"size": 4, "double": 8}]
    assert document["maybe"] is None and "note" not in document


@given(
    weight=st.floats(allow_nan=False, allow_infinity=False),
    name=st.text(st.characters(codec="utf-8")),
    sizes=st.dictionaries(st.integers(0, 99), st.just(1.0)),
)
def test_any_numbers_and_words_survive(
    tmp_path_factory: pytest.TempPathFactory, weight: float, name: str, sizes: dict[int, float]
) -> None:
    path = tmp_path_factory.mktemp("any") / "thing.json"
    thing = Thing(name=name, kind="small", weight=weight, maybe=1, by_size=sizes, rows=[], free={}, parts={})
    thing.write(path)
    assert Thing.read(path) == thing


def test_numpy_numbers_become_plain_ones_and_whole_numbers_floats(tmp_path: Path) -> None:
    path = broken(tmp_path, weight=3)
    assert Thing.read(path).weight == 3.0 and isinstance(Thing.read(path).weight, float)
    numbers = {"a": np.float32(0.5), "b": np.arange(3), "c": np.int64(4)}
    Thing(name="", kind="big", weight=1.0, maybe=None, by_size={}, rows=[], free=numbers, parts={}).write(
        path
    )
    assert Thing.read(path).free == {"a": 0.5, "b": [0, 1, 2], "c": 4}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": ..., "name": ...}, "missing key name, weight. Write"),
        ({"colour": 1}, "unknown key colour. Remove it"),
        ({"version": 2}, "version is 2, this kvdistill reads 1"),
        ({"version": ...}, "version is None, this kvdistill reads 1"),
        ({"name": 3}, "name should be str, not 3"),
        ({"maybe": True}, "maybe should be int, not True"),
        ({"kind": "huge"}, "kind should be 'big' or 'small', not 'huge'"),
        ({"rows": [["a"], [1]]}, r"rows\[1\]\[0\] should be str, not 1"),
        ({"by_size": {"x": 1.0}}, "by_size key should be int, not 'x'"),
        ({"by_size": {"1": "x"}}, "by_size.1 should be float, not 'x'"),
        ({"parts": {"one": {"double": 6}}}, "parts.one.missing key size. Write"),
        ({"parts": {"one": 1}}, "parts.one should be a JSON object, not 1"),
        ({"parts": {"one": {"size": 3, "double": 7}}}, "parts.one.double is 7, the other keys give 6"),
    ],
)
def test_a_broken_file_is_refused_by_file_and_key(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=f"thing.json: {message}"):
        Thing.read(broken(tmp_path, **changes))


def test_a_file_that_is_missing_or_no_json_names_the_command_that_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "thing.json"
    assert Thing.find(path) is None
    with pytest.raises(FileNotFoundError, match=r"thing.json does not exist: `kvdistill train` writes it."):
        Thing.read(path)
    path.write_text('{"version": 1')
    with pytest.raises(
        ValueError, match=r"thing.json is no JSON \(.*line 1.*\): write it again with `kvdistill train`."
    ):
        Thing.find(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="should hold one JSON object"):
        Thing.read(path)


def test_a_number_that_is_not_finite_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    path = broken(tmp_path)
    before = path.read_bytes()
    bad = Thing(name="", kind="big", weight=float("nan"), maybe=None, by_size={}, rows=[], free={}, parts={})
    with pytest.raises(ValueError, match="thing.json: weight holds a number that is not finite. Repair"):
        bad.write(path)
    with pytest.raises(TypeError, match="a set does not go into a record"):
        Thing(
            name="", kind="big", weight=1.0, maybe=None, by_size={}, rows=[], free={"a": {1}}, parts={}
        ).write(path)
    assert path.read_bytes() == before


def test_a_write_that_dies_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "text"
    write_atomic(path, "old")

    def die(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_json_that_no_one_can_walk_through_is_an_error_of_its_value() -> None:
    assert depth_of(3) == 0
    assert depth_of({"a": [1, {"b": 2}], "c": 3}) == 3
    most = "[" * DEEPEST + "]" * DEEPEST
    assert depth_of(parse_json(most)) == DEEPEST
    assert parse_json("[" + "[]," * DEEPEST + "[]]") == [[]] * (DEEPEST + 1)
    for text in (f"[{most}]", '{"a":' * 100_000, "[" * 1000 + "]" * 1000):
        with pytest.raises(ValueError, match="nested more than 100 levels deep|Expecting value|Extra data"):
            parse_json(text)
    with pytest.raises(ValueError, match="it holds a number of thousands of digits"):
        parse_json("9" * 5000)


def test_a_deep_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "thing.json"
    path.write_text('{"version": 1, "name": ' + "[" * 5000 + "]" * 5000 + "}")
    with pytest.raises(ValueError, match=r"thing.json is no JSON \(it is nested more than 100 levels deep\)"):
        Thing.read(path)


def test_nested_options_are_named_by_their_path() -> None:
    tree = {"seed": 0, "training": {"lr": 1e-3, "adam": {"beta2": 0.98}}, "lora": {}, "teacher": None}
    assert by_dotted_name(tree) == {
        "seed": 0,
        "training.lr": 1e-3,
        "training.adam.beta2": 0.98,
        "lora": {},
        "teacher": None,
    }
