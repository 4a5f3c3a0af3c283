"""What ``kvdistill evaluate`` prints and saves, what it refuses, and what it leaves alone."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import pico_runs
from kvdistill.cli import main
from kvdistill.commands.evaluate import Question, evaluate, evaluate_question
from kvdistill.records.probes import ProbesRecord
from kvdistill.records.schema import EvaluationRecord


@pytest.fixture(scope="module")
def run(session_tmp: Path) -> Path:
    folder = session_tmp / "evaluated"
    folder.mkdir()
    words = [
        "--training.output_dir",
        str(folder / "run"),
        "--training.epochs",
        "1",
        "--evaluation.modes",
        '["latent"]',
    ]
    assert main(["train", "--config", str(pico_runs.toml(folder)), *words]) == 0
    return folder / "run"


def rows(path: Path, num: int) -> str:
    row = {
        "question": "Ann to Bob . Bob to Ann . start Ann 1 hands ?",
        "answer": "Ann hands to Bob\n#### Bob",
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{json.dumps(row)}\n" * num)
    return str(path)


def asked(run: Path, data: str, **options: object) -> Question:
    question = Question(
        checkpoint=str(run / "checkpoint-ep1"), data=data, modes="latent", max_new_tokens=2, output=str(run)
    )
    return replace(question, **options)  # pyright: ignore


def test_the_runs_own_record_is_not_overwritten(run: Path, tmp_path: Path) -> None:
    """A file called test has the name of the run's test set."""
    before = (run / "evaluation_test_latent.json").read_bytes()
    with pytest.raises(
        ValueError,
        match=r"evaluation_test_latent\.json holds results on other data \(the run's own test set\)",
    ):
        evaluate_question(asked(run, rows(tmp_path / "test.jsonl", 2)), print)
    assert (run / "evaluation_test_latent.json").read_bytes() == before


def test_a_record_keeps_the_path_of_its_data_and_gives_way_to_the_same_data_only(
    run: Path, tmp_path: Path
) -> None:
    one, other = rows(tmp_path / "a" / "rows.jsonl", 2), rows(tmp_path / "b" / "rows.jsonl", 3)
    evaluate_question(asked(run, one, modes="latent,direct,latent", probes=True), print)
    record = EvaluationRecord.read(run / "evaluation_rows_latent.json")
    assert (record.source, record.data_set, record.num) == (one, "rows", 2)
    assert ProbesRecord.read(run / "probes.json").source == one
    evaluate_question(asked(run, one, num=1), print)
    assert EvaluationRecord.read(run / "evaluation_rows_latent.json").num == 1
    with pytest.raises(
        ValueError,
        match=r"rows_direct\.json holds results on other data \(.*a/rows\.jsonl\), .* give another --output",
    ):
        evaluate_question(asked(run, other, modes="direct"), print)
    with pytest.raises(ValueError, match=r"probes\.json holds results on other data"):
        evaluate_question(asked(run, rows(tmp_path / "third.jsonl", 2), probes=True), print)


def test_a_mode_that_is_named_twice_is_evaluated_once(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate_question(
        asked(run, rows(tmp_path / "twice.jsonl", 2), modes="direct,direct", output=str(tmp_path / "out")),
        print,
    )
    assert capsys.readouterr().out.count(" on twice: ") == 1


def test_a_file_is_no_place_for_results(run: Path, tmp_path: Path) -> None:
    data = rows(tmp_path / "rows.jsonl", 2)
    with pytest.raises(ValueError, match=r"--output: .*rows\.jsonl is a file; give a folder"):
        evaluate_question(asked(run, data, output=data), print)


def test_evaluate_prints_and_saves_every_mode_with_probes(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--checkpoint",
        str(run / "checkpoint-ep1"),
        "--data",
        str(run / "run.json"),
        "--output",
        str(tmp_path / "out"),
    ]
    assert (
        main(["evaluate", *words, "--probes", "--num", "3", "--batch-size", "2", "--max-new-tokens", "4"])
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[3].startswith("probes: 3 questions, 4 times over")
    for line, mode in zip(lines, ("latent", "cot", "direct"), strict=False):
        record = EvaluationRecord.read(tmp_path / "out" / f"evaluation_run_{mode}.json")
        assert record.num == 3
        expected = (
            f"{mode} on run: {100 * record.accuracy:.1f} % right of 3 (95 %: "
            f"{100 * record.low:.1f}-{100 * record.high:.1f}), "
        )
        assert line.strip().startswith(expected)
        assert (
            f"{record.sequential_passes_mean:.1f} passes, {record.tokens_mean:.0f} tokens a question, "
            in line
        )
    probes = ProbesRecord.read(tmp_path / "out" / "probes.json")
    assert set(probes.fewer) == {0, 1}
    assert probes.kept is not None
    # The run's own compressor, on the chains of thought of its test set: one result in four tokens.
    assert [(kept.method, kept.num, kept.base_share) for kept in probes.kept] == [("rkv", 3, 0.25)]
    assert [layer.layer for layer in probes.kept[0].layers] == [0, 1]


@pytest.mark.parametrize(
    ("changed", "note"),
    [
        ({"loss": {"kv_weight": 0.0}}, ""),
        ({"model": 3}, "probes: which tokens the compressor keeps is left out: "),
        (None, ""),
    ],
    ids=["no KV loss", "unreadable", "no run"],
)
def test_what_is_kept_is_left_out_without_a_compressor(
    run: Path, tmp_path: Path, changed: dict[str, object] | None, note: str
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(run / "checkpoint-ep1", moved / "checkpoint-ep1")
    if changed is not None:
        record = json.loads((run / "run.json").read_text())
        record["config"] |= changed
        (moved / "run.json").write_text(json.dumps(record))
    said: list[str] = []
    data = rows(tmp_path / "rows.jsonl", 2)
    evaluate_question(asked(moved, data, probes=True), said.append)
    assert ProbesRecord.read(moved / "probes.json").kept is None
    assert said[0].startswith(note)
    assert ("left out" in said[0]) == bool(note)


def test_evaluate_reads_data_files_and_the_checkpoints_own_run(run: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        '{"question": "Ann to Bob . Bob to Ann . start Ann 1 hands ?", "answer": "Ann hands to Bob\\n#### '
        'Bob"}\n' * 2
    )
    checkpoint = str(run / "checkpoint-ep1")
    words = [
        "--checkpoint",
        checkpoint,
        "--data",
        str(rows),
        "--modes",
        "latent,direct",
        "--max-new-tokens",
        "2",
    ]
    assert main(["evaluate", *words, "--output", str(tmp_path), "--format", "gsm8k"]) == 0
    assert EvaluationRecord.read(tmp_path / "evaluation_rows_latent.json").num == 2
    assert not (tmp_path / "evaluation_rows_cot.json").exists()


def test_evaluate_from_python(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The records of the modes in their order, as they are in the folder; nothing is printed."""
    capsys.readouterr()
    data, output = rows(tmp_path / "rows.jsonl", 3), tmp_path / "out"
    found = evaluate(
        run / "checkpoint-ep1", Path(data), modes="direct,latent", max_new_tokens=2, num=2, output=str(output)
    )
    assert [record.mode for record in found] == ["direct", "latent"]
    for record in found:
        assert record == EvaluationRecord.read(output / f"evaluation_rows_{record.mode}.json")
        assert record.num == 2
    assert capsys.readouterr().out == ""
