"""Reports from synthetic records: what is shown, what is said to be missing, and that nothing outside is
asked for.
"""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kvdistill.records.probes import ProbesRecord
from kvdistill.records.schema import Bar, Curve, DemoSummary, EvaluationRecord, Metrics, Mode, RunRecord
from kvdistill.reporting.report import report, write_demo_report, write_report

COUNTS: dict[str, tuple[Mode, int, float, float, float]] = {
    "cot": ("cot", 489, 41.25, 63.5, 212.7),
    "cot_terse": ("cot_terse", 481, 18.5, 34.75, 97.3),
    "direct": ("direct", 176, 3.5, 21.0, 19.4),
    "latent_e1": ("latent", 402, 7.5, 27.0, 43.1),
    "latent_kv": ("latent", 466, 7.5, 27.0, 44.9),
}
SUMMARY = DemoSummary(
    cot=0.978,
    direct=0.352,
    latent_e1=0.804,
    latent_kv=0.932,
    kv_method="rkv",
    latent_by_method={"rkv": 0.932, "right_crop": 0.911, "uniform": 0.874, "step_end": 0.926},
    steps_to_90_e1=None,
    steps_to_90_kv=1300,
    passes_cot=41.25,
    passes_latent=7.5,
    minutes=13.7,
    cot_terse=0.962,
    ms_cot=212.7,
    ms_latent=44.9,
    passes_cot_terse=18.5,
    seed=11,
    bars={
        "latents with the KV term": Bar(value=0.932, bar=0.9),
        "gain of the KV term": Bar(value=0.128, bar=0.15),
        "minutes": Bar(value=13.7, bar=20.0, at_most=True),
        "steps until E1 reaches 90 %": Bar(value=None, bar=3000.0, at_most=True),
    },
)


def evaluation(name: str) -> EvaluationRecord:
    mode, correct, passes, tokens, ms = COUNTS[name]
    return EvaluationRecord(
        data_set="synthetic test",
        mode=mode,
        num=500,
        correct=correct,
        sequential_passes_mean=passes,
        tokens_mean=tokens,
        ms_batch1=ms,
        ms_batch32=ms / 8,
    )


def curve(method: str, top: float, speed: float) -> Curve:
    steps = list(range(0, 3001, 100))
    wave = [0.015 * math.sin(step / 90) for step in steps]
    accuracy = [top / (1 + math.exp(-(step - 900 / speed) * speed / 250)) for step in steps]
    return Curve(
        method=method,
        steps=steps,
        accuracy=[min(1.0, max(0.0, a + w)) for a, w in zip(accuracy, wave, strict=True)],
    )


def run_record() -> RunRecord:
    return RunRecord(
        config={
            "model": {"layers": 4, "width": 128},
            "latent": {"slots": 6},
            "loss": {"kv_weight": 1.25, "name": "<smooth_l1>"},
        },
        versions={"kvdistill": "0.1.0", "torch": "2.13.0", "python": "3.11.7"},
        commit="0123abc",
        seed=11,
        hardware="CPU, 2 cores",
        started="2026-01-02T03:04:05+00:00",
        seconds=822.0,
        command="kvdistill demo --seed 11",
    )


def fill_demo(folder: Path) -> None:
    SUMMARY.write(folder / "summary.json")
    run_record().write(folder / "run.json")
    for name in COUNTS:
        evaluation(name).write(folder / f"evaluation_{name}.json")
    for name, method, top, speed in (
        ("e1", "E1 (no KV term)", 0.81, 0.8),
        ("rkv", "KV (rkv)", 0.93, 1.3),
        ("kv2", "KV (uniform)", 0.92, 1.2),
    ):
        curve(method, top, speed).write(folder / f"curve_{name}.json")
    for run, floor in (("e1", 0.9), ("kv", 0.3)):
        for step in range(0, 3001, 50):
            decay = math.exp(-step / 600)
            values = {"ce_student": floor + decay, "codi": 0.2 + decay / 2, "learning_rate": 1e-3}
            Metrics(folder / f"metrics_{run}.jsonl").append_row(
                step, values | ({"kv": 0.1 + decay} if run == "kv" else {})
            )
    ProbesRecord(
        zeroed=0.113,
        swapped=0.097,
        fewer={1: 0.32, 3: 0.64},
        top_words=[["12", "21"], ["7", "<b>"], ["3|4", "5"]],
        step_match=[0.871, 0.712, 0.655],
    ).write(folder / "probes.json")


class Reader(HTMLParser):
    """Collects the text, the pictures and whatever else would be fetched; tags have to close in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.words: list[str] = []
        self.pictures = 0
        self.fetched: list[str] = []
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "iframe", "object", "embed", "video", "audio")
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)
        self.pictures += tag == "figure"
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        links = [value or "" for name, value in attrs if name.endswith("href")]
        self.fetched += [link for link in links if not link.startswith("#")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            assert "url(" not in data and "@import" not in data
        elif "svg" not in self.open:
            self.words.append(data.replace("\N{NO-BREAK SPACE}", " ").strip())


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    fill_demo(tmp_path)
    return tmp_path


def test_a_demo_report_shows_every_number_and_asks_for_nothing_outside(demo: Path) -> None:
    path = write_demo_report(demo)
    page = Reader(path)
    assert path == demo / "report.html" and page.pictures == 5 and page.fetched == ["data:,"]
    text = " ".join(page.words)
    shares = [
        SUMMARY.cot,
        SUMMARY.direct,
        SUMMARY.latent_e1,
        SUMMARY.latent_kv,
        SUMMARY.cot_terse,
        *SUMMARY.latent_by_method.values(),
    ]
    probes = [0.113, 0.097, 0.32, 0.64, 0.871, 0.712, 0.655]
    numbers = [
        "41.2",
        "7.5",
        "18.5",
        "13.7",
        "213",
        "45",
        "63.5",
        "34.8",
        "96.1–98.8",
        "1300",
        "0.128",
        "0.15",
        "3000",
        "11",
    ]
    for shown in [f"{100 * share:.1f} %" for share in shares + probes if share is not None] + numbers:
        assert shown in text, shown
    for cells in (
        ["gain of the KV term", "0.128", "at least 0.15", "not reached"],
        ["minutes", "13.7", "at most 20", "reached"],
    ):
        assert any(page.words[i : i + 4] == cells for i in range(len(page.words))), cells
    for words in (
        "latent, no KV term (E1): not in 3000 steps; latent, R-KV: step 1300",
        "latent, R-KV was best on the validation set",
        "2 of 4 bars",
    ):
        assert words in text
    for words in (
        "kvdistill demo --seed 11",
        "0123abc",
        "<smooth_l1>",
        "torch",
        "only the first slot",
        "7, <b>",
    ):
        assert words in text
    assert "Missing" not in text and "demo` again" not in text


def test_the_markdown_says_the_same_and_points_at_its_figures(demo: Path) -> None:
    page = Reader(write_demo_report(demo))
    markdown = (
        (demo / "report.md").read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ").replace("\\", "")
    )
    for words in (words for words in page.words[1:] if "swipe the table" not in words):
        assert all(line in markdown for line in words.splitlines()), words
    figures = re.findall(r"\]\((figures/\w+\.svg)\)", markdown)
    assert sorted(figures) == [
        f"figures/{name}.svg" for name in ("accuracy", "curves", "losses", "passes", "probes")
    ]
    assert all((demo / figure).is_file() for figure in figures)


def test_two_files_that_disagree_are_named(demo: Path) -> None:
    replace(SUMMARY, latent_kv=0.95).write(demo / "summary.json")
    text = " ".join(Reader(write_demo_report(demo)).words)
    assert (
        "summary.json has 95.0 % for latent_kv, evaluation_latent_kv.json 93.2 %: run `kvdistill demo` "
        "again." in text
    )


def test_a_demo_without_evaluations_shows_its_summary(tmp_path: Path) -> None:
    SUMMARY.write(tmp_path / "summary.json")
    page = Reader(write_demo_report(tmp_path))
    text = " ".join(page.words)
    assert page.pictures == 2 and "Seed 11." in text
    row = page.words.index("CoT, verbose")
    cells = [word for word in page.words[row:] if word][:8]
    assert cells == ["CoT, verbose", "97.8 %", "–", "–", "41.2", "–", "213", "–"]


def test_an_empty_demo_says_what_is_missing_and_what_writes_it(tmp_path: Path) -> None:
    page = Reader(write_demo_report(tmp_path))
    text = " ".join(page.words)
    for name in (
        "summary.json",
        "evaluation_cot.json",
        "curve_*.json",
        "metrics.jsonl",
        "latent_by_method",
        "probes.json",
        "run.json",
    ):
        assert name in text
    assert page.pictures == 0 and text.count("kvdistill demo") == 7
    assert "> Missing: run.json. `kvdistill demo` writes it." in (tmp_path / "report.md").read_text()


def test_a_broken_record_stops_the_report_by_name(demo: Path) -> None:
    (demo / "curve_rkv.json").write_text("{")
    with pytest.raises(ValueError, match=r"curve_rkv.json is no JSON"):
        write_demo_report(demo)


@pytest.mark.parametrize(
    ("write", "command"), [(write_demo_report, "kvdistill demo"), (write_report, "kvdistill train")]
)
def test_a_folder_that_is_none_is_refused(
    tmp_path: Path, write: Callable[[Path], Path], command: str
) -> None:
    with pytest.raises(
        FileNotFoundError, match=f"nowhere is no folder: give the one that `{command}` wrote."
    ):
        write(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_a_training_run_shows_its_losses_and_evaluations(tmp_path: Path) -> None:
    run_record().write(tmp_path / "run.json")
    evaluation("latent_kv").write(tmp_path / "evaluation.json")
    evaluation("latent_e1").write(tmp_path / "evaluation_early.json")
    for step in range(0, 100, 10):
        Metrics(tmp_path / "metrics.jsonl").append_row(
            step, {"loss": 2 / (step + 1), "kv": float("nan"), "grad_norm": 1.0}
        )
    page = Reader(write_report(tmp_path))
    text = " ".join(page.words)
    assert page.pictures == 3 and "Missing" not in text
    assert "Best accuracy: 93.2 %, latent slots on synthetic test (evaluation)." in text
    assert (
        "latent slots on synthetic test (evaluation_early)" in text
        and "80.4 %" in text
        and '"slots": 6' in text
    )


def test_an_unfinished_run_says_what_is_missing(tmp_path: Path) -> None:
    replace(run_record(), seconds=None, command=None).write(tmp_path / "run.json")
    curve("KV", 0.9, 1.0).write(tmp_path / "curve_rkv.json")
    page = Reader(write_report(tmp_path))
    text = " ".join(page.words)
    assert "Not evaluated yet." in text and "not finished" in text and page.pictures == 1
    assert "Missing: evaluation.json." in text and "Missing: metrics.jsonl." in text
    assert "step to 90 % of its last" in text


def test_a_folder_gets_the_report_that_belongs_to_it(
    demo: Path, tmp_path_factory: pytest.TempPathFactory, write_study: Callable
) -> None:
    assert (
        report(demo) == demo / "report.html" and "Latent reasoning demo" in (demo / "report.html").read_text()
    )
    (demo / "summary.json").unlink()
    assert "Training run" in report(demo).read_text()
    study = write_study(tmp_path_factory.mktemp("study"), {"E1": [0.5]})
    assert report(study) == study / "EXPERIMENT_REPORT.txt"
    assert "Training run seed0" in report(study / "E1" / "seed0").read_text()


def test_a_folder_with_nothing_to_report_on_says_what_it_takes(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"holds nothing to report on: name the folder of a demo \(with summary.json\)"
    ):
        report(tmp_path)
    with pytest.raises(
        FileNotFoundError,
        match="nowhere is no folder: give the one that `kvdistill demo` or `kvdistill train` wrote.",
    ):
        report(tmp_path / "nowhere")
