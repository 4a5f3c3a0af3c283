"""The demo from end to end, with a share of its steps."""

import json
import re
from pathlib import Path

import pytest

from kvdistill.commands.demo import run as demo
from kvdistill.commands.demo.recipe import warm_stages
from kvdistill.records.schema import EvaluationRecord, Metrics

KEYS = {
    *(
        "cot",
        "direct",
        "latent_e1",
        "latent_kv",
        "kv_method",
        "latent_by_method",
        "steps_to_90_e1",
        "steps_to_90_kv",
    ),
    *("passes_cot", "passes_latent", "minutes"),
}


def test_a_short_demo_leaves_every_file_and_an_honest_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a demo"
    demo.demo(folder, 3, "kvdistill demo --share 0.01", share=0.01)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary.keys() >= KEYS
    assert set(summary["latent_by_method"]) == set(demo.METHODS)
    assert summary["bars"]["chain of thought"]["reached"] is False
    printed = capsys.readouterr().out
    assert "NOT reached" in printed
    assert "latent, no KV term (E1)" in printed
    assert "latent, shuffled KV" in printed
    assert re.search(
        r"^warm_terse ended: (all \d+ steps made, )?validation accuracy \d\.\d\d", printed, flags=re.MULTILINE
    )
    assert "[1/6] warm_terse: chains of thought, until validation accuracy 0.95, at most 9 steps" in printed
    names = {path.name for path in folder.iterdir()}
    assert {
        "report.html",
        "report.md",
        "run.json",
        "probes.json",
        "curve_e1.json",
        "metrics_e1.jsonl",
    } <= names
    latent = EvaluationRecord.read(folder / "evaluation_latent_kv.json")
    assert latent.sequential_passes_mean >= 1 + demo.HOPS + 1
    assert summary["passes_latent"] == latent.sequential_passes_mean


def test_a_share_outside_its_range_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--share is 0"):
        demo.demo(tmp_path, 0, "kvdistill demo", share=0.0)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_outside_its_range_is_refused(tmp_path: Path, seed: int) -> None:
    with pytest.raises(ValueError, match=rf"--seed is {seed}; choose an integer from 0 to 4294967295\."):
        demo.demo(tmp_path, seed, "kvdistill demo")
    assert not list(tmp_path.iterdir())


def test_a_stage_that_reaches_its_goal_says_so(tmp_path: Path) -> None:
    stage = warm_stages()[0]
    metrics = Metrics(tmp_path / stage.name / "metrics.jsonl")
    metrics.append_row(400, {"validation_accuracy": 0.94})
    assert demo._outcome(tmp_path, stage) == "all 400 steps made, validation accuracy 0.94"
    metrics.append_row(425, {"validation_accuracy": 0.988})
    assert demo._outcome(tmp_path, stage) == "validation accuracy 0.99 reached at step 425 of at most 900"
