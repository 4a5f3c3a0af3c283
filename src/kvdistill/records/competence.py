"""``competence.jsonl``: how good each teacher is at each question, measured once before training."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from kvdistill.records.row_log import RowLog

COMPETENCE = "competence.jsonl"
"""Name of the file in its folder."""
MADE_BY = "kvdistill competence"
EQUAL = 1e-5
"""Standard deviation over teachers below which a figure counts as equal: the rounding of padded batches."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One teacher's figures for one question; None where there is none."""

    cot_nats: float | None = None
    """Nats per character of the chain of thought given the question; lower is better."""
    answer_nats: float | None = None
    """Nats per character of the answer given the question alone; lower is better."""
    right: float | None = None
    """Share (0 to 1) of its own chains of thought that ended in the right answer; higher is better."""

    def scores(self) -> tuple[float | None, float | None, float | None]:
        """The figures with one sign: higher is better."""
        return _negative(self.cot_nats), _negative(self.answer_nats), self.right


@dataclass(frozen=True)
class CompetenceTable:
    """Figures of several teachers by question; a soft target for routing.

    Source: ours.
    """

    teachers: Mapping[str, str]
    """Short name -> fingerprint of the weights."""
    figures: Mapping[str, Mapping[str, Figures]]
    """``data.keys.question_key`` -> short name -> figures."""
    header: Mapping[str, Any] = field(default_factory=dict)
    """What else identifies the table: data, tokenizers, chains of thought."""

    @staticmethod
    def read(path: Path) -> "CompetenceTable":
        """Read a complete table.

        Args:
            path: ``competence.jsonl``, or its folder.

        Returns:
            The table.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if a line is damaged, half-written or repeated, or questions are missing.
        """
        table = read_table(path)
        for name in table.teachers:
            measured = sum(name in each for each in table.figures.values())
            if measured != table.header["questions"]:
                raise ValueError(
                    f"{competence_log(path).path} holds {measured} of {table.header['questions']} questions "
                    f"of the teacher {name}: run `{MADE_BY}` again with the same options, it continues."
                )
        return table

    def only(self, figures: Collection[str]) -> "CompetenceTable":
        """The table as if the other figures had not been measured.

        Args:
            figures: fields of ``Figures``.

        Returns:
            The same questions and teachers.
        """
        others = {each.name: None for each in fields(Figures) if each.name not in figures}
        kept = {
            key: {name: replace(each, **others) for name, each in by_teacher.items()}
            for key, by_teacher in self.figures.items()
        }
        return replace(self, figures=kept)

    def target(self, key: str, names: Sequence[str], temperature: float = 1.0) -> list[float]:
        """Soft target of the fusion weights for one question.

        Each figure is z-scored over the teachers that have it; the others get the mean, which is 0. A figure
        that fewer than two teachers have is left out. The weights are the softmax of the mean z-score.

        Args:
            key: ``data.keys.question_key`` of the question.
            names: E teachers.
            temperature: divides the mean z-scores.

        Returns:
            E weights that sum to 1; uniform where the table has no such question.

        Raises:
            ValueError: if the table has no such teacher.
        """
        self._require_names(names)
        known = self.figures.get(key, {})
        scores = [known.get(name, Figures()).scores() for name in names]
        # One column per figure, E entries each.
        columns = [z_scores(column) for column in zip(*scores, strict=True)]
        usable = [column for column in columns if column]
        if not usable:
            return [1 / len(names)] * len(names)
        means = [fmean(row) for row in zip(*usable, strict=True)]
        highest = max(means)
        exponentials = [math.exp((mean - highest) / temperature) for mean in means]
        return [each / sum(exponentials) for each in exponentials]

    def missing(self, keys: Iterable[str], name: str | None = None) -> int:
        """Number of questions without figures, which get the mean or uniform weights.

        Args:
            keys: the questions.
            name: a teacher; None counts the questions that no teacher has.
        """
        absent = 0
        for key in keys:
            known = self.figures.get(key, {})
            found = known.values()
            if name is not None:
                found = [known.get(name, Figures())]
            absent += all(each == Figures() for each in found)
        return absent

    def require_teachers(self, found: Mapping[str, str]) -> None:
        """Refuse a table of other teachers.

        Args:
            found: short name -> fingerprint of the weights of the teachers that are used. Weights in another
                dtype than the table's cannot be compared and pass.

        Raises:
            ValueError: names the teacher.
        """
        self._require_names(found)
        for name, weights in found.items():
            table = self.teachers[name]
            if weights != table and weights.partition(":")[0] == table.partition(":")[0]:
                raise ValueError(
                    f"teachers.{name}: its weights are not those that the competence table was made with. "
                    f"Make a new table with `{MADE_BY}`, or put the old teacher back."
                )

    def _require_names(self, names: Iterable[str]) -> None:
        unknown = [name for name in names if name not in self.teachers]
        if unknown:
            raise ValueError(
                f"The competence table has no teacher {unknown[0]}; it has {', '.join(self.teachers)}. Make "
                f"a table of all teachers with `{MADE_BY}`."
            )


def z_scores(column: Sequence[float | None]) -> list[float]:
    """z-scores of one figure over teachers; 0 for a teacher without it.

    Args:
        column: E values, higher is better.

    Returns:
        E values with mean 0; all 0 where the values are equal, empty where fewer than two are known.
    """
    known = [value for value in column if value is not None]
    if len(known) < 2:
        return []
    mean, spread = fmean(known), pstdev(known)
    found = []
    for value in column:
        if value is None or spread < EQUAL:
            found.append(0.0)
        else:
            found.append((value - mean) / spread)
    return found


def competence_log(path: Path) -> RowLog:
    """The log of a table, given its path or that of its folder."""
    if path.is_dir():
        path = path / COMPETENCE
    return RowLog(path, MADE_BY)


def read_table(path: Path) -> CompetenceTable:
    """As ``CompetenceTable.read``, also for a table that is not complete."""
    log = competence_log(path)
    header, rows = log.read()
    teachers, questions = header.pop("teachers", None), header.get("questions")
    if not isinstance(teachers, dict) or not isinstance(questions, int):
        raise ValueError(
            f"{log.path}, line 1: the header should hold teachers and questions. Write the table again with "
            f"`{MADE_BY}`."
        )
    figures: dict[str, dict[str, Figures]] = {}
    for place, row in rows:
        key, name, found = _figures(place, row)
        by_teacher = figures.setdefault(key, {})
        if name in by_teacher or name not in teachers:
            raise ValueError(
                f"{place}: question {key} of the teacher {name} occurs twice, or the header has no such "
                "teacher. Remove the line."
            )
        by_teacher[name] = found
    return CompetenceTable(teachers, figures, header)


def competence_row(key: str, teacher: str, found: Figures) -> dict[str, Any]:
    """The line of one question and teacher, as a JSON object."""
    return {
        "key": key,
        "teacher": teacher,
        "cot_nats": found.cot_nats,
        "answer_nats": found.answer_nats,
        "right": found.right,
    }


def _figures(place: str, row: Mapping[str, Any]) -> tuple[str, str, Figures]:
    """Key, teacher and figures of a row, with their types checked."""
    texts, numbers = ("key", "teacher"), ("cot_nats", "answer_nats", "right")
    complete = row.keys() == {*texts, *numbers}
    if (
        not complete
        or not all(isinstance(row[name], str) for name in texts)
        or not all(row[name] is None or type(row[name]) in (int, float) for name in numbers)
    ):
        raise ValueError(
            f"{place}: a line should hold {', '.join((*texts, *numbers))}. Write the table again with "
            f"`{MADE_BY}`."
        )
    values = [row[name] if row[name] is None else float(row[name]) for name in numbers]
    return row["key"], row["teacher"], Figures(*values)


def _negative(value: float | None) -> float | None:
    if value is None:
        return None
    return -value
