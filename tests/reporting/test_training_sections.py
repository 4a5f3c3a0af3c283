"""How training went, by its numbers."""

from dataclasses import replace
from pathlib import Path

from kvdistill.records.schema import Curve, Metrics
from kvdistill.reporting import training_sections
from kvdistill.reporting.blocks import Missing, Picture, Table, Words
from pico_reports import SUMMARY, rows

CURVE = Curve(method="KV", steps=[0, 10, 20], accuracy=[0.0, 0.4, 0.5])


def test_training_measures_each_curve(tmp_path: Path) -> None:
    section = training_sections.training(tmp_path, SUMMARY, {"rkv": CURVE}, 0.125)
    # (2 + 4.5) / 20 is the mean; the threshold 0.5 is reached at the end.
    assert rows(section) == [[["latent, R-KV", "20", "50.0 %", "20", "32.5 %", "0.0 points"]]]
    assert "latent, no KV term (E1): never in this run; latent, R-KV: step 20." in section.blocks[0].text
    assert rows(training_sections.training(tmp_path, None, {"rkv": CURVE}, None))[0][0][3] == "20"
    assert training_sections.training(tmp_path, None, {}, None).blocks == [
        Missing("curve_*.json", "kvdistill demo")
    ]


def test_log_probabilities_are_shown_where_they_were_logged(tmp_path: Path) -> None:
    new = replace(CURVE, nats=[-2.0, -1.25, -0.5])
    section = training_sections.training(tmp_path, None, {"rkv": new, "e1": CURVE}, None)
    assert [row[-1] for row in rows(section)[0]] == ["-0.5", "–"]
    pictures = [block for block in section.blocks if isinstance(block, Picture)]
    assert [picture.path.name for picture in pictures] == ["curves.svg", "nats.svg"]


def test_losses_come_from_every_metrics_file_without_the_bookkeeping(tmp_path: Path) -> None:
    Metrics(tmp_path / "metrics_e1.jsonl").append_row(
        1, {"learning_rate": 0.1, "eval_loss": 1.0, "weight_a": 1.0, "route_entropy": 0.0}
    )
    assert training_sections.losses(tmp_path, "kvdistill demo").blocks == [
        Missing("metrics.jsonl", "kvdistill demo")
    ]
    Metrics(tmp_path / "metrics_kv.jsonl").append_row(1, {"loss": 2.0})
    Metrics(tmp_path / "metrics_kv.jsonl").append_row(
        2, {"epoch_loss": 2.0, "epoch_only": 1.0, "importance_max": 0.5, "validation_nats": -1.0}
    )
    picture, terms, ranges = training_sections.losses(tmp_path, "kvdistill demo").blocks
    assert isinstance(picture, Picture) and isinstance(terms, Table) and isinstance(ranges, Words)
    titles = [
        name
        for name in ("loss", "epoch_loss", "epoch_only", "importance_max", "validation_nats")
        if f">{name}<" in picture.html()
    ]
    assert (
        titles == ["loss", "epoch_only"]
        and [row[0] for row in terms.rows] == ["loss"]
        and "importance_min" in ranges.text
    )


def test_layers_are_shown_by_number_and_many_layers_by_a_few(tmp_path: Path) -> None:
    """Six panels of eleven layers: 0, 2, 4, 6, 8 and 10; validation has panels beside the training terms."""
    values = {f"kv_layer{layer}": 1.0 for layer in range(11)}
    Metrics(tmp_path / "metrics.jsonl").append_row(1, values | {"kv": 1.0, "validation_kv": 1.0, "loss": 2.0})
    picture, terms = training_sections.losses(tmp_path, "kvdistill train").blocks
    assert isinstance(picture, Picture) and isinstance(terms, Table)
    html = picture.html()
    shown = [layer for layer in range(11) if f">kv_layer{layer}<" in html]
    assert shown == [0, 2, 4, 6, 8, 10]
    assert html.index(">kv_layer2<") < html.index(">kv_layer10<")
    assert [row[0] for row in terms.rows] == ["loss", "kv", "kv_layer*", "validation_kv"]


def test_a_run_has_the_validation_curve_that_it_logged(tmp_path: Path) -> None:
    assert training_sections.run_curve(tmp_path) == {}
    Metrics(tmp_path / "metrics.jsonl").append_row(5, {"validation_accuracy": 0.5})
    assert training_sections.run_curve(tmp_path) == {
        "latent": Curve(method="this run", steps=[5], accuracy=[0.5])
    }
    Metrics(tmp_path / "metrics.jsonl").append_row(5, {"validation_nats": -0.5})
    assert training_sections.run_curve(tmp_path)["latent"].nats == [-0.5]
