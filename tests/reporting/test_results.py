"""The rows of the table of answers: in their order, with what was measured and a dash for what was not."""

from dataclasses import replace
from pathlib import Path

import pytest

import pico_reports
from kvdistill.records.schema import EvaluationRecord, Mode
from kvdistill.reporting.blocks import Missing, Table, Words
from kvdistill.reporting.results import chance_in, demo_section, evaluated, table_of_answers

SUMMARY = replace(
    pico_reports.SUMMARY, latent_by_method={"rkv": 0.8}, steps_to_90_kv=10, ms_latent=44.0, threshold=0.9
)


def record(correct: int, mode: Mode = "latent") -> EvaluationRecord:
    return EvaluationRecord(
        data_set="toy",
        mode=mode,
        num=10,
        correct=correct,
        sequential_passes_mean=7.5,
        tokens_mean=20.0,
        ms_batch1=None,
        ms_batch32=1.5,
    )


def table(section_blocks: list[object]) -> Table:
    (found,) = [block for block in section_blocks if isinstance(block, Table)]
    return found


def test_a_row_by_hand() -> None:
    (row,) = evaluated({"evaluation": record(5)})
    assert row.cells == [
        "latent slots on toy",
        "50.0\N{NO-BREAK SPACE}%",
        "23.7–76.3\N{NO-BREAK SPACE}%",
        "10",
        "7.5",
        "20",
        "–",
        "1.5",
    ]


def test_log_probabilities_have_a_table_where_they_were_measured(tmp_path: Path) -> None:
    old = replace(record(5), nats=None)
    new = replace(record(6, "cot"), nats=-0.01234, nats_low=-0.03, nats_high=0.0053)
    one = replace(record(6, "direct"), nats=-2.0)
    assert (
        len([b for b in table_of_answers(tmp_path, evaluated({"a": old}), 0.1) if isinstance(b, Table)]) == 1
    )
    table, told = table_of_answers(tmp_path, evaluated({"a": old, "b": new, "c": one}), 0.1)[-2:]
    assert isinstance(table, Table) and isinstance(told, Words)
    # The normal interval is cut at 0, the logarithm of certainty.
    assert table.rows == [
        ["CoT, verbose on toy", "-0.0123", "[-0.03, 0]"],
        ["direct answer on toy", "-2", "–"],
    ]
    assert "behind the gold chain of thought" in told.text


def test_rows_that_look_alike_carry_their_files_name() -> None:
    rows = evaluated({"a": record(5), "b": record(6), "c": record(6, "cot")})
    assert [row.measured.label for row in rows] == [
        "latent slots on toy (a)",
        "latent slots on toy (b)",
        "CoT, verbose on toy",
    ]
    assert [row.measured.key for row in rows] == ["latent", "latent", "cot"]


def test_demo_rows_keep_their_order_and_take_the_evaluation_before_the_summary(tmp_path: Path) -> None:
    section = demo_section(
        tmp_path, SUMMARY, {"other": record(1, "cot"), "latent_kv": record(8), "cot": record(9, "cot")}
    )
    rows = [
        [cell.replace("\N{NO-BREAK SPACE}", " ") for cell in row] for row in table(list(section.blocks)).rows
    ]
    assert [row[0] for row in rows] == [
        "latent, R-KV (chosen)",
        "latent, no KV term (E1)",
        "CoT, verbose",
        "direct answer",
        "other on toy",
    ]
    assert rows[3] == ["direct answer", "30.0 %", "–", "–", "–", "–", "–", "–"]
    assert rows[1][4] == "7" and rows[0][1:5] == ["80.0 %", "49.0–94.3 %", "10", "7.5"]
    (missing,) = [block for block in section.blocks if isinstance(block, Missing)]
    assert missing.what == "evaluation_latent_e1.json, evaluation_cot_terse.json, evaluation_direct.json"


def test_files_that_agree_after_rounding_are_not_named(tmp_path: Path) -> None:
    def said(correct: int) -> list[str]:
        blocks = demo_section(tmp_path, SUMMARY, {"latent_kv": record(correct)}).blocks
        return [block.text for block in blocks if isinstance(block, Words) and "summary.json" in block.text]

    assert said(8) == [] and len(said(7)) == 1 and "run `kvdistill demo` again" in said(7)[0]


@pytest.mark.parametrize("names", [["a"], ["a", "b"]])
def test_the_figures_lie_in_the_folder(tmp_path: Path, names: list[str]) -> None:
    table_of_answers(tmp_path, evaluated({name: record(5) for name in names}), None)
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "accuracy-narrow.svg",
        "accuracy.svg",
        "passes-narrow.svg",
        "passes.svg",
    ]


def test_other_targets_have_readable_names_behind_the_chosen_one(tmp_path: Path) -> None:
    section = demo_section(tmp_path, SUMMARY, {"latent_right_crop": record(1), "latent_kv": record(8)})
    labels = [row[0] for row in table(list(section.blocks)).rows]
    assert labels[:3] == ["latent, R-KV (chosen)", "latent, right-crop", "latent, no KV term (E1)"]


def test_chance_is_a_row_of_its_own_where_it_was_recorded(tmp_path: Path) -> None:
    records = {"a": replace(record(5), chance=0.125), "b": record(5)}
    chance = chance_in(records.values())
    assert chance == 0.125 and chance_in([record(5)]) is None
    rows = table(list(table_of_answers(tmp_path, evaluated(records), chance))).rows
    assert [cell.replace("\N{NO-BREAK SPACE}", " ") for cell in rows[-1]] == ["chance", "12.5 %", *["–"] * 6]
    assert all(
        row[0] != "chance" for row in table(list(table_of_answers(tmp_path, evaluated(records), None))).rows
    )
