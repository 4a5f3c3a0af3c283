"""Routing in a run's report, from made-up records."""

from dataclasses import replace
from pathlib import Path

from kvdistill.records.routing import RoutingRecord
from kvdistill.records.schema import Metrics
from kvdistill.reporting.blocks import Picture, Words
from kvdistill.reporting.routing_section import routing_section, sorted_samples
from pico_reports import rows

RECORD = RoutingRecord(
    teachers=["add", "sub"],
    sample_ids=["a", "b", "c", "d", "e"],
    weights=[[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.0, 0.0], [0.3, 0.7]],
    layers=[[0.5, 0.5], [0.3, 0.7]],
    best=["add", "sub", "sub", None, "add"],
)


def names(blocks: object) -> list[str]:
    return [block.path.name for block in blocks if isinstance(block, Picture)]  # pyright: ignore


def test_a_run_without_routing_has_no_section(tmp_path: Path) -> None:
    assert routing_section(tmp_path, None) == []
    Metrics(tmp_path / "metrics.jsonl").append_row(1, {"kv": 1.0, "kv_weight": 2.0})
    assert routing_section(tmp_path, None) == []


def test_samples_are_sorted_by_best_teacher_then_by_its_weight() -> None:
    # add: a (.9), e (.3); sub: b (.8), c (.4); none: d.
    assert sorted_samples(RECORD) == [0, 4, 1, 2, 3]


def test_weights_of_the_record_are_told_and_drawn(tmp_path: Path) -> None:
    (section,) = routing_section(tmp_path, RECORD)
    assert rows(section) == [[["add", "40.0 %", "2"], ["sub", "40.0 %", "2"]]]
    told = section.blocks[0]
    assert isinstance(told, Words)
    # a and b of the four samples with a best teacher.
    assert told.text.endswith("most competent teacher's in 50.0\N{NO-BREAK SPACE}%.")
    assert names(section.blocks) == ["routing_samples.svg", "routing_layers.svg"]
    html = "".join(block.html() for block in section.blocks)
    for name in ("none known", "weight (0 to 1)", "student layer", "add"):
        assert f">{name}<" in html
    (shared,) = routing_section(tmp_path, replace(RECORD, layers=None))
    assert names(shared.blocks) == ["routing_samples.svg"]


def test_the_course_of_training_is_drawn_where_it_was_logged(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "metrics.jsonl")
    metrics.append_row(1, {"weight_add": 0.5, "weight_sub": 0.5, "route_entropy": 0.69})
    metrics.append_row(2, {"weight_add": 0.8, "weight_sub": 0.2, "validation_route_agreement": 0.75})
    (section,) = routing_section(tmp_path, None)
    assert names(section.blocks) == ["routing_agreement.svg", "routing_weights.svg", "routing_entropy.svg"]
    agreement, weights, entropy = (block.html() for block in section.blocks)
    assert ">validation<" in agreement
    assert ">training<" not in agreement
    assert ">sub<" in weights
    assert ">entropy (nats)<" in entropy
