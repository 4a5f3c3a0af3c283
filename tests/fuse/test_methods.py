"""Settings of the fusion: which need a table, how many prototypes there are, and refusals."""

import pytest

from kvdistill.fuse.methods import Competence, Draw, Fixed, FusionShape, Learnable, Similarity


def test_tables_and_counts() -> None:
    assert Fixed().table is None and Draw().table is None
    assert Fixed().module(FusionShape(("a", "b"), (1.0, 1.0), 2, 3)) is None
    assert [method.table for method in (Competence(competence="c"), Learnable(competence="d"))] == ["c", "d"]
    assert Similarity().count == 1
    assert Similarity(prototypes="kmeans", clusters=5).count == 5


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_temperatures_are_above_zero(value: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Learnable(temperature=value)
    with pytest.raises(ValueError, match="above 0"):
        Competence(competence_temperature=value)


def test_at_least_one_figure_counts() -> None:
    for method in (Competence, Similarity, Learnable):
        with pytest.raises(ValueError, match="Give one or more of cot_nats, answer_nats, right"):
            method(competence_figures=())


def test_strengths_are_finite() -> None:
    with pytest.raises(ValueError, match="entropy_strength is nan"):
        Learnable(entropy_strength=float("nan"))
