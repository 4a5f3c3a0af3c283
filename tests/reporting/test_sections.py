"""Sections of a report, each by its numbers."""

from pathlib import Path

from kvdistill.record import Bar, Curve, DemoSummary, Metrics, ProbesRecord
from kvdistill.reporting import sections
from kvdistill.reporting.page import Missing, Picture, Section, Table, Words

SUMMARY = DemoSummary(
    cot=0.9,
    direct=0.3,
    latent_e1=0.6,
    latent_kv=0.8,
    kv_method="rkv",
    latent_by_method={"uniform": 0.7, "rkv": 0.8, "crop": 0.85},
    steps_to_90_e1=None,
    steps_to_90_kv=20,
    passes_cot=40.0,
    passes_latent=7.0,
    minutes=2.0,
    threshold=0.5,
    bars={"gain": Bar(value=0.2, bar=0.1), "passes": Bar(value=7.0, bar=5.0, at_most=True)},
)
CURVE = Curve(method="KV", steps=[0, 10, 20], accuracy=[0.0, 0.4, 0.5])


def rows(section: Section) -> list[list[list[str]]]:
    """The tables of a section as plain cells."""
    tables = [block for block in section.blocks if isinstance(block, Table)]
    return [[[cell.replace("\N{NO-BREAK SPACE}", " ") for cell in row] for row in table.rows] for table in tables]


def test_the_headline_is_computed() -> None:
    title, lead = sections.headline(SUMMARY)
    assert "80.0\N{NO-BREAK SPACE}% right in 7 passes" in title
    for part in ("(rkv)", "60.0", "90.0", "in 40 passes", "30.0", "took 2.0 minutes"):
        assert part in lead
    assert sections.headline(None)[0] == "Latent reasoning demo"


def test_bars_say_reached_or_not() -> None:
    section = sections.bars(SUMMARY)
    assert rows(section) == [[["gain", "0.2", "at least 0.1", "reached"], ["passes", "7", "at most 5", "not reached"]]]
    assert section.blocks[0] == Words("1 of 2 bars reached.")


def test_training_measures_each_curve(tmp_path: Path) -> None:
    section = sections.training(tmp_path, SUMMARY, [CURVE])
    # (2 + 4.5) / 20 is the mean; the threshold 0.5 is reached at the end.
    assert rows(section) == [[["KV", "20", "50.0 %", "20", "32.5 %", "0.0 points"]]]
    assert "without the KV term: never in this run; with it (rkv): step 20." in section.blocks[0].text  # pyright: ignore[reportAttributeAccessIssue]
    assert rows(sections.training(tmp_path, None, [CURVE]))[0][0][3] == "20"
    assert sections.training(tmp_path, None, []).blocks == [Missing("curve_*.json", "kvdistill demo")]


def test_losses_come_from_every_metrics_file_without_the_bookkeeping(tmp_path: Path) -> None:
    Metrics(tmp_path / "metrics_e1.jsonl").append_row(1, {"learning_rate": 0.1, "eval_loss": 1.0})
    assert sections.losses(tmp_path, "kvdistill demo").blocks == [Missing("metrics.jsonl", "kvdistill demo")]
    Metrics(tmp_path / "metrics_kv.jsonl").append_row(1, {"loss": 2.0})
    (picture,) = sections.losses(tmp_path, "kvdistill demo").blocks
    assert isinstance(picture, Picture) and picture.path.is_file()


def test_compressors_are_ranked_and_the_winner_on_validation_is_marked() -> None:
    (table,) = rows(sections.methods(SUMMARY))
    assert table == [["crop", "85.0 %", ""], ["rkv", "80.0 %", "won on validation"], ["uniform", "70.0 %", ""]]


def test_probes_of_uneven_length_show_a_dash() -> None:
    probes = ProbesRecord(zeroed=0.1, swapped=0.2, fewer={1: 0.3, 12: 0.5, 3: 0.4}, top_words=[["7", "8"]], step_match=[0.9, 0.8])
    changed, slots = rows(sections.probes(probes, SUMMARY))
    assert [row[0] for row in changed] == [
        "as trained",
        "zeroed",
        "of another question",
        "cut to 12 slots",
        "cut to 3 slots",
        "cut to 1 slot",
    ]
    assert [row[1] for row in changed] == ["80.0 %", "10.0 %", "20.0 %", "50.0 %", "40.0 %", "30.0 %"]
    assert slots == [["1", "7, 8", "90.0 %"], ["2", "–", "80.0 %"]]


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    assert sections.probes(None, SUMMARY).blocks == [Missing("probes.json", "kvdistill demo")]
    assert sections.made(tmp_path, "kvdistill train", None).blocks == [Missing("run.json", "kvdistill train")]
    assert all(isinstance(section.blocks[0], Missing) for section in (sections.bars(None), sections.methods(None)))
