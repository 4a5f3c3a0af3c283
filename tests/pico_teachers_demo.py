"""The folder of a demo of several teachers, made from records by hand."""

import json
from pathlib import Path

from kvdistill.records.calibration import AdapterMap, CalibrationRecord, TeacherCalibration
from kvdistill.records.schema import EvaluationRecord, Metrics
from kvdistill.records.study import ArmPlan, StudyPlan
from kvdistill.records.utility import utility_of

ACCURACY = {
    "cot": 100,
    "direct": 15,
    "e1": 30,
    "self": 98,
    "fused": 96,
    "only_gpt2": 90,
    "only_qwen3": 97,
    "random_teacher": 95,
    "other_text": 14,
    "cyclic": 98,
    "lift": 20,
    "gpt2": 99,
    "qwen3": 100,
}
"""Right answers of 100 questions, by arm."""


def teachers_study(folder: Path, random_teacher: int = 95) -> Path:
    """Write the study of a demo with seed 0 into ``folder/study``."""
    study = folder / "study"
    for arm, correct in (ACCURACY | {"random_teacher": random_teacher}).items():
        mode = {"cot": "cot", "direct": "direct", "gpt2": "cot", "qwen3": "cot"}.get(arm, "latent")
        run = study / arm / "seed0"
        EvaluationRecord(
            data_set="chain, test",
            mode=mode,  # pyright: ignore[reportArgumentType]
            num=100,
            correct=correct,
            sequential_passes_mean=6.0,
            tokens_mean=40.0,
            ms_batch1=None,
            ms_batch32=None,
            chance=0.15,
        ).write(run / f"evaluation_test_{mode}.json")
        metrics = Metrics(run / "metrics.jsonl")
        for step, share in ((25, 0.2), (50, 0.5), (75, correct / 100)):
            metrics.append_row(step, {"validation_accuracy": share})
    for arm in ("fused", "random_teacher"):
        calibration().write(study / arm / "seed0" / "calibration.json")
    config = {
        "model": {"config": {"model_type": "llama"}},
        "data": {"train": {"kind": "synthetic", "num": 8}},
    }
    (study / "fused" / "seed0" / "config.json").write_text(json.dumps(config))
    plan = StudyPlan(
        name="pico",
        file="pico.toml",
        planned="now",
        primary="accuracy",
        learned=0.9,
        delta={},
        arms={arm: ArmPlan(label=f"label of {arm}", seeds=[0]) for arm in ACCURACY},
        warm=[],
        claims=[],
    )
    plan.write(study / "plan.json")
    return study


def calibration() -> CalibrationRecord:
    """A calibration of two teachers with three targets."""
    teachers = [
        TeacherCalibration(
            teacher=name,
            source=name,
            weight=1.0,
            steps=["layers: 0 <- 0 (1.00)", "heads: 1 x 4 -> 2 x 3, ridge"],
            covered=0.98,
            tokens={"fit": 64, "choose": 16, "report": 20},
            maps=[
                AdapterMap(layer=0, teacher_layers=[0], states="keys", r2=0.9),
                AdapterMap(layer=0, teacher_layers=[0], states="values", r2=0.7),
            ],
            memory=1000,
            seconds=1.0,
        )
        for name in ("gpt2", "qwen3")
    ]
    right = {"own cache": 10, "fused": 9, "other sample": 1}
    targets = [
        utility_of(name, [place < count for place in range(10)], [-0.5] * 10, 0.15)
        for name, count in right.items()
    ]
    return CalibrationRecord(samples=100, teachers=teachers, targets=targets)
