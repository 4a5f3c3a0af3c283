"""``kvdistill sample``: which teacher is meant, and what is printed."""

from pathlib import Path

import pytest

import pico_trained
from kvdistill.cli import main
from kvdistill.commands.sample import lines_of, separate_teacher
from kvdistill.config import RunConfig
from kvdistill.records.traces import SamplesReport, read_traces

REPORT = SamplesReport(
    teacher="a",
    questions=4,
    sampled=8,
    share_with_two_right=0.25,
    share_with_none=0.5,
    right_share=0.375,
    distinct_share=1.0,
    gold_overlap=0.5,
    seconds=1.0,
    min_right=2,
    too_few=["7", "8", "9"],
)


def config(*names: str) -> RunConfig:
    teachers = {name: {"kind": "live", "name": f"folder/{name}"} for name in names}
    data = {"train": {"kind": "synthetic", "num": 4}}
    return RunConfig.model_validate({"model": {"name": "base"}, "data": data, "teachers": teachers})


def test_the_teacher_that_is_meant() -> None:
    assert separate_teacher(config("a"), None)[0] == "a"
    assert separate_teacher(config("a", "b"), "b")[1].name == "folder/b"
    with pytest.raises(ValueError, match=r"--teacher: the configuration has 2 \(a, b\): name one"):
        separate_teacher(config("a", "b"), None)
    with pytest.raises(ValueError, match="--teacher: there is no teacher 'c'. The configuration has a, b"):
        separate_teacher(config("a", "b"), "c")
    with pytest.raises(ValueError, match="no separate teacher that could write"):
        separate_teacher(config(), None)


def test_a_line_for_each_fact() -> None:
    text = "\n".join(lines_of(REPORT))
    assert "a: 8 chains for 4 questions, 37.5 % right" in text
    assert "fewer than 2: 3 questions (first: 7, 8, 9)" in text


def test_the_command_writes_chains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pico_trained.trained().save_pretrained(tmp_path / "model")
    rows = "".join(
        f"{e.question}||{' '.join(e.steps)} #### {e.answer}\n" for e in pico_trained.examples()[:3]
    )
    (tmp_path / "rows.txt").write_text(rows)
    words = ["sample", "--config", str(tmp_path / "run.toml"), "--output", str(tmp_path / "out")]
    (tmp_path / "run.toml").write_text(
        f'data.train = {{kind = "file", path = "{tmp_path}/rows.txt"}}\nmodel.name = "base"\n'
        f'teachers.a = {{kind = "live", name = "{tmp_path}/model"}}\n'
    )
    assert main([*words, "--sampling.num_samples", "2", "--sampling.max_new_tokens", "8"]) == 0
    assert "a: 6 chains for 3 questions" in capsys.readouterr().out
    assert len(read_traces(tmp_path / "out")) == 3
    assert main([*words, "--sampling.top_p", "2"]) == 2
    assert "sampling.top_p" in capsys.readouterr().err
    assert main(words[:3]) == 2
    assert "--output: name a folder for the chains; teachers.a has no traces." in capsys.readouterr().err
