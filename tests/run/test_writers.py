"""Writing teachers one at a time: which is in memory, and how often each is loaded."""

import weakref
from pathlib import Path
from typing import Any

import pytest

import pico_trained
from kvdistill.config import DataSection, SyntheticData, TeacherSection
from kvdistill.run import writers
from kvdistill.run.competence import measure_competence
from kvdistill.run.writers import Writers
from kvdistill.run.writing import WritingTeacher, open_writer

DATA = DataSection(train=SyntheticData(num=1))


class Loads:
    """Opens teachers, and notes which are loaded and how many models are still there then."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.models: list[weakref.ref[Any]] = []
        self.alive: list[int] = []

    def __call__(self, name: str, section: TeacherSection, data: DataSection) -> WritingTeacher:
        self.names.append(name)
        self.alive.append(sum(model() is not None for model in self.models))
        found = open_writer(name, section, data)
        self.models.append(weakref.ref(found.model))
        return found


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Loads:
    found = Loads()
    monkeypatch.setattr(writers, "open_writer", found)
    return found


def sections(folder: Path) -> dict[str, TeacherSection]:
    pico_trained.student().save_pretrained(folder / "model")
    return {name: TeacherSection(name=str(folder / "model")) for name in ("a", "b", "c")}


def test_the_teacher_in_memory_is_not_loaded_again(tmp_path: Path, loads: Loads) -> None:
    found = Writers(sections(tmp_path), DATA)
    assert list(found) == ["a", "b", "c"]
    assert found.open("a") is found.open("a")
    known = found.fingerprints("a")
    assert (known.weights, known.reading) == (found.open("a").weights, found.open("a").reading)
    assert found.open("b").name == "b"
    assert found.fingerprints("a") is known
    assert loads.names == ["a", "b"]


def test_a_table_takes_one_teacher_in_memory_at_a_time(tmp_path: Path, loads: Loads) -> None:
    found, questions = Writers(sections(tmp_path), DATA), pico_trained.examples()[:3]
    measure_competence(found, questions, {}, tmp_path / "table", print)
    # Once for the header of the table, which names all of them, and once to be measured.
    assert loads.names == ["a", "b", "c", "a", "b", "c"]
    assert loads.alive == [0] * 6
    measure_competence(found, questions, {}, tmp_path / "table", print)
    assert len(loads.names) == 6
