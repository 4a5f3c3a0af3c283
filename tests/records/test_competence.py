"""Competence tables: targets worked out by hand, and tables that are refused."""

from pathlib import Path

import pytest

from kvdistill.records.competence import (
    CompetenceTable,
    Figures,
    competence_log,
    competence_row,
    read_table,
    z_scores,
)

NAMES = ("a", "b", "c")
TEACHERS = {"a": "float32:1", "b": "float32:2", "c": "float32:3"}


def table(**figures: Figures) -> CompetenceTable:
    return CompetenceTable(TEACHERS, {"k": figures})


def test_the_target_by_hand() -> None:
    # -cot: -1, -2, -3, so z = 1.2247, 0, -1.2247. right: 1, 0 of a and b, so z = 1, -1, and 0 for c.
    # answer: c alone has it, so it is left out. Means: 1.11237, -0.5, -0.61237;
    # exp: 3.04156, 0.60653, 0.54206, sum 4.19015.
    found = table(
        a=Figures(cot_nats=1.0, right=1.0),
        b=Figures(cot_nats=2.0, right=0.0),
        c=Figures(cot_nats=3.0, answer_nats=0.5),
    )
    assert found.target("k", NAMES) == pytest.approx([0.725884, 0.144751, 0.129365], abs=1e-5)
    assert found.target("k", NAMES[::-1]) == pytest.approx([0.129365, 0.144751, 0.725884], abs=1e-5)


def test_the_temperature_divides_the_scores() -> None:
    found = table(a=Figures(right=1.0), b=Figures(right=0.5))
    # z = 1 and -1: at temperature 2 the odds are exp(1).
    assert found.target("k", ["a", "b"], 2.0) == pytest.approx([0.731059, 0.268941], abs=1e-5)


def test_figures_that_do_not_count_are_as_if_not_measured() -> None:
    # z of the answer: 1 and -1; of rightness: -1 and 1. Both cancel, and each decides alone (odds exp(2)).
    found = table(a=Figures(answer_nats=1.0, right=0.0), b=Figures(answer_nats=2.0, right=1.0))
    assert found.target("k", ["a", "b"]) == pytest.approx([0.5, 0.5])
    assert found.only(["right"]).target("k", ["a", "b"]) == pytest.approx([0.119203, 0.880797], abs=1e-5)
    assert found.only(["answer_nats"]).target("k", ["a", "b"])[0] == pytest.approx(0.880797, abs=1e-5)
    assert found.only(["cot_nats"]).missing(["k"]) == 1
    assert found.only(["right"]).teachers == TEACHERS


def test_lower_nats_and_more_right_answers_are_better() -> None:
    for better, worse in (
        (Figures(cot_nats=1.0), Figures(cot_nats=1.1)),
        (Figures(answer_nats=1.0), Figures(answer_nats=1.1)),
        (Figures(right=0.5), Figures(right=0.4)),
    ):
        first, second = table(a=better, b=worse).target("k", ["a", "b"])
        assert first > 0.8 > second


@pytest.mark.parametrize(
    "figures",
    [
        {},
        {"a": Figures(cot_nats=1.0)},
        {"a": Figures(cot_nats=1.0), "b": Figures(answer_nats=2.0)},
        {"a": Figures(1.0, 2.0, 0.5), "b": Figures(1.0, 2.0, 0.5), "c": Figures(1.0, 2.0, 0.5)},
        {"a": Figures(1.0), "b": Figures(1.000004), "c": Figures(1.0)},
    ],
)
def test_teachers_that_cannot_be_told_apart_are_uniform(figures: dict[str, Figures]) -> None:
    assert table(**figures).target("k", NAMES) == pytest.approx([1 / 3] * 3)
    assert table(**figures).target("other", NAMES) == pytest.approx([1 / 3] * 3)
    assert table(**figures).target("k", ["a"]) == [1.0]


def test_a_teacher_without_figures_is_at_the_mean() -> None:
    assert z_scores([1.0, None, 3.0]) == pytest.approx([-1.0, 0.0, 1.0])
    assert z_scores([None, 2.0]) == []


def test_questions_without_figures_are_counted() -> None:
    found = table(a=Figures(cot_nats=1.0), b=Figures())
    assert found.missing(["k", "x", "y"]) == 2
    assert (found.missing(["k"], "a"), found.missing(["k"], "b"), found.missing(["k"], "c")) == (0, 1, 1)


def test_tables_of_other_teachers_are_refused() -> None:
    found = table()
    found.require_teachers({"a": "float32:1", "b": "bfloat16:9"})
    with pytest.raises(ValueError, match=r"^teachers\.b: its weights are not those .*`kvdistill competence"):
        found.require_teachers({"a": "float32:1", "b": "float32:9"})
    for refused in (lambda: found.require_teachers({"d": "1"}), lambda: found.target("k", ["d"])):
        with pytest.raises(ValueError, match="no teacher d; it has a, b, c"):
            refused()


def save(folder: Path, *rows: dict[str, object]) -> None:
    log = competence_log(folder)
    log.begin({"teachers": TEACHERS, "questions": 1, "data": "d"})
    log.append(rows)


def test_it_comes_back_as_it_went(tmp_path: Path) -> None:
    figures = {"a": Figures(1.5, None, 0.25), "b": Figures(), "c": Figures(1.0, 2.0, 3.0)}
    save(tmp_path, *(competence_row("k", name, each) for name, each in figures.items()))
    for place in (tmp_path, tmp_path / "competence.jsonl"):
        found = CompetenceTable.read(place)
        assert (found.teachers, found.figures) == (TEACHERS, {"k": figures})
        assert found.header == {"questions": 1, "data": "d"}


def test_an_incomplete_table_is_refused(tmp_path: Path) -> None:
    save(tmp_path, competence_row("k", "a", Figures()))
    with pytest.raises(ValueError, match="holds 0 of 1 questions of the teacher b: run `kvdistill comp"):
        CompetenceTable.read(tmp_path)
    assert read_table(tmp_path).figures == {"k": {"a": Figures()}}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (competence_row("k", "a", Figures()), "line 3: question k of the teacher a occurs twice"),
        (
            competence_row("k", "d", Figures()),
            "line 3: question k of the teacher d occurs twice, or the head",
        ),
        ({"key": "k"}, "line 3: a line should hold key, teacher, cot_nats"),
        (competence_row("k", "b", Figures()) | {"right": True}, "line 3: a line should hold"),
        (competence_row("k", "b", Figures()) | {"key": 1}, "line 3: a line should hold"),
    ],
)
def test_rows_of_another_form_are_refused(tmp_path: Path, row: dict[str, object], words: str) -> None:
    save(tmp_path, competence_row("k", "a", Figures()), row)
    with pytest.raises(ValueError, match=words):
        CompetenceTable.read(tmp_path)


def test_another_header_is_refused(tmp_path: Path) -> None:
    competence_log(tmp_path).begin({"teachers": TEACHERS})
    with pytest.raises(ValueError, match="line 1: the header should hold teachers and questions"):
        read_table(tmp_path)
