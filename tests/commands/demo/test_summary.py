"""Summary of a demo: bars worked out by hand from the numbers, and the printed table."""

from pathlib import Path

import pytest

from kvdistill.commands.demo.recipe import CONTROL, METHODS
from kvdistill.commands.demo.summary import steps_ratio, summarize, table
from kvdistill.records.schema import Curve, EvaluationRecord
from kvdistill.reporting.report import write_demo_report


def test_steps_that_are_known_have_no_bound() -> None:
    assert steps_ratio(150, 600, 600).text is None
    assert steps_ratio(150, 600, 600).value == 4.0
    assert steps_ratio(None, 600, 600).value is None
    assert steps_ratio(150, None, 600).text == "at least 4.0 (E1 not there after 600)"


def record(accuracy: int, passes: float) -> EvaluationRecord:
    return EvaluationRecord(
        data_set="t",
        mode="latent",
        num=100,
        correct=accuracy,
        sequential_passes_mean=passes,
        tokens_mean=1.0,
        ms_batch1=1.0,
        ms_batch32=1.0,
    )


def test_bars_follow_from_the_numbers(tmp_path: Path) -> None:
    rows = {
        "cot": record(100, 20.0),
        "cot_terse": record(100, 8.0),
        "direct": record(14, 2.0),
        "latent_e1": record(20, 7.0),
    }
    rows |= {f"latent_{name}": record(95, 7.0) for name in METHODS}
    rows |= {"latent_rkv": record(80, 7.0), f"latent_{CONTROL}": record(20, 7.0)}
    steps = [25, 50, 75, 100]
    curves = {name: Curve(method=name, steps=steps, accuracy=[0.1, 0.5, 0.95, 1.0]) for name in METHODS}
    curves["e1"] = Curve(method="E1", steps=steps, accuracy=[0.1, 0.1, 0.2, 0.2])
    summary = summarize(rows, curves, METHODS[0], 5.0, 7)
    assert (summary.steps_to_90_kv, summary.steps_to_90_e1) == (75, None)
    assert summary.threshold == pytest.approx(0.9)
    assert summary.bars is not None
    # E1 never came so far: its last step counts, which is the least that the ratio can be.
    assert summary.bars["steps to 90 %, E1 over KV"].value == pytest.approx(100 / 75)
    assert not summary.bars["steps to 90 %, E1 over KV"].reached
    assert summary.bars["steps to 90 %, E1 over KV"].text == "at least 1.3 (E1 not there after 100)"
    found = {name: (bar.value, bar.reached) for name, bar in summary.bars.items() if "KV" in name[:11]}
    assert found["KV step-end over CoT"] == (0.95, True)
    assert found["KV R-KV over CoT"] == (0.8, False)
    assert found["shuffled KV over R-KV"] == (0.25, True)
    assert summary.latent_shuffled == 0.2
    assert summary.bars["passes, CoT over latent"].value == pytest.approx(20 / 7)
    assert (summary.minutes, summary.bars["minutes"].reached, summary.seed) == (5.0, True, 7)
    summary.write(tmp_path / "summary.json")
    assert write_demo_report(tmp_path).is_file()


def test_table_lists_evaluations_and_bars(tmp_path: Path) -> None:
    rows = {name: record(50, 4.0) for name in ("cot", "cot_terse", "direct", "latent_e1", "latent_kv")}
    rows |= {f"latent_{name}": record(50, 4.0) for name in (*METHODS, CONTROL)}
    for name, row in rows.items():
        if name != f"latent_{METHODS[0]}":  # the winner's evaluation is kept as latent_kv
            row.write(tmp_path / f"evaluation_{name}.json")
    curves = {name: Curve(method=name, steps=[25], accuracy=[0.5]) for name in (*METHODS, "e1")}
    lines = table(summarize(rows, curves, METHODS[0], 5.0, 0), tmp_path).splitlines()
    assert len(lines) == 1 + 4 + len(METHODS) + 1 + 8
    assert lines[1].split() == ["CoT,", "verbose", "50.0%", "40.4-59.6", "4.0", "1.0"]
    assert lines[-1].split() == ["minutes:", "5", "bar", "<=", "6", "reached"]
    assert lines[-2].endswith("bar >= 1.5  NOT reached")
