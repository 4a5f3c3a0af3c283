"""The report of an alignment by hand."""

from dataclasses import replace

from kvdistill.records.calibration import AdapterMap, CalibrationRecord, TeacherCalibration
from kvdistill.records.utility import TargetUtility
from kvdistill.reporting.align_report import align_page
from kvdistill.reporting.blocks import Words

MAPS = [
    AdapterMap(layer=0, teacher_layers=[0], states="keys", r2=0.9, penalty=0.1),
    AdapterMap(layer=0, teacher_layers=[0], states="values", r2=0.8),
    AdapterMap(layer=1, teacher_layers=[1, 2], states="keys", r2=0.5),
    AdapterMap(layer=1, teacher_layers=[1, 2], states="values", r2=0.25),
]
TEACHER = TeacherCalibration(
    teacher="big",
    source="some/model",
    weight=0.5,
    steps=["layers: 0 <- 0 (1.00); 1 <- 1 (0.50), 2 (0.50)", "heads: 2 x 8 -> 2 x 16, ridge"],
    covered=0.995,
    tokens={"fit": 1200, "report": 34},
    maps=MAPS,
    memory=3 * 2**20,
    seconds=6.0,
    attention_cosine=[0.75, None],
)
UTILITY = TargetUtility(target="fused", num=4, correct=1, nats=-2.0, chance=0.125)
RECORD = CalibrationRecord(samples=100, teachers=[TEACHER], targets=[UTILITY])


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_every_column_by_hand() -> None:
    """6 s for 100 samples are 0.48 s for a step of 8; the mean R² of keys is 0.7, the cosine of one layer."""
    text = align_page(RECORD, 8, {}).plain()
    assert ["big", "0.5", "99.5", "%", "0.700", "0.525", "0.750", "3.0", "MiB", "0.48"] in rows(text)
    assert ["0", "0", "0.900", "0.800", "0.750"] in rows(text)
    assert ["1", "1,", "2", "0.500", "0.250", "–"] in rows(text), "a layer without a cosine"
    assert ["fused", "25.0", "%", "4.6–69.9", "%", "-2.00", "12.5", "%", "4"] in rows(text)
    assert ["heads", "2", "x", "8", "->", "2", "x", "16,", "ridge"] in rows(text)
    assert ["tokens", "1,200", "to", "fit,", "34", "to", "report"] in rows(text)
    assert "How 1 teacher will be aligned" in text and "100 training samples" in text


def test_what_was_not_measured_is_a_dash_or_a_sentence() -> None:
    bare = replace(TEACHER, attention_cosine=None)
    text = align_page(replace(RECORD, teachers=[bare], targets=None), 8, {}).plain()
    assert ["1", "1,", "2", "0.500", "0.250", "–"] in rows(text)
    assert "Not measured: the compressor keeps more than the student's slots" in text


def test_figures_are_in_their_teachers_section() -> None:
    page = align_page(RECORD, 8, {"big": [Words("a figure")]})
    assert [section.title for section in page.sections] == [
        "Teachers",
        "Teacher big",
        "What each target is worth",
    ]
    assert page.sections[1].blocks[-1] == Words("a figure")
    assert "a figure" in page.html()
