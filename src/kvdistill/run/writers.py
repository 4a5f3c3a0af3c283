"""The writing teachers of a configuration, of which one is in memory at a time."""

import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kvdistill.config import DataSection, TeacherSection
from kvdistill.run.writing import WritingTeacher, open_writer


@dataclass(frozen=True)
class Fingerprints:
    """What identifies a teacher in the header of a table."""

    weights: str
    reading: str


class Writers:
    """Teachers that are loaded when they are asked for; the one before is dropped.

    Keep no reference to an opened teacher, or it stays in memory beside the next.

    Args:
        sections: the teachers by short name.
        data: how the run's examples become text.
    """

    def __init__(self, sections: Mapping[str, TeacherSection], data: DataSection) -> None:
        self.sections, self.data = dict(sections), data
        self._held: WritingTeacher | None = None
        self._known: dict[str, Fingerprints] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self.sections)

    def open(self, name: str) -> WritingTeacher:
        """Load a teacher where it is not the one in memory.

        Args:
            name: short name of the teacher.

        Returns:
            The teacher.

        Raises:
            ValueError: as ``open_writer`` does.
        """
        if self._held is None or self._held.name != name:
            if self._held is not None:
                self._held = None
                gc.collect()  # modules may be part of a cycle, and the memory is needed now
            self._held = open_writer(name, self.sections[name], self.data)
        return self._held

    def fingerprints(self, name: str) -> Fingerprints:
        """Fingerprints of a teacher, which is loaded the first time only.

        Args:
            name: short name of the teacher.

        Returns:
            Its weights, and how texts become tokens.
        """
        if name not in self._known:
            teacher = self.open(name)
            self._known[name] = Fingerprints(teacher.weights, teacher.reading)
        return self._known[name]
