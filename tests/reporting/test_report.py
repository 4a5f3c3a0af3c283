"""Reports from synthetic records: what is shown, what is said to be missing, and that nothing outside is asked for."""

import base64
import io
import math
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.image import imread

from kvdistill.record import Bar, Curve, DemoSummary, EvaluationRecord, Metrics, Mode, ProbesRecord, RunRecord
from kvdistill.reporting.report import write_demo_report, write_report

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
    steps_to_90_kv=1900,
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
        "minutes on this machine": Bar(value=13.7, bar=20.0, at_most=True),
        "steps until E1 reaches 90 %": Bar(value=None, bar=3000.0),
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
    return Curve(method=method, steps=steps, accuracy=[min(1.0, max(0.0, a + w)) for a, w in zip(accuracy, wave, strict=True)])


def run_record() -> RunRecord:
    return RunRecord(
        config={"model": {"layers": 4, "width": 128}, "latent": {"slots": 6}, "loss": {"kv_weight": 1.25, "name": "<smooth_l1>"}},
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
        ("kv", "KV (rkv)", 0.93, 1.3),
        ("kv2", "KV (uniform)", 0.92, 1.2),
    ):
        curve(method, top, speed).write(folder / f"curve_{name}.json")
    for run, floor in (("e1", 0.9), ("kv", 0.3)):
        for step in range(0, 3001, 50):
            decay = math.exp(-step / 600)
            values = {"ce_student": floor + decay, "codi": 0.2 + decay / 2, "learning_rate": 1e-3}
            Metrics(folder / f"metrics_{run}.jsonl").append_row(step, values | ({"kv": 0.1 + decay} if run == "kv" else {}))
    ProbesRecord(
        zeroed=0.113,
        swapped=0.097,
        fewer={1: 0.32, 3: 0.64},
        top_words=[["12", "21"], ["7", "<b>"], ["3|4", "5"]],
        step_match=[0.871, 0.712, 0.655],
    ).write(folder / "probes.json")


class Reader(HTMLParser):
    """Collects the text, the pictures and whatever would be fetched; tags have to close in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.pictures: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href"):
                (self.pictures if (value or "").startswith("data:image/png") else self.fetched).append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data.replace("\N{NO-BREAK SPACE}", " "))

    @property
    def title(self) -> str:
        return "".join(self.text)


def read_html(path: Path) -> tuple[Reader, str]:
    reader = Reader(path.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader, " ".join(reader.text)


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    fill_demo(tmp_path)
    return tmp_path
