"""A teacher's model: revision, device, rotary scaling, memory."""

from pathlib import Path
from typing import Any

import pytest
import torch

import pico
from kvdistill.align.rope_scale import Linear, NTKAware, Yarn, ntk_base
from kvdistill.capture.rotation import geometry, measure
from kvdistill.config import TeacherSection
from kvdistill.run.student import build_student
from kvdistill.run.teacher_models import open_teacher, option_of, scaled_config
from pico_students import bring_code, config, save_base

NTK = {"rope_type": "ntk", "factor": 4.0}


def section(name: Path | str, **options: Any) -> TeacherSection:
    return TeacherSection(name=str(name), **options)


def frequencies(model: Any) -> torch.Tensor:
    rope = geometry(measure(model)).layers[0].rope
    assert rope is not None
    return rope.inv_freq


def test_the_option_is_the_one_that_was_configured() -> None:
    assert (option_of("teacher"), option_of("big")) == ("teacher", "teachers.big")


@pytest.mark.parametrize("place", [{"device": "cpu"}, {"device_map": {"": "cpu"}}, {"device_map": "cpu"}])
def test_a_teacher_is_loaded_where_it_is_told(base_folder: Path, place: dict[str, Any]) -> None:
    opened = open_teacher("big", section(base_folder, **place))
    assert opened.model.device == torch.device("cpu")
    assert (opened.delimiters, opened.template) == (None, None)


def test_places_that_are_not_there_are_refused(base_folder: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^teachers\.big\.device is 'cuda:77', and .*base cannot be put there"
    ):
        open_teacher("big", section(base_folder, device="cuda:77"))
    with pytest.raises(
        ValueError, match=r"^teachers\.big\.device_map is 'balancd', and .* leave device_map out"
    ):
        open_teacher("big", section(base_folder, device_map="balancd"))


def test_a_folder_has_no_revisions(base_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"^teacher\.revision is 'v2', but .*base is a folder"):
        open_teacher("teacher", section(base_folder, revision="v2"))


def test_code_that_comes_with_a_teacher_is_named_by_its_own_option(base_folder: Path, tmp_path: Path) -> None:
    own = bring_code(base_folder, tmp_path / "own", "own")
    with pytest.raises(ValueError, match=r"say --teachers\.big\.trust_remote_code true\.$"):
        open_teacher("big", section(own))


def test_a_scaled_teacher_turns_as_scaled(base_folder: Path, tmp_path: Path) -> None:
    """Eight channels: theta' is 10000 · 4^(8/6); the window is four times as long; weights are the same."""
    plain, scaled = (
        open_teacher("big", section(base_folder, rope_scaling=each)).model for each in (None, NTK)
    )
    base = ntk_base(1e4, 4.0, 8)
    assert frequencies(scaled).tolist() == pytest.approx([base ** (-i / 4) for i in range(4)])
    assert frequencies(plain).tolist() == pytest.approx([1e4 ** (-i / 4) for i in range(4)])
    assert (plain.config.max_position_embeddings, scaled.config.max_position_embeddings) == (128, 512)
    assert all(map(torch.equal, plain.state_dict().values(), scaled.state_dict().values()))
    build_student(config()).save_pretrained(tmp_path / "student")
    student = open_teacher("big", section(tmp_path / "student", rope_scaling=NTK))
    assert torch.equal(frequencies(student.model), frequencies(scaled))


def test_scaling_what_does_not_turn_is_refused(base_folder: Path, tmp_path: Path) -> None:
    save_base(tmp_path / "learned", model_type="gpt2")
    with pytest.raises(ValueError, match=r"^teachers\.a\.rope_scaling: a gpt2 model has no rotary positions"):
        open_teacher("a", section(tmp_path / "learned", rope_scaling=NTK))
    llama3 = {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    llama3 |= {"rope_theta": 1e4, "original_max_position_embeddings": 64}
    save_base(tmp_path / "scaled", rope_parameters=llama3)
    yarn = {"rope_type": "yarn", "factor": 2.0}
    with pytest.raises(
        ValueError, match=r"^teachers\.a\.rope_scaling: the model's own rotary scaling is llama3"
    ):
        open_teacher("a", section(tmp_path / "scaled", rope_scaling=yarn))
    run = config(model={"name": str(base_folder), "tuning": {"r": 2}})
    build_student(run).save_pretrained(tmp_path / "adapters")
    with pytest.raises(ValueError, match=r"adapters holds adapters of .*base, whose rotation is set there"):
        open_teacher("a", section(tmp_path / "adapters", rope_scaling=NTK))


def test_layers_with_a_window_keep_their_frequencies() -> None:
    """Gemma 3: base 10000 in windowed layers, a million in the others, of which theta' is made."""
    before = pico.CONFIGS["gemma3"]()
    after = scaled_config("teacher", before, NTK)
    own, scaled = before.rope_parameters, after.rope_parameters
    assert scaled["sliding_attention"] == own["sliding_attention"]
    assert scaled["full_attention"]["rope_theta"] == pytest.approx(1e6 * 4 ** (16 / 14))
    assert own["full_attention"]["rope_theta"] == 1e6


@pytest.mark.parametrize(
    ("kind", "method"),
    [("ntk", NTKAware(factor=4.0)), ("linear", Linear(factor=4.0)), ("yarn", Yarn(factor=4.0, window=128))],
)
def test_a_scaling_counts_the_channels_that_turn_alone(kind: str, method: Any) -> None:
    """StableLM turns four of a head's eight channels: theta' of ntk is 10000 · 4^(4/2)."""
    after = scaled_config("teacher", pico.CONFIGS["stablelm"](), {"rope_type": kind, "factor": 4.0})
    found, expected = frequencies(pico.from_config(after)), method.rope(1e4, 4).inv_freq
    torch.testing.assert_close(found, expected)
    if kind == "ntk":
        assert found.tolist() == pytest.approx([1.0, 160_000**-0.5])


@pytest.mark.parametrize("student", [False, True])
def test_out_of_memory_names_the_teacher(
    base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, student: bool
) -> None:
    folder = base_folder
    if student:
        folder = tmp_path / "student"
        build_student(config()).save_pretrained(folder)

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("transformers.modeling_utils.PreTrainedModel._load_pretrained_model", full)
    for place in ({}, {"device": "cpu"}):
        with pytest.raises(
            ValueError, match=r"^teachers\.big: memory ran out while .* weights take \d+ bytes"
        ):
            open_teacher("big", section(folder, **place))
