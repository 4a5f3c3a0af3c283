"""The report of two teachers as a user reads it, and the alignment of one sample's tokens."""

import re
from pathlib import Path

import pytest

from kvdistill.cli import main
from kvdistill.commands.align.inspect import first_sample, texts_of, token_table
from kvdistill.commands.align.prepare import align
from kvdistill.records.calibration import CalibrationRecord
from kvdistill.text import Segment
from pico_teachers import live, run


def test_it_prints_and_writes_what_is_done_to_each_teacher(
    models: dict[str, Path], options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    words = ["--teachers.w.kind", "live", "--teachers.w.name", str(models["words"]), "--teachers.w.weight=3"]
    words += ["--teachers.b.kind", "live", "--teachers.b.name", str(models["bytes"])]
    more = ["--output", str(folder), "--data.train.num", "38"]
    assert main(["align", "inspect", *options, *words, *more]) == 0
    text = capsys.readouterr().out
    assert "38 training samples" in text
    assert re.search(r"^w +3 +100.0 % +[01]\.\d{3} ", text, flags=re.MULTILINE)
    assert re.search(r"^b +1 +100.0 % ", text, flags=re.MULTILINE)
    assert "heads      2 x 8 -> 2 x 8, ridge" in text and "learned and stay in its keys" in text
    for target in ("own cache", "fused", "w", "b", "other sample"):
        assert re.search(rf"^{target} +\d+\.\d %", text.split("worth")[1], flags=re.MULTILINE)
    record = CalibrationRecord.read(folder / "calibration.json")
    assert [each.teacher for each in record.teachers] == ["w", "b"]
    for each in record.teachers:
        assert each.attention_cosine is not None and len(each.attention_cosine) == 2
        assert all(cosine is not None and 0.5 < cosine <= 1 for cosine in each.attention_cosine)
    assert not (tmp_path / "run").exists(), "an inspection begins no run"
    page = (folder / "report.html").read_text()
    assert page.count("<figure>") == 7  # the tokens of b, and three maps of each
    assert not (folder / "figures/tokens_w.svg").exists(), "equal tokens need no figure"
    assert ">token of b<" in (folder / "figures/tokens_b.svg").read_text()


def test_the_tokens_of_one_sample(models: dict[str, Path], tmp_path: Path) -> None:
    """Every row that is covered sums to 1, and the characters agree where a weight is."""
    config = run(models["base"], tmp_path / "run", {"b": live(models["bytes"])})
    done = align(config, tmp_path, lambda line: None)
    sample = first_sample(done.data)
    assert sample is not None
    table = token_table(done, done.step.teachers[0], sample)
    assert len(table.student) == len(sample.teacher_mode.cot.ids)
    assert len(table.teacher) > len(table.student), "a byte-level BPE cuts the words"
    for row, word in enumerate(table.student):
        weights = table.weights[row]
        assert sum(weights) == pytest.approx(1)
        pieces = "".join(text for text, weight in zip(table.teacher, weights, strict=True) if weight)
        assert pieces.replace("·", "") == word.replace("·", "")


def test_spaces_are_visible_and_a_stream_is_not_read_again() -> None:
    segment = Segment("a b\nc", (0, 1, 2), ((0, 1), (1, 3), (3, 5)))
    assert texts_of(segment) == ["a", "·b", "↵c"]
    assert first_sample(object()) is None
