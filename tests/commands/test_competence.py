"""``kvdistill competence``: what it refuses, and what it prints."""

from pathlib import Path

import pytest

import pico_trained
from kvdistill.cli import main
from kvdistill.records.competence import CompetenceTable
from kvdistill.records.traces import TracesHeader, write_traces


def written(folder: Path, *names: str) -> Path:
    """A configuration with these teachers, all of one model."""
    pico_trained.trained().save_pretrained(folder / "model")
    rows = "".join(
        f"{e.question}||{' '.join(e.steps)} #### {e.answer}\n" for e in pico_trained.examples()[:3]
    )
    (folder / "rows.txt").write_text(rows)
    teachers = "".join(f'teachers.{name} = {{kind = "live", name = "{folder}/model"}}\n' for name in names)
    text = f'data.train = {{kind = "file", path = "{folder}/rows.txt"}}\nmodel.name = "base"\n{teachers}'
    text += 'target.method.kind = "step_end"\n'
    (folder / "run.toml").write_text(text)
    return folder / "run.toml"


def test_a_table_of_two_teachers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "a", "b")
    samples = ["sample", "--config", str(path), "--teacher", "a", "--output", str(tmp_path / "samples")]
    assert main([*samples, "--sampling.num_samples", "2", "--sampling.max_new_tokens", "8"]) == 0
    words = ["competence", "--config", str(path), "--output", str(tmp_path / "out")]
    assert main([*words, "--traces", f"a={tmp_path}/samples"]) == 0
    printed = capsys.readouterr().out
    assert "of its own chains right (3 questions)" in printed
    assert "no chains of its own: the mean of the others counts (3 questions)" in printed
    # The traces of a teacher's section count by themselves.
    words[-1] = str(tmp_path / "again")
    assert main([*words, "--teachers.a.reads", "own", "--teachers.a.traces", f"{tmp_path}/samples"]) == 0
    assert "of its own chains right (3 questions)" in capsys.readouterr().out
    table = CompetenceTable.read(tmp_path / "out")
    assert CompetenceTable.read(tmp_path / "again").figures == table.figures
    assert all(table.target(key, ["a", "b"]) == [0.5, 0.5] for key in table.figures)


def test_chains_of_another_model_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "a", "b")
    header = TracesHeader(
        teacher="c", source="c", revision=None, weights="float32:0", tokenizer="", data="", questions=0
    )
    write_traces(tmp_path / "samples.jsonl", header, [])
    words = ["competence", "--config", str(path), "--output", str(tmp_path / "out")]
    assert main([*words, "--traces", f"a={tmp_path}"]) == 2
    assert "a model with other weights than the teacher a wrote the chains" in capsys.readouterr().err
    assert main([*words, "--teachers.a.reads", "own", "--teachers.a.traces", str(tmp_path)]) == 0
    assert f"teachers.a: another model wrote the chains in {tmp_path}" in capsys.readouterr().out


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "a")
    words = ["competence", "--config", str(path), "--output", str(tmp_path / "out")]
    assert main(words) == 2
    assert "the configuration has 1 separate teacher: name two or more" in capsys.readouterr().err
    written(tmp_path, "a", "b")
    assert main([*words, "--traces", "c=x"]) == 2
    assert "--traces: there is no teacher 'c'. The configuration has a, b." in capsys.readouterr().err
    assert main([*words, "--traces", "a"]) == 2
    assert "--traces: 'a' is no NAME=FOLDER" in capsys.readouterr().err
