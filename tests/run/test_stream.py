"""Samples read as a stream: those of the whole file, with bad and long rows kept once."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import pico_trained
from kvdistill.config import HubData
from kvdistill.data import DataError, RowStream
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.run.stream import SampleStream
from pico_samples import file, kept, of, streamed, windows, write


@pytest.fixture(scope="module")
def model() -> LatentReasoner:
    return pico_trained.student()


@given(st.data())
def test_streamed_samples_are_those_of_the_whole_file(
    model: LatentReasoner, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """In windows of any size, gone on from any of them, with and without a limit."""
    folder, num, size = (
        tmp_path_factory.mktemp("rows"),
        data.draw(st.integers(1, 25)),
        data.draw(st.integers(1, 9)),
    )
    bad, long = (data.draw(st.sets(st.integers(1, max(num - 1, 1)), max_size=num - 1)) for _ in range(2))
    rows = file(
        write(folder / "rows.jsonl", num, tuple(bad), tuple(long - bad)),
        limit=data.draw(st.none() | st.integers(1, 30)),
    )
    samples = of(model, folder, rows, max_bad_rows=1.0)
    wanted = samples.read(rows)
    read = list(windows(SampleStream(samples, rows), size))
    assert tuple(each for found, _ in read for each in found) == wanted
    assert all(len(found) == size for found, _ in read[:-1]), "only the last window may be short"
    cut = data.draw(st.integers(0, len(read) - 1))
    again = SampleStream(samples, rows)
    for index in range(cut + 1, len(read)):
        assert again(read[index - 1][1], size) == read[index]


def test_what_a_stream_leaves_out_is_kept_once(model: LatentReasoner, tmp_path: Path) -> None:
    """However often windows and passes meet it, also in a run that goes on."""
    data = file(write(tmp_path / "rows.jsonl", bad=(3, 8), long=(5,)))
    samples = of(model, tmp_path, data)
    stream = SampleStream(samples, data)
    assert stream.report() == ""
    for _ in range(2):
        list(windows(stream, 3))
    list(windows(SampleStream(samples, data), 4))
    rows = kept(tmp_path)
    assert [each["where"] for each in rows] == [
        f"{tmp_path / 'rows.jsonl'}, line 4",
        "rows:6",
        f"{tmp_path / 'rows.jsonl'}, line 9",
    ]
    assert [each["line"] for each in rows] == [4, None, 9]
    assert "more than max_length 40" in rows[1]["reason"]
    assert "\u2028 Zeile 8? ½ 行" in rows[2]["text"]
    assert (
        stream.report()
        == f"3 rows of the stream were left out; they are in {samples.quarantine_of('train')} with their "
        "reasons"
    )


def test_a_torn_line_of_the_quarantine_is_written_again(model: LatentReasoner, tmp_path: Path) -> None:
    data = file(write(tmp_path / "rows.jsonl", bad=(3, 8)))
    samples = of(model, tmp_path, data)
    streamed(samples, data)
    path = tmp_path / "run" / "quarantine_train.jsonl"
    whole = path.read_bytes()
    for cut in (len(whole) - 1, len(whole) - 30, 10, 0):
        path.write_bytes(whole[:cut])
        list(windows(SampleStream(samples, data), 5))
        assert path.read_bytes() == whole


def test_other_processes_read_and_write_nothing(model: LatentReasoner, tmp_path: Path) -> None:
    data = file(write(tmp_path / "rows.jsonl", bad=(3, 8)))
    other = replace(of(model, tmp_path, data), first=False)
    assert len(streamed(other, data)) == 18
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("num", "bad", "stops"),
    [(20, 1, True), (100, 1, False), (100, 2, True), (1200, 10, False), (1200, 13, True)],
)
def test_too_large_a_share_of_a_stream_stops_the_run(
    model: LatentReasoner, tmp_path: Path, num: int, bad: int, stops: bool
) -> None:
    """1 %: once a thousand rows are met, or at the end of a pass."""
    data = file(write(tmp_path / "rows.jsonl", num, tuple(range(5, num, num // bad))[:bad]))
    samples = of(model, tmp_path, data, max_bad_rows=0.01)
    if not stops:
        assert len(streamed(samples, data, 100)) == num - bad
        return
    with pytest.raises(
        DataError,
        match=rf"{min(bad, 11)} of \d+ rows of the stream cannot be used, more than data\.max_bad_rows = "
        r"0\.01",
    ):
        streamed(samples, data, 100)
    assert len(kept(tmp_path)) == min(bad, 11)


def test_the_share_is_not_that_of_a_few_rows_behind_a_cut(model: LatentReasoner, tmp_path: Path) -> None:
    """A run that goes on near the end of a pass has not met the good rows before, and a second pass starts
    anew.
    """
    data = file(write(tmp_path / "rows.jsonl", 200, (198,)))
    samples = of(model, tmp_path, data, max_bad_rows=0.01)
    (_, cursor), *_ = windows(SampleStream(samples, data), 190)
    rest = SampleStream(samples, data)
    assert len(rest(cursor, 50)[0]) == 9
    for _ in range(3):
        list(windows(rest, 60))


def test_a_row_is_read_once_and_what_is_known_looked_up_once(
    model: LatentReasoner, tmp_path: Path, monkeypatch
) -> None:
    """The time grows with the rows, not with rows times windows."""
    data = file(write(tmp_path / "rows.jsonl", 300, tuple(range(1, 300, 3))))
    opened: list[Any] = []
    monkeypatch.setattr(
        RowStream,
        "read",
        lambda self, cursor=None, read=RowStream.read: opened.append(cursor) or read(self, cursor),
    )
    looked: list[Path] = []
    monkeypatch.setattr(
        Path, "read_bytes", lambda self, read=Path.read_bytes: looked.append(self) or read(self)
    )
    streamed(of(model, tmp_path, data), data, 10)
    assert opened == [None]
    assert len(looked) <= 1


def test_the_fingerprint_of_a_stream_is_that_of_its_files(model: LatentReasoner, tmp_path: Path) -> None:
    def found(*names: str) -> str | None:
        folder = tmp_path / "rows"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for number, name in enumerate(names):
            write(folder / name, 20 + number)
        data = file(folder / "*.jsonl")
        return SampleStream(of(model, tmp_path, data), data).fingerprint()

    prints = [found("a.jsonl", "b.jsonl"), found("a.jsonl"), found("b.jsonl"), found("a.jsonl", "c.jsonl")]
    assert len({*prints}) == 4
    assert found("a.jsonl") == prints[1]
    hub = HubData(name="owner/set", streaming=True)
    assert SampleStream(of(model, tmp_path, hub), hub).fingerprint() is None


def test_windows_of_bad_rows_alone_are_passed_over(model: LatentReasoner, tmp_path: Path) -> None:
    data = file(write(tmp_path / "rows.jsonl", 60, tuple(range(10, 50))))
    assert len(streamed(of(model, tmp_path, data, max_bad_rows=1.0), data, 4)) == 20


def test_a_worker_reads_and_keeps_as_the_run_itself_does(model: LatentReasoner, tmp_path: Path) -> None:
    data = file(write(tmp_path / "rows.jsonl", bad=(3, 8)))
    stream = SampleStream(of(model, tmp_path, data), data)
    (found,) = DataLoader([0], collate_fn=lambda _: stream(None, 50)[0], num_workers=1)
    assert tuple(found) == of(model, tmp_path / "other", data).read(data)
    assert stream.report().startswith("2 rows of the stream were left out")
