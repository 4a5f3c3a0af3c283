"""Accuracy by depth: the table by hand, and a bar for every depth and row."""

from pathlib import Path

import pytest

from kvdistill.records.schema import DepthCount, EvaluationRecord, Mode
from kvdistill.reporting.blocks import Picture, Table
from kvdistill.reporting.depth_section import MOST_DEPTHS, depth_bars, depth_section
from kvdistill.reporting.palette import method
from kvdistill.reporting.results import Row, evaluated


def row(mode: Mode, by_depth: dict[int, tuple[int, int]] | None) -> Row:
    """A line of the results table; counts are right answers and questions by depth."""
    counts = None
    if by_depth is not None:
        counts = {depth: DepthCount(num=num, correct=correct) for depth, (correct, num) in by_depth.items()}
    record = EvaluationRecord(
        data_set="toy",
        mode=mode,
        num=10,
        correct=5,
        sequential_passes_mean=7.5,
        tokens_mean=20.0,
        ms_batch1=None,
        ms_batch32=None,
        by_depth=counts,
    )
    return evaluated({"evaluation": record})[0]


ROWS = [row("latent", {1: (4, 4), 3: (1, 4)}), row("direct", {1: (2, 4), 2: (0, 5)}), row("cot", None)]


def test_the_table_by_hand(tmp_path: Path) -> None:
    (section,) = depth_section(tmp_path, ROWS, 0.25)
    picture, table, _ = section.blocks
    assert isinstance(picture, Picture) and isinstance(table, Table)
    assert table.header == ("depth", "latent slots on toy", "direct answer on toy")
    assert [[cell.replace("\N{NO-BREAK SPACE}", " ") for cell in line] for line in table.rows] == [
        ["1", "100.0 % of 4", "50.0 % of 4"],
        ["2", "–", "0.0 % of 5"],
        ["3", "25.0 % of 4", "–"],
    ]


@pytest.mark.parametrize("rows", [[], [row("cot", None)], [row("cot", {4: (5, 10)})]])
def test_a_single_depth_needs_no_section(tmp_path: Path, rows: list[Row]) -> None:
    assert depth_section(tmp_path, rows, 0.25) == []


@pytest.mark.parametrize("narrow", [False, True])
def test_a_bar_for_every_depth_and_row(narrow: bool) -> None:
    figure = depth_bars(ROWS[:2], [1, 2, 3], 0.25, narrow)
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == [100.0, 25.0, 50.0, 0.0]
    # The bars of a depth stand side by side about its tick.
    middles = [bar.get_x() + bar.get_width() / 2 for bar in axes.patches]
    assert middles == pytest.approx([-0.21, 1.79, 0.21, 1.21])
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "2", "3"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "latent slots on toy",
        "direct answer on toy",
        "chance 25.0 %",
    ]
    assert axes.patches[0].get_facecolor() != axes.patches[-1].get_facecolor()
    assert method("latent").tint.light == ROWS[0].measured.tint


def test_deep_questions_are_in_the_table_alone(tmp_path: Path) -> None:
    deep = row("latent", dict.fromkeys(range(1, MOST_DEPTHS + 4), (1, 1)))
    picture, table, _ = depth_section(tmp_path, [deep], None)[0].blocks
    assert isinstance(picture, Picture) and isinstance(table, Table)
    assert picture.caption.endswith(f"Depths above {MOST_DEPTHS} are in the table.")
    assert len(table.rows) == MOST_DEPTHS + 3
