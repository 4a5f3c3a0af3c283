"""From data sets to samples: read whole or as a stream, with bad and long rows kept apart and said aloud."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

import pico_trained
from kvdistill.config import DataSection, HubData, SyntheticData
from kvdistill.data import Chain, DataError
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.run.samples import examples, read_data, require_files
from pico_samples import file, kept, of, row, streamed, write


@pytest.fixture(scope="module")
def model() -> LatentReasoner:
    return pico_trained.student()


# The whole data set.


def test_bad_rows_are_kept_apart_with_line_and_reason(
    model: LatentReasoner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = file(write(tmp_path / "rows.jsonl", bad=(3, 8)))
    samples = of(model, tmp_path, data)
    assert len(samples.read(data)) == 18
    first, second = kept(tmp_path)
    assert (first["where"], first["line"]) == (f"{tmp_path / 'rows.jsonl'}, line 4", 4)
    assert "has no text under 'answer'" in second["reason"]
    assert "\u2028 Zeile 8? ½ 行" in second["text"]
    said = capsys.readouterr().err
    assert samples.notes == [said.rstrip("\n")]
    assert said.startswith(
        f"2 of 20 rows of {tmp_path / 'rows.jsonl'} cannot be used and were left out; they are in"
    )


def test_too_large_a_share_of_bad_rows_stops_the_run_and_is_kept(
    model: LatentReasoner, tmp_path: Path
) -> None:
    data = file(write(tmp_path / "rows.jsonl", bad=(3, 8)))
    with pytest.raises(
        DataError,
        match=r"cannot be used: 10\.00%, more than data\.max_bad_rows = 0\.01 allows\. They are in .* or "
        r"raise",
    ):
        of(model, tmp_path, data, max_bad_rows=0.01).read(data)
    assert len(kept(tmp_path)) == 2


def test_the_quarantine_of_an_earlier_run_goes(model: LatentReasoner, tmp_path: Path) -> None:
    data = file(write(tmp_path / "rows.jsonl", bad=(3,)))
    samples = of(model, tmp_path, data)
    samples.read(data, "validation")
    assert kept(tmp_path, "validation")
    write(tmp_path / "rows.jsonl")
    samples.read(data, "validation")
    assert not list((tmp_path / "run").iterdir())
    write(tmp_path / "rows.jsonl", bad=(3,))
    streamed(samples, data)
    samples.read(data, "test")
    samples.forget()
    assert not list((tmp_path / "run").iterdir())


def test_long_rows_are_left_out_and_counted_or_refused(
    model: LatentReasoner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = file(write(tmp_path / "rows.jsonl", long=(0, 19)))
    found = of(model, tmp_path, data).read(data, "validation")
    assert [each.sample_id for each in found] == [f"rows:{number}" for number in range(2, 20)]
    said = (
        r"2 of 20 validation examples left out: 6\d tokens \(question 6\d, chain of thought \d\), more "
        r"than max_length 40"
    )
    assert re.match(said, capsys.readouterr().err)
    with pytest.raises(
        ValueError,
        match=r"Sample rows:1 has 6\d tokens .* Raise max_length, remove the sample, or set on_long='drop'",
    ):
        of(model, tmp_path, data, on_long="error").read(data)
    with pytest.raises(ValueError, match=r"Sample rows:1 has 6\d tokens"):
        streamed(of(model, tmp_path, data, on_long="error"), data)
    write(tmp_path / "rows.jsonl", 3, long=(0, 1, 2))
    with pytest.raises(
        ValueError,
        match=r"No train example is left of 3: all are longer than data\.max_length = 40\. Raise it\.",
    ):
        of(model, tmp_path, data).read(data)


def test_only_the_first_examples_are_taken(model: LatentReasoner, tmp_path: Path) -> None:
    data = file(write(tmp_path / "rows.jsonl", bad=(1,)), limit=4)
    assert [each.sample_id for each in of(model, tmp_path, data).read(data)] == [
        "rows:1",
        "rows:3",
        "rows:4",
        "rows:5",
    ]


def test_direct_reading_leaves_the_chains_of_thought_out(model: LatentReasoner, tmp_path: Path) -> None:
    data = file(write(tmp_path / "rows.jsonl"))
    plain = of(model, tmp_path, data)
    for found in (replace(plain, direct=True).read(data), streamed(replace(plain, direct=True), data)):
        assert not any(each.teacher_mode.cot.ids for each in found)
        assert [each.teacher_mode.answer for each in found] == [
            each.teacher_mode.answer for each in plain.read(data)
        ]


def test_a_student_without_tokenizer_is_refused(model: LatentReasoner, tmp_path: Path) -> None:
    bare = pico_trained.student()
    bare.tokenizer = None
    with pytest.raises(
        ValueError,
        match=r"The student was saved without its tokenizer: its folder must hold tokenizer_config\.json\.",
    ):
        read_data(DataSection(train=SyntheticData()), SyntheticData(), bare, tmp_path)


def test_a_task_makes_its_examples() -> None:
    data = SyntheticData(task=Chain(names=4, steps=2), num=3, split="test", seed=5)
    assert examples(data).examples == Chain(names=4, steps=2).make(3, "test", 5)


def test_data_in_which_nothing_is_reasoned_is_refused(model: LatentReasoner, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps(json.loads(row(number)) | {"steps": []}) + "\n" for number in range(12))
    )
    said = (
        r"None of 12 training examples has a chain of thought, so there is nothing to distil: .* "
        r"\(--training\.task direct\)"
    )
    for read in (lambda samples: samples.read(file(path)), lambda samples: streamed(samples, file(path), 20)):
        with pytest.raises(DataError, match=said):
            read(of(model, tmp_path, file(path)))
        assert len(read(replace(of(model, tmp_path, file(path)), direct=True))) == 12
    samples = of(model, tmp_path, file(path))
    assert len(samples.read(file(path), "test")) == 12
    path.write_text(path.read_text() + row(0))
    samples.read(file(path))
    assert samples.notes == ["12 of 13 train examples have no chain of thought to distil"]


# Where data come from.


@pytest.mark.parametrize("streaming", [False, True])
def test_several_files_and_folders_like_the_hubs(
    model: LatentReasoner, tmp_path: Path, streaming: bool
) -> None:
    for part in (1, 2):
        write(tmp_path / f"part-{part}.jsonl", 5)
    pattern = file(tmp_path / "part-*.jsonl")
    hub = HubData(name=str(tmp_path), split="train")
    for data, stems in ((pattern, ("part-1", "part-2")), (hub, (f"{tmp_path.name}-train",))):
        samples = of(model, tmp_path, data)
        found = streamed(samples, data, 3) if streaming else samples.read(data)
        assert len(found) == 10
        assert {each.sample_id.rpartition(":")[0] for each in found} == set(stems)
    with pytest.raises(DataError, match=r"there is no split 'tset'"):
        examples(HubData(name=str(tmp_path), split="tset"))


@pytest.mark.parametrize("role", ["train", "validation", "test"])
def test_files_that_are_not_there_or_no_data_are_refused_at_once(
    tmp_path: Path, role: Literal["train", "validation", "test"]
) -> None:
    def section(data: Any) -> DataSection:
        return DataSection(**{"train": SyntheticData(), role: data})

    write(tmp_path / "rows.jsonl")
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "packed.jsonl").write_bytes(b"\x1f\x8b rows")
    (tmp_path / "list.json").write_text(f"[{row(1)}]")
    require_files(section(file(tmp_path / "rows.jsonl")))
    require_files(section(file(tmp_path / "list.json")))
    require_files(section(SyntheticData()))
    for name, sentence in (
        ("nowhere.jsonl", "there is no such file"),
        ("*.csv", "no file matches the pattern"),
        (".", "this is a folder"),
        ("empty.jsonl", "the file is empty"),
        ("packed.jsonl", "this is a gzip archive"),
    ):
        with pytest.raises(DataError, match=sentence):
            require_files(section(file(tmp_path / name)))
    with pytest.raises(DataError, match=r"there is no data format 'gsm9k'\. Did you mean 'gsm8k'"):
        require_files(section(file(tmp_path / "rows.jsonl", format="gsm9k")))
    with pytest.raises(DataError, match="the file is one JSON list, which is not streamed"):
        require_files(DataSection(train=file(tmp_path / "list.json", streaming=True)))


def test_a_limit_beyond_the_rows_is_noted(model: LatentReasoner, tmp_path: Path) -> None:
    data = file(write(tmp_path / "rows.jsonl")).model_copy(update={"limit": 1000})
    samples = of(model, tmp_path, data)
    assert len(samples.read(data)) == 20
    assert samples.notes == [
        "data.train.limit is 1000, and there are only 20 usable rows: all of them are used"
    ]
    exact = of(model, tmp_path, data)
    exact.read(data.model_copy(update={"limit": 20}))
    assert exact.notes == []


def test_keys_of_a_row_do_not_steer_the_terminal(
    model: LatentReasoner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "rows.jsonl")
    path.write_text(path.read_text() + '{"steps": [], "\\u001b[31mred": 1, "' + "k" * 5000 + '": 2}\n')
    samples = of(model, tmp_path, file(path))
    samples.read(file(path))
    told = capsys.readouterr().err
    assert "\\x1b[31mred" in told
    assert "\x1b" not in told + "".join(samples.notes)
    assert len(told) < 1000


@pytest.mark.parametrize("streaming", [False, True])
def test_a_row_of_far_too_many_characters_is_left_out(
    model: LatentReasoner, tmp_path: Path, streaming: bool
) -> None:
    path = write(tmp_path / "rows.jsonl")
    path.write_text(path.read_text() + row(3, please=500_000) + "\n")
    data = file(path)
    samples = of(model, tmp_path, data)
    if streaming:
        assert len(streamed(samples, data)) == 20
    else:
        assert len(samples.read(data)) == 20
        (note,) = samples.notes
        assert "1 of 21 train examples left out" in note
        assert "characters, more than max_length" in note
    (left_out,) = kept(tmp_path)
    assert (left_out["where"], left_out["line"]) == ("rows:21", None)
    assert "characters, more than max_length" in left_out["reason"]


def test_long_rows_are_kept_behind_bad_ones(model: LatentReasoner, tmp_path: Path) -> None:
    of(model, tmp_path, data := file(write(tmp_path / "rows.jsonl", bad=(3,), long=(0,)))).read(data)
    assert [(each["where"], each["line"]) for each in kept(tmp_path)] == [
        (str(tmp_path / "rows.jsonl") + ", line 4", 4),
        ("rows:1", None),
    ]


def test_a_pipe_is_not_touched_before_it_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    section = DataSection(train=file(tmp_path / "pipe"))
    require_files(section)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DataError, match="this is a pipe, which only one process can read"):
        require_files(section)
    monkeypatch.delenv("WORLD_SIZE")
    streaming = file(tmp_path / "pipe").model_copy(update={"streaming": True})
    with pytest.raises(DataError, match="this is a pipe, and a stream is read more than once"):
        require_files(DataSection(train=streaming))
