"""Both reports in a browser: light, dark and on a phone, with data and names full of markup."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

import pico_browser
from kvdistill.records.example import ExampleAnswer, ExampleRecord, SlotReading
from kvdistill.records.probes import ProbesRecord
from kvdistill.records.schema import Bar, Curve, DemoSummary, EvaluationRecord, Metrics, RunRecord
from kvdistill.reporting.report import write_demo_report
from kvdistill.reporting.studies.experiment_report import write_experiment_report
from kvdistill.reporting.style import head

MARKUP = "<script>pwned=1</script><img src=x onerror=pwned=1>$x_{ ^\\frac` ```` & | </td></svg>"
PAGES = [
    (name, width) for name in ("demo/report.html", "study/EXPERIMENT_REPORT.html") for width in (1280, 390)
]


def test_the_page_refuses_everything_from_outside_and_knows_both_schemes() -> None:
    page = head("a < b")
    assert "<title>a &lt; b</title>" in page and "default-src 'none'" in page
    assert (
        "color-scheme: light dark" in page and "prefers-color-scheme: dark" in page and "@media print" in page
    )


def write_demo(folder: Path) -> None:
    """A demo in which every name that a user can choose is markup."""
    summary = DemoSummary(
        cot=0.9,
        direct=0.2,
        latent_e1=0.3,
        latent_kv=0.8,
        kv_method="rkv",
        latent_by_method={"rkv": 0.8, MARKUP: 0.1},
        steps_to_90_e1=None,
        steps_to_90_kv=20,
        passes_cot=20.0,
        passes_latent=7.0,
        minutes=2.895,
        bars={MARKUP: Bar(value=4.0, bar=1.5, text=MARKUP)},
    )
    summary.write(folder / "summary.json")
    record = EvaluationRecord(
        data_set=MARKUP,
        mode="latent",
        num=50,
        correct=40,
        sequential_passes_mean=7.0,
        tokens_mean=9.0,
        ms_batch1=1.0,
        ms_batch32=None,
        chance=0.125,
    )
    for name in ("latent_kv", "cot", "mine $x_{"):
        record.write(folder / f"evaluation_{name}.json")
    for name, method in (("rkv", "KV"), ("mine", MARKUP)):
        Curve(method=method, steps=[10, 20], accuracy=[0.1, 0.9]).write(folder / f"curve_{name}.json")
        Metrics(folder / f"metrics_{name}.jsonl").append_row(1, {"loss": 1.0, MARKUP: 2.0})
    ProbesRecord(zeroed=0.1, swapped=0.2, fewer={0: 0.1}, top_words=[[MARKUP]], step_match=[1.0]).write(
        folder / "probes.json"
    )
    RunRecord(
        config={MARKUP: MARKUP},
        versions={MARKUP: MARKUP},
        commit=MARKUP,
        seed=0,
        hardware=MARKUP,
        started=MARKUP,
        seconds=1.0,
        command=MARKUP,
    ).write(folder / "run.json")
    write_example(folder)


def write_example(folder: Path) -> None:
    """A question whose every part is markup."""
    ExampleRecord(
        task=MARKUP,
        rule="the first",
        data_set=MARKUP,
        sample_id=MARKUP,
        question=f"{MARKUP} {'x' * 300}",
        steps=[MARKUP],
        results=["frac`"],
        answer=MARKUP,
        slots=[SlotReading(words=[MARKUP, "b"], probabilities=[0.75, 0.25])] * 2,
        matches=[True],
        answers=[ExampleAnswer(method=MARKUP, text=f"so {MARKUP}", answer=MARKUP, right=False)],
    ).write(folder / "example.json")


@pytest.fixture
def reports(tmp_path: Path, write_study: Any) -> Path:
    write_demo(tmp_path / "demo")
    write_demo_report(tmp_path / "demo")
    study = write_study(
        tmp_path / "study", {"E1": [0.4, 0.5], "E2": [0.6, 0.7], "E4": [0.6, 0.8], "E5": [0.4, 0.5]}
    )
    run = study / "E4" / "seed0" / "run.json"
    replace(RunRecord.read(run), command=MARKUP, commit=MARKUP, hardware=MARKUP).write(run)
    write_experiment_report(study)
    return tmp_path


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_reports_are_whole_in_a_browser(reports: Path, dark: bool) -> None:
    found, picture = pico_browser.look(reports, PAGES, dark)
    assert len(found) == len(PAGES)
    for (name, width), page in zip(PAGES, found, strict=True):
        where = f"{name} at {width} pixels: {page}"
        assert page["dark"] is dark, where
        assert not page["pwned"] and page["scripts"] == page["images"] == 0, where
        assert page["title"].startswith(("Latent reasoning demo", "Experiments")), where
        assert page["overflow"] <= 0 and page["widest"] <= 0, where
        assert page["texts"] > 50 and page["smallest"] >= 9, where
        assert page["figures"] == (5 if "demo" in name else 3), where
    pixels = imread(picture)[:, :, :3]
    for place in range(len(PAGES)):
        corner = pixels[1000 * place + 3, 3]
        assert (corner.max() < 0.15) if dark else (corner.min() > 0.95), (PAGES[place], corner)
        body = pixels[1000 * place : 1000 * (place + 1), :390].mean()
        assert body < 0.35 if dark else body > 0.7, (PAGES[place], body)


def test_no_figure_of_names_full_of_markup_fails(reports: Path) -> None:
    for folder in ("demo", "study"):
        for page in (reports / folder).glob("*.html"):
            assert "could not be drawn" not in page.read_text(encoding="utf-8")
    text = (reports / "demo" / "report.md").read_text(encoding="utf-8")
    assert "\n`````\n" in text  # the fence of the configuration is longer than the one in it
