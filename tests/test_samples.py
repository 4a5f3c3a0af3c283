"""From data sets to samples: read whole or as a stream, with bad and long rows kept apart and said aloud."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import pico_trained
from kvdistill.config import DataSection, FileData, HubData, SyntheticData
from kvdistill.data import Chain, DataError, RowStream
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.samples import Samples, SampleStream, examples, read_data, require_files
from kvdistill.text import Encoded

NAMES = pico_trained.NAMES


def row(number: int, please: int = 0) -> str:
    first, second = NAMES[number % 6], NAMES[number // 6 % 6]
    return json.dumps({"question": f"{'please ' * please}{first} {second}", "steps": [second, first], "answer": first})


def write(path: Path, num: int = 20, bad: tuple[int, ...] = (), long: tuple[int, ...] = ()) -> Path:
    """``num`` rows; some have no answer, some are too long (numbers from 0)."""
    lines = [row(number, 60 if number in long else number % 3) for number in range(num)]
    for number in bad:
        lines[number] = json.dumps({"question": f"Wo ist \u2028 Zeile {number}? ½ 行", "steps": []}, ensure_ascii=False)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model() -> LatentReasoner:
    return pico_trained.student()


def of(model: LatentReasoner, folder: Path, data: FileData | HubData | SyntheticData, **section: Any) -> Samples:
    return Samples(DataSection(train=data, **{"max_length": 40, "max_bad_rows": 0.5} | section), model, folder / "run")


def file(path: Path | str, **settings: Any) -> FileData:
    return FileData(path=str(path), **settings)


def kept(folder: Path, role: str = "train") -> list[dict[str, Any]]:
    """What is in quarantine."""
    return [json.loads(line) for line in (folder / "run" / f"quarantine_{role}.jsonl").read_bytes().split(b"\n") if line]


def windows(stream: SampleStream, size: int) -> Iterator[tuple[list[Encoded], Any]]:
    """The windows of a pass, with the cursor behind each, which has been through JSON."""
    cursor: Any = None
    while True:
        found, cursor = stream(cursor, size)
        cursor = json.loads(json.dumps(cursor))
        yield found, cursor
        if cursor is None:
            return


def streamed(samples: Samples, data: FileData | HubData, size: int = 7) -> tuple[Encoded, ...]:
    stream = samples.stream(data)
    return tuple(each for found, _ in windows(stream, size) for each in found)


# The whole data set.


def test_bad_rows_are_kept_apart_with_line_and_reason(model: LatentReasoner, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = file(write(tmp_path / "rows.jsonl", bad=(3, 8)))
    samples = of(model, tmp_path, data)
    assert len(samples.read(data)) == 18
    first, second = kept(tmp_path)
    assert (first["where"], first["line"]) == (f"{tmp_path / 'rows.jsonl'}, line 4", 4)
    assert "has no text under 'answer'" in second["reason"]
    assert "\u2028 Zeile 8? ½ 行" in second["text"]
    said = capsys.readouterr().err
    assert samples.notes == [said.rstrip("\n")]
    assert said.startswith(f"2 of 20 rows of {tmp_path / 'rows.jsonl'} cannot be used and were left out; they are in")


def test_too_large_a_share_of_bad_rows_stops_the_run_and_is_kept(model: LatentReasoner, tmp_path: Path) -> None:
    data = file(write(tmp_path / "rows.jsonl", bad=(3, 8)))
    with pytest.raises(DataError, match=r"cannot be used: 10\.00%, more than data\.max_bad_rows = 0\.01 allows\. They are in .* or raise"):
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


def test_long_rows_are_left_out_and_counted_or_refused(model: LatentReasoner, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = file(write(tmp_path / "rows.jsonl", long=(0, 19)))
    found = of(model, tmp_path, data).read(data, "validation")
    assert [each.sample_id for each in found] == [f"rows:{number}" for number in range(2, 20)]
    said = r"2 of 20 validation examples left out: 6\d tokens \(question 6\d, chain of thought \d\), more than max_length 40"
    assert re.match(said, capsys.readouterr().err)
    with pytest.raises(ValueError, match=r"Sample rows:1 has 6\d tokens .* Raise max_length, remove the sample, or set on_long='drop'"):
        of(model, tmp_path, data, on_long="error").read(data)
    with pytest.raises(ValueError, match=r"Sample rows:1 has 6\d tokens"):
        streamed(of(model, tmp_path, data, on_long="error"), data)
    write(tmp_path / "rows.jsonl", 3, long=(0, 1, 2))
    with pytest.raises(ValueError, match=r"No train example is left of 3: all are longer than data\.max_length = 40\. Raise it\."):
        of(model, tmp_path, data).read(data)


def test_only_the_first_examples_are_taken(model: LatentReasoner, tmp_path: Path) -> None:
    data = file(write(tmp_path / "rows.jsonl", bad=(1,)), limit=4)
    assert [each.sample_id for each in of(model, tmp_path, data).read(data)] == ["rows:1", "rows:3", "rows:4", "rows:5"]


def test_direct_reading_leaves_the_chains_of_thought_out(model: LatentReasoner, tmp_path: Path) -> None:
    data = file(write(tmp_path / "rows.jsonl"))
    plain = of(model, tmp_path, data)
    for found in (replace(plain, direct=True).read(data), streamed(replace(plain, direct=True), data)):
        assert not any(each.cot.ids for each in found)
        assert [each.answer for each in found] == [each.answer for each in plain.read(data)]


def test_a_student_without_tokenizer_is_refused(model: LatentReasoner, tmp_path: Path) -> None:
    bare = pico_trained.student()
    bare.tokenizer = None
    with pytest.raises(ValueError, match=r"The student was saved without its tokenizer: its folder must hold tokenizer_config\.json\."):
        read_data(DataSection(train=SyntheticData()), SyntheticData(), bare, tmp_path)


def test_a_task_makes_its_examples() -> None:
    data = SyntheticData(task=Chain(names=4, steps=2), num=3, split="test", seed=5)
    assert examples(data).examples == Chain(names=4, steps=2).make(3, "test", 5)


# Streams.


@given(st.data())
def test_streamed_samples_are_those_of_the_whole_file(
    model: LatentReasoner, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """In windows of any size, gone on from any of them, with and without a limit."""
    folder, num, size = tmp_path_factory.mktemp("rows"), data.draw(st.integers(1, 25)), data.draw(st.integers(1, 9))
    bad, long = (data.draw(st.sets(st.integers(1, max(num - 1, 1)), max_size=num - 1)) for _ in range(2))
    rows = file(write(folder / "rows.jsonl", num, tuple(bad), tuple(long - bad)), limit=data.draw(st.none() | st.integers(1, 30)))
    samples = of(model, folder, rows, max_bad_rows=1.0)
    wanted = samples.read(rows)
    read = list(windows(samples.stream(rows), size))
    assert tuple(each for found, _ in read for each in found) == wanted
    assert all(len(found) == size for found, _ in read[:-1]), "only the last window may be short"
    cut = data.draw(st.integers(0, len(read) - 1))
    again = samples.stream(rows)
    for index in range(cut + 1, len(read)):
        assert again(read[index - 1][1], size) == read[index]


def test_what_a_stream_leaves_out_is_kept_once(model: LatentReasoner, tmp_path: Path) -> None:
    """However often windows and passes meet it, also in a run that goes on."""
    data = file(write(tmp_path / "rows.jsonl", bad=(3, 8), long=(5,)))
    samples = of(model, tmp_path, data)
    stream = samples.stream(data)
    assert stream.report() == ""
    for _ in range(2):
        list(windows(stream, 3))
    list(windows(samples.stream(data), 4))
    rows = kept(tmp_path)
    assert [each["where"] for each in rows] == [f"{tmp_path / 'rows.jsonl'}, line 4", "rows:6", f"{tmp_path / 'rows.jsonl'}, line 9"]
    assert [each["line"] for each in rows] == [4, None, 9]
    assert "more than max_length 40" in rows[1]["reason"]
    assert "\u2028 Zeile 8? ½ 行" in rows[2]["text"]
    assert stream.report() == f"3 rows of the stream were left out; they are in {stream.quarantine} with their reasons"


def test_a_torn_line_of_the_quarantine_is_written_again(model: LatentReasoner, tmp_path: Path) -> None:
    data = file(write(tmp_path / "rows.jsonl", bad=(3, 8)))
    samples = of(model, tmp_path, data)
    streamed(samples, data)
    path = tmp_path / "run" / "quarantine_train.jsonl"
    whole = path.read_bytes()
    for cut in (len(whole) - 1, len(whole) - 30, 10, 0):
        path.write_bytes(whole[:cut])
        list(windows(samples.stream(data), 5))
        assert path.read_bytes() == whole


def test_other_processes_read_and_write_nothing(model: LatentReasoner, tmp_path: Path) -> None:
    data = file(write(tmp_path / "rows.jsonl", bad=(3, 8)))
    other = replace(of(model, tmp_path, data), first=False)
    assert len(streamed(other, data)) == 18
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("num", "bad", "stops"), [(20, 1, True), (100, 1, False), (100, 2, True), (1200, 10, False), (1200, 13, True)])
def test_too_large_a_share_of_a_stream_stops_the_run(model: LatentReasoner, tmp_path: Path, num: int, bad: int, stops: bool) -> None:
    """1 %: once a thousand rows are met, or at the end of a pass."""
    data = file(write(tmp_path / "rows.jsonl", num, tuple(range(5, num, num // bad))[:bad]))
    samples = of(model, tmp_path, data, max_bad_rows=0.01)
    if not stops:
        assert len(streamed(samples, data, 100)) == num - bad
        return
    with pytest.raises(DataError, match=rf"{min(bad, 11)} of \d+ rows of the stream cannot be used, more than data\.max_bad_rows = 0\.01"):
        streamed(samples, data, 100)
    assert len(kept(tmp_path)) == min(bad, 11)


def test_the_share_is_not_that_of_a_few_rows_behind_a_cut(model: LatentReasoner, tmp_path: Path) -> None:
    """A run that goes on near the end of a pass has not met the good rows before, and a second pass starts anew."""
    data = file(write(tmp_path / "rows.jsonl", 200, (198,)))
    samples = of(model, tmp_path, data, max_bad_rows=0.01)
    (_, cursor), *_ = windows(samples.stream(data), 190)
    rest = samples.stream(data)
    assert len(rest(cursor, 50)[0]) == 9
    for _ in range(3):
        list(windows(rest, 60))


def test_a_row_is_read_once_and_what_is_known_looked_up_once(model: LatentReasoner, tmp_path: Path, monkeypatch) -> None:
    """The time grows with the rows, not with rows times windows."""
    data = file(write(tmp_path / "rows.jsonl", 300, tuple(range(1, 300, 3))))
    opened: list[Any] = []
    monkeypatch.setattr(RowStream, "read", lambda self, cursor=None, read=RowStream.read: opened.append(cursor) or read(self, cursor))
    looked: list[Path] = []
    monkeypatch.setattr(Path, "read_bytes", lambda self, read=Path.read_bytes: looked.append(self) or read(self))
    streamed(of(model, tmp_path, data), data, 10)
    assert opened == [None]
    assert len(looked) <= 1


def test_windows_of_bad_rows_alone_are_passed_over(model: LatentReasoner, tmp_path: Path) -> None:
    data = file(write(tmp_path / "rows.jsonl", 60, tuple(range(10, 50))))
    assert len(streamed(of(model, tmp_path, data, max_bad_rows=1.0), data, 4)) == 20


def test_a_worker_reads_and_keeps_as_the_run_itself_does(model: LatentReasoner, tmp_path: Path) -> None:
    data = file(write(tmp_path / "rows.jsonl", bad=(3, 8)))
    stream = of(model, tmp_path, data).stream(data)
    (found,) = DataLoader([0], collate_fn=lambda _: stream(None, 50)[0], num_workers=1)
    assert tuple(found) == of(model, tmp_path / "other", data).read(data)
    assert stream.report().startswith("2 rows of the stream were left out")


# Where data come from.


@pytest.mark.parametrize("streaming", [False, True])
def test_several_files_and_folders_like_the_hubs(model: LatentReasoner, tmp_path: Path, streaming: bool) -> None:
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
def test_files_that_are_not_there_or_no_data_are_refused_at_once(tmp_path: Path, role: Literal["train", "validation", "test"]) -> None:
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
    with pytest.raises(DataError, match="the file is one JSON list, which is only read as a whole"):
        require_files(DataSection(train=file(tmp_path / "list.json", streaming=True)))
