"""Rows that keep their chain of thought, and the chains that the others get."""

from pathlib import Path

import pytest

from kvdistill.data.keys import question_key
from kvdistill.records.traces import QuestionTraces, Trace, TracesHeader, write_traces
from kvdistill.run.chains import ChainChoice, gold_questions
from kvdistill.run.samples import samples_of
from kvdistill.run.student import build_student
from kvdistill.text import Example
from pico_students import config

ROWS = [Example(f"q{number}", ("gold", str(number)), "a", str(number)) for number in range(10)]


def write(path: Path, chains: dict[int, list[str]]) -> str:
    """Chains of one step for some of the rows."""
    header = TracesHeader(
        teacher="t",
        source="t",
        revision=None,
        weights="w",
        tokenizer="k",
        data="d",
        questions=len(chains),
    )
    found = []
    for number, steps in chains.items():
        traces = tuple(Trace((step,), "a") for step in steps)
        found.append(QuestionTraces(question_key(ROWS[number]), str(number), traces, 8, len(traces)))
    write_traces(path, header, found)
    return str(path)


def test_the_share_of_gold_chains_is_exact_nested_and_of_questions() -> None:
    for share, number in ((0.0, 0), (0.25, 2), (0.5, 5), (1.0, 10)):
        assert len(gold_questions(ROWS, share, 3)) == number
    half, most = gold_questions(ROWS, 0.5, 3), gold_questions([*ROWS, ROWS[0]], 0.8, 3)
    assert half < most
    assert half == gold_questions(ROWS[::-1], 0.5, 3) != gold_questions(ROWS, 0.5, 4)


def test_the_other_rows_have_an_answer_only() -> None:
    rows, note = ChainChoice(gold_share=0.3).apply(ROWS)
    kept = [row for row in rows if row.steps]
    assert len(kept) == 3
    assert all(row in ROWS for row in kept)
    assert [row.question for row in rows] == [row.question for row in ROWS]
    assert {row.dependent_steps for row in rows} == {2}
    assert note == (
        "3 of 10 train examples have their own chain of thought, 7 none, and train the latents by their "
        "answers alone"
    )
    assert ChainChoice().apply(ROWS) == (ROWS, "")


def test_rows_without_a_chain_get_one_of_the_sampled_ones(tmp_path: Path) -> None:
    one = write(tmp_path / "one.jsonl", {number: ["x", "y"] for number in range(5)})
    two = write(tmp_path / "two.jsonl", {0: ["x", "z"], 9: ["z"]})
    choice = ChainChoice(gold_share=0.0, seed=1, files=(one, two))
    rows, note = choice.apply(ROWS)
    assert rows == choice.apply(ROWS)[0]
    assert rows[9].steps == ("z",)
    assert [bool(row.steps) for row in rows] == [True] * 5 + [False] * 4 + [True]
    assert {row.steps for row in rows[1:5]} <= {("x",), ("y",)}
    draws = [ChainChoice(gold_share=0.0, seed=seed, files=(one, two)).apply(ROWS)[0] for seed in range(20)]
    # Three distinct chains of the first question, of which both files have one.
    assert {row[0].steps for row in draws} == {("x",), ("y",), ("z",)}
    assert note.startswith("0 of 10 train examples have their own chain of thought, ")
    assert note.endswith("4 none, and train the latents by their answers alone")


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    choice = ChainChoice(gold_share=0.5, files=(str(path),))
    with pytest.raises(
        ValueError, match=r"^data\.traces: there is no \S*x\.jsonl\. `kvdistill sample` writes"
    ):
        choice.apply(ROWS)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"^data\.traces: \S*x\.jsonl"):
        choice.apply(ROWS)


def test_a_run_takes_chains_from_its_training_rows_alone(tmp_path: Path) -> None:
    task = {"kind": "synthetic", "num": 8, "task": {"names": 5, "steps": 2}}
    run = config(data={"train": task, "gold_share": 0.5})
    reads = samples_of(run, build_student(run), tmp_path)
    train, test = reads.read(run.data.train, "train"), reads.read(run.data.train, "test")
    assert [sum(bool(x.teacher_mode.cot.ids) for x in found) for found in (train, test)] == [4, 8]
    assert reads.notes[0].startswith("4 of 8 train examples have their own chain of thought, 4 none")
