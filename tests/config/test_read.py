"""Files, overrides, and the way back to JSON."""

import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvdistill.compress import RKV, RightCrop, RKVDecode
from kvdistill.config import (
    FileData,
    FullTuning,
    Lora,
    RunConfig,
    SyntheticData,
    changed,
    load,
    parse,
    resolved,
    with_defaults,
)
from kvdistill.data import Arith, Chain, Plain

TOML = """
[model]
name = "some/model"
[data.train]
kind = "file"
path = "train.jsonl"
[target]
method = {kind = "right_crop", selection = "shared"}
[training]
lr = 1e-4
"""


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(TOML)
    return path


def test_a_file_is_read_and_every_default_filled_in(toml: Path) -> None:
    config = load(toml)
    assert config.model.name == "some/model"
    assert config.data.train == FileData(path="train.jsonl")
    assert config.target.method == RightCrop(selection="shared")
    assert config.training.lr == 1e-4
    assert config.model.tuning == Lora(r=128, alpha=32, dropout=0.1)
    assert (config.latent.slots, config.latent.passes) == (24, 3)


@pytest.mark.parametrize(
    "words",
    [["--training.lr", "3e-4", "--latent.slots", "6"], ["--training.lr=3e-4", "--latent.slots=6"]],
    ids=["apart", "with ="],
)
def test_overrides_come_in_both_forms(toml: Path, words: list[str]) -> None:
    config = load(str(toml), words)
    assert (config.training.lr, config.latent.slots) == (3e-4, 6)
    assert config.model.name == "some/model"


def test_values_are_json_where_they_are_json(toml: Path) -> None:
    config = load(
        toml,
        [
            *("--evaluation.modes", '["latent"]'),
            *("--data.max_length", "null"),
            *("--training.progress", "false"),
            *("--model.tuning.targets", '["q_proj", "v_proj"]'),
            *("--model.special_tokens", '{"pad_token": "<pad>"}'),
            *("--data.template", '{"kind": "plain", "prompt": "So: x = 3"}'),
            *("--model.name", "2024"),
            *("--data.train.path", "a=b.jsonl"),
        ],
    )
    assert config.evaluation.modes == ("latent",)
    assert config.data.max_length is None
    assert config.training.progress is False
    assert isinstance(config.model.tuning, Lora)
    assert config.model.tuning.targets == ["q_proj", "v_proj"]
    assert config.model.special_tokens == {"pad_token": "<pad>"}
    assert config.data.template == Plain(prompt="So: x = 3")
    assert config.model.name == "2024"
    assert config.data.train == FileData(path="a=b.jsonl")


def test_a_method_is_chosen_and_set_from_the_command_line(toml: Path) -> None:
    words = ["--target.method.kind", "rkv", "--target.method.importance_weight", "0.2"]
    assert load(toml, words).target.method == RKV(importance_weight=0.2)
    assert load(toml, words[2:] + words[:2]).target.method == RKV(importance_weight=0.2), "whatever the order"


def test_another_kind_drops_the_options_of_the_one_before(toml: Path) -> None:
    assert load(toml).target.method == RightCrop(selection="shared")
    assert load(toml, ["--target.method.kind", "right_crop"]).target.method == RightCrop(selection="shared")
    assert load(
        toml, ["--target.method.kind", "rkv_decode", "--target.method.window", "4"]
    ).target.method == RKVDecode(window=4)
    words = [
        "--data.train.task.steps",
        "2",
        "--data.train.task.kind",
        "arith",
        "--data.train.kind",
        "synthetic",
    ]
    assert load(toml, words).data.train == SyntheticData(task=Arith(steps=2))
    assert load(toml, ["--model.tuning.kind", "full"]).model.tuning == FullTuning()


def test_an_option_without_its_kind_is_meant_for_the_default(toml: Path) -> None:
    config = load(
        toml, ["--model.tuning.r", "8", "--data.test", '{"kind": "synthetic", "task": {"names": 5}}']
    )
    assert config.model.tuning == Lora(r=8)
    assert config.data.test == SyntheticData(task=Chain(names=5))
    assert (
        parse(
            {
                "model": {"name": "x"},
                "data": {"train": {"kind": "file", "path": "y"}},
                "target": {"method": {}},
            },
            "",
        ).target.method
        == RKV()
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--training.lr"], "--training.lr has no value: write --training.lr value."),
        (
            ["training.lr", "3"],
            "'training.lr' is in the place of an option: write --section.option value, such as "
            "--training.lr 1e-4.",
        ),
        (["--model.name.foo", "3"], "--model.name.foo: name holds a value, not a section."),
    ],
)
def test_malformed_overrides_are_refused(toml: Path, words: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        load(toml, words)


def test_overrides_leave_the_tree_alone() -> None:
    tree = {"target": {"method": {"kind": "rkv", "importance_weight": 0.3}}}
    new = changed(tree, ["--target.method.kind", "full", "--latent.slots", "3"])
    assert new == {"target": {"method": {"kind": "full"}}, "latent": {"slots": 3}}
    assert tree == {"target": {"method": {"kind": "rkv", "importance_weight": 0.3}}}


def test_a_resolved_configuration_is_read_back_the_same(toml: Path, tmp_path: Path) -> None:
    config = load(
        toml,
        [
            "--target.control.kind",
            "shuffled",
            "--data.validation.kind",
            "synthetic",
            "--loss.kv_weight",
            "auto",
        ],
    )
    tree = json.loads(json.dumps(resolved(config)))
    assert parse(tree, "") == config
    plain, record = tmp_path / "config.json", tmp_path / "run.json"
    plain.write_text(json.dumps(tree))
    record.write_text(json.dumps({"config": tree, "seed": 0}))
    assert load(plain) == load(record) == config
    assert load(record, ["--training.seed", "7"]).training.seed == 7


@given(
    slots=st.integers(1, 40),
    weight=st.one_of(st.just("auto"), st.floats(0, 1e6)),
    method=st.sampled_from([RKV(importance_weight=0.5), RightCrop(), RKVDecode(window=1, pool=3)]),
)
def test_every_configuration_survives_json(slots: int, weight: float | str, method: object) -> None:
    slots = max(slots, 2)
    tree = {
        "model": {"config": {"model_type": "llama"}},
        "data": {"train": {"kind": "synthetic"}},
        "latent": {"slots": slots, "passes": min(3, slots)},
        "loss": {"kv_weight": weight},
        "target": {"method": method},
    }
    config = RunConfig.model_validate(tree)
    assert config.target.method == method
    assert parse(json.loads(json.dumps(resolved(config))), "") == config


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("run.toml", "lr = \nseed = 1", r"run\.toml is not TOML: .*line 1"),
        ("config.json", "{", r"config\.json is not JSON: "),
        ("config.json", "[]", r"config\.json holds no configuration: name a TOML file, or the run\.json"),
        ("run.json", '{"seed": 0}', r"run\.json holds no configuration"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=sentence):
        load(tmp_path / name)


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"There is no configuration file .*nowhere\.toml\. Shipped ones are in experiments/configs\.",
    ):
        load(tmp_path / "nowhere.toml")
    (tmp_path / "run.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"run\.toml is not (TOML|UTF-8 text)"):
        load(tmp_path / "run.toml")


def test_deep_values_are_refused_wherever_they_come_from(tmp_path: Path) -> None:
    deep = "[" * 5000 + "]" * 5000
    with pytest.raises(
        ValueError,
        match="--model.config.x: the value cannot be read, since it is nested more than 100 levels deep",
    ):
        load(None, ["--model.config.x", deep])
    with pytest.raises(ValueError, match="there is no option --model.config.a.*it is nested too deep"):
        load(None, [f"--model.config{'.a' * 5000}", "1"])
    for name, text in {
        "a.json": f'{{"model": {deep}}}',
        "b.toml": f"model = {deep}",
        "c.toml": f"{'a.' * 5000}a = 1",
    }.items():
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(
            ValueError, match=f"{name} is not .*(nested more than 100 levels deep|nested too deep)"
        ) as caught:
            load(path)
        assert len(str(caught.value)) < 300


def test_a_byte_order_mark_and_a_pipe_are_read(tmp_path: Path) -> None:
    text = '[model.config]\nmodel_type = "llama"\n[data.train]\nkind = "synthetic"\n'
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8-sig")
    marked = load(path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(text,))
    writer.start()
    assert load(pipe) == marked
    writer.join()
    json_path = tmp_path / "run.json"
    json_path.write_text(
        json.dumps({"config": {"model": {"name": "x"}, "data": {"train": {"kind": "synthetic"}}}}),
        encoding="utf-8-sig",
    )
    assert load(json_path).model.name == "x"


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/dev/zero", "/dev/zero is a device or socket: name a TOML file"),
        ("/dev", "/dev is a folder: name a TOML file"),
        ("/dev/null/x", "There is no configuration file /dev/null/x"),
        ("n" * 300, "the name is too long for this file system"),
        ("/proc/self/mem", "/proc/self/mem: it cannot be read or written"),
    ],
)
def test_what_is_no_configuration_file_is_named(path: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        load(path)


OLD = (
    TOML.replace("lr = 1e-4", 'lr = 1e-4\ntask = "explicit"')
    + """
[loss.kv]
geometry = "tokens"
[[loss.extra]]
weight = 0.5
loss = {kind = "kv", geometry = "tokens"}
"""
)
"""A file with names of an earlier version."""


def test_names_of_earlier_versions_are_read_and_not_written(tmp_path: Path) -> None:
    (tmp_path / "old.toml").write_text(OLD)
    config = load(tmp_path / "old.toml")
    assert config.training.task == "cot" and config.loss.kv.axis == "tokens"
    assert [getattr(term.loss, "axis", None) for term in config.loss.extra] == ["tokens"]
    written = json.dumps(resolved(config))
    assert "geometry" not in written and "explicit" not in written
    old = written.replace('"axis"', '"geometry"').replace('"task": "cot"', '"task": "explicit"')
    (tmp_path / "run.json").write_text(f'{{"config": {old}}}')
    assert load(tmp_path / "run.json") == config


@pytest.mark.parametrize(
    "words",
    [
        ["--training.task", "explicit", "--loss.kv.geometry", "slots"],
        ["--training.task=explicit", "--loss.kv.geometry=slots"],
        ["--training.task", "cot", "--loss.kv.axis", "slots"],
        ["--training", '{"task": "explicit"}', "--loss", '{"kv": {"geometry": "slots"}}'],
    ],
)
def test_names_of_earlier_versions_are_taken_on_the_command_line(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "old.toml").write_text(OLD)
    config = load(tmp_path / "old.toml", words)
    assert (config.training.task, config.loss.kv.axis) == ("cot", "slots")


def test_an_option_under_both_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "both.toml").write_text(f'{TOML}[loss.kv]\ngeometry = "slots"\naxis = "tokens"\n')
    sentence = r"both\.toml: loss\.kv\.geometry is the earlier name of loss\.kv\.axis: give one of them\."
    with pytest.raises(ValueError, match=sentence):
        load(tmp_path / "both.toml")


def test_options_that_were_added_since_have_their_defaults(toml: Path) -> None:
    now = resolved(load(toml))
    before = json.loads(json.dumps(now))
    del before["training"]["report"]
    assert with_defaults(before) == now
    before["training"]["gone"] = 1
    assert with_defaults(before) is before
