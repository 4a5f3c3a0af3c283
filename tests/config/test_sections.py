"""Sections: closed, frozen, each option with an owner; what is built from them."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args

import pytest
import torch
from pydantic import BaseModel, ValidationError

from kvdistill.align import Ratio
from kvdistill.compress import CompressorMethod, Full
from kvdistill.config.explain import members, tag_of
from kvdistill.config.sections import FullTuning, LatentSection, Lora, ModelSection, RunConfig, TeacherSection
from kvdistill.data import Arith, Chain, Chat, Plain
from kvdistill.data.bpe import ByteBPE
from kvdistill.target import Control

TREE: dict[str, Any] = {
    "model": {"config": {"model_type": "llama"}},
    "data": {"train": {"kind": "synthetic"}},
}


def every_class(kind: Any, seen: set[Any] | None = None) -> Iterator[Any]:
    """Every section and method that a configuration can hold."""
    seen = set() if seen is None else seen
    for member in members(kind) or [kind]:
        section = isinstance(member, type) and issubclass(member, BaseModel)
        if not (section or is_dataclass(member)) or member in seen:
            continue
        seen.add(member)
        yield member
        below = (
            [f.annotation for f in member.model_fields.values()]
            if section
            else [f.type for f in fields(member)]
        )
        for each in below:
            yield from every_class(each, seen)


def test_the_unions_are_closed_and_told_apart_by_kind() -> None:
    found = set(every_class(RunConfig))
    assert found >= {
        *get_args(CompressorMethod),
        *get_args(Control),
        Lora,
        FullTuning,
        Chain,
        Arith,
        Plain,
        Chat,
    }
    for union in (CompressorMethod, Control, Chain | Arith, Plain | Chat, Lora | FullTuning):
        tags = [tag_of(kind) for kind in get_args(union)]
        assert None not in tags
        assert len(set(tags)) == len(tags)


def test_every_section_is_frozen_and_refuses_strangers() -> None:
    sections = [
        kind for kind in every_class(RunConfig) if isinstance(kind, type) and issubclass(kind, BaseModel)
    ]
    assert len(sections) >= 10
    for section in sections:
        assert section.model_config.get("frozen"), section
        assert section.model_config.get("extra") == "forbid", section
        assert section.__doc__, section


def test_every_option_without_a_default_is_one_that_nobody_can_guess() -> None:
    required = {
        f"{kind.__name__}.{name}"
        for kind in every_class(RunConfig)
        if isinstance(kind, type) and issubclass(kind, BaseModel)
        for name, field in kind.model_fields.items()
        if field.is_required()
    }
    assert required == {
        "RunConfig.model",
        "RunConfig.data",
        "DataSection.train",
        "FileData.path",
        "HubData.name",
        "TeacherSection.name",
    }


@pytest.mark.parametrize("kind", get_args(CompressorMethod), ids=tag_of)
def test_every_compressor_can_be_named(kind: Any) -> None:
    config = RunConfig.model_validate(TREE | {"target": {"method": {"kind": tag_of(kind)}}})
    assert config.target.method == kind()
    keeps = config.target.method.keeps_tokens
    axis = config.loss.on_axis_of("x", keeps).kv.axis
    assert axis == ("tokens" if kind is Full else "slots")


BY_TASK = {"kind": "lower", "calibration_target": "task"}


def test_teachers_by_short_names() -> None:
    teachers = {"a": {"kind": "own"}, "big": {"kind": "live", "name": "x"}}
    config = RunConfig.model_validate(TREE | {"teachers": teachers, "teacher": {"name": "y"}})
    assert list(config.all_teachers) == ["teacher", "a", "big"]
    assert config.bridge_method.kind == "lower"
    assert RunConfig.model_validate(TREE | {"teachers": {"a": {"kind": "own"}}}).bridge_method.kind == "same"
    for wrong, message in (
        ({"teachers": {"a.b": {"kind": "own"}}}, "String should match pattern"),
        ({"teacher": {"name": "x"}, "teachers": {"teacher": {"kind": "own"}}}, "two teachers of one name"),
        ({"teacher": {"name": "x"}, "bridge": {"kind": "same"}}, r"set bridge\.kind to lower or lift"),
        (
            {"teachers": {"big": {"kind": "live", "name": "x", "layers": {"kind": "cka"}}}},
            r"big\.layers\.kind cka is measured at calibration, .* lift .* set bridge\.kind to lower",
        ),
        ({"teacher": {"name": "x"}, "loss": {"attention_weight": 1}}, "other heads than the student's"),
        (
            {"teacher": {"name": "x"}, "bridge": BY_TASK, "target": {"method": {"kind": "full"}}},
            r"calibration_target task .*target\.method\.kind full keeps all tokens",
        ),
        (
            {"teacher": {"name": "x", "adapter": {"kind": "repeat"}}, "bridge": BY_TASK},
            r"calibration_target task .*set teachers\.NAME\.adapter\.kind to ridge",
        ),
    ):
        with pytest.raises(ValidationError, match=message):
            RunConfig.model_validate(TREE | wrong)


def test_cot_training_asks_nothing_of_the_target() -> None:
    """A window as wide as the slots is refused for latents, and nobody's business without them."""
    tree = TREE | {"target": {"method": {"kind": "rkv_decode"}}, "latent": {"slots": 4}}
    with pytest.raises(ValidationError, match="window of 8 fills slots=4"):
        RunConfig.model_validate(tree)
    assert RunConfig.model_validate(tree | {"training": {"task": "cot"}}).latent.slots == 4


def test_a_model_has_one_source() -> None:
    assert ModelSection(name="x").config is None
    for both in ({}, {"name": "x", "config": {}}):
        with pytest.raises(ValidationError, match="give either model.name"):
            ModelSection(**both)


def test_a_new_tokenizer_is_for_a_new_backbone() -> None:
    new = {"kind": "byte_bpe", "vocab": 300}
    section = ModelSection.model_validate({"config": {"model_type": "gpt2"}, "new_tokenizer": new})
    assert section.new_tokenizer == ByteBPE(vocab=300)
    for other in ({"name": "x"}, {"config": {}, "tokenizer": "x"}):
        with pytest.raises(ValidationError, match="new_tokenizer is trained for a new backbone: give model"):
            ModelSection.model_validate(other | {"new_tokenizer": new})


def test_sections_do_not_change() -> None:
    section = LatentSection(slots=3, passes=1)
    with pytest.raises(ValidationError, match="frozen"):
        section.slots = 4  # pyright: ignore


def test_reading_a_configuration_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    RunConfig.model_validate(
        TREE | {"target": {"method": {"kind": "random"}, "control": {"kind": "other_sample"}}}
    )
    assert torch.equal(torch.get_rng_state(), before)


TEACHER: dict[str, Any] = {"teacher": {"name": "big"}}
FILE: dict[str, Any] = {"kind": "file", "path": "rows.jsonl"}


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        (
            TEACHER | {"loss": {"attention_weight": 0.1}},
            r"a separate teacher's attention has other heads .*; set loss\.attention_weight to 0",
        ),
        (
            TEACHER | {"loss": {"kv": {"frame": "as_cached"}}},
            r"turns its keys in its own way; set loss\.kv\.frame to 'pre_rope'",
        ),
        (
            {"data": {"train": FILE | {"streaming": True}}},
            r"the length of a stream is not known; give training\.max_steps, or data\.train\.lim",
        ),
        (
            {"data": {"train": FILE, "test": FILE | {"streaming": True}}},
            r"data\.test\.streaming: only training is streamed; data\.test\.limit",
        ),
        (
            {"data": {"train": FILE, "validation": FILE | {"streaming": True}}},
            r"data\.validation\.streaming: only training is streamed",
        ),
        ({"data": {"train": FILE | {"limit": 0}}}, "greater than or equal to 1"),
        ({"data": {"train": FILE, "max_bad_rows": 1.5}}, "less than or equal to 1"),
        ({"data": {"train": FILE, "on_long": "cut"}}, "should be 'drop' or 'error'"),
        ({"data": {"train": {"kind": "hub"}}}, r"data\.train\.hub\.name\n  Field required"),
        ({"data": {"train": {"kind": "file", "path": ""}}}, "at least 1 character"),
        ({"training": {"lr": float("inf")}}, "finite number"),
        ({"training": {"max_steps": 0}}, "give 1 or more, or -1 to leave it to epochs"),
        ({"training": {"seed": -1}}, "greater than or equal to 0"),
        ({"training": {"output_dir": ""}}, "at least 1 character"),
        (
            {"training": {"stop_at_accuracy": 0.9}},
            r"there is no validation set to measure it on; give data\.validation",
        ),
        (
            {"target": {"control": {"kind": "shuffled"}}, "loss": {"kv_weight": 0}},
            r"target\.control changes the KV target, and loss\.kv_weight is 0",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(sections: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        RunConfig.model_validate(TREE | sections)


def test_what_goes_together_is_taken() -> None:
    for sections in (
        TEACHER | {"loss": {"kv_weight": 0}},
        TEACHER | {"target": {"method": {"kind": "full"}, "control": {"kind": "other_sample"}}},
        {"data": {"train": FILE | {"streaming": True, "limit": 5}}},
        {
            "data": {"train": {"kind": "hub", "name": "owner/set", "config": 2, "streaming": True}},
            "training": {"max_steps": 3},
        },
        {"model": {"name": "base", "device_map": {"": 0}}},
    ):
        RunConfig.model_validate(TREE | sections)
    data = RunConfig.model_validate(TREE | {"data": {"train": FILE}}).data
    assert (data.on_long, data.max_bad_rows, data.max_length) == ("drop", 0.01, 1024)
    assert TeacherSection(name="big").layers == Ratio()
    assert not (ModelSection(name="x").trust_remote_code or TeacherSection(name="x").trust_remote_code)


@pytest.mark.parametrize(
    ("control", "task", "paired"),
    [("shuffled", "latent", True), ("mean_target", "latent", False), ("shuffled", "direct", False)],
)
def test_samples_are_paired_where_a_control_asks_for_it(control: str, task: str, paired: bool) -> None:
    config = RunConfig.model_validate(
        TREE | {"target": {"control": {"kind": control}}, "training": {"task": task}}
    )
    assert config.paired == paired
