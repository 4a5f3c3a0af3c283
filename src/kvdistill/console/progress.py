"""Progress reports: a tqdm bar on a terminal, a line once a minute in a log."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from tqdm import tqdm

EVERY = 60.0
"""Seconds between two lines in a log."""


class Bar(tqdm):
    """tqdm's bar, which shows the remaining time only after 5 seconds, 2 units and 2 % of the work."""

    @property
    def format_dict(self) -> dict[str, Any]:
        """The values of tqdm's bar; the format has no estimate while it would be unreliable."""
        shown = dict(super().format_dict)
        done, total = shown["n"] - shown["initial"], shown["total"] or 0
        if shown["elapsed"] < 5 or done < max(2, 0.02 * total):
            shown["bar_format"] = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
        return shown


def on_terminal() -> bool:
    """Whether stderr is a terminal, and not a file or a pipe."""
    return sys.stderr.isatty()


class Progress:
    """Progress of work of a known length, used as a context manager.

    Args:
        total: units of work.
        name: label of the bar.
        unit: noun for one unit, such as ``question``.
        shown: False prints nothing.
    """

    def __init__(self, total: int, name: str, unit: str, shown: bool = True) -> None:
        self.total, self.name, self.unit, self.shown = total, name, unit, shown
        self.done = 0
        self._said = time.monotonic()
        self._bar: Bar | None = None
        if shown and on_terminal():
            self._bar = Bar(total=total, desc=name, unit=unit, leave=False, dynamic_ncols=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, count: int = 1) -> None:
        """Report ``count`` more units as done."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
        elif self.shown and time.monotonic() - self._said >= EVERY:
            self._said = time.monotonic()
            print(f"{self.name}: {self.done} of {self.total} {self.unit}s", file=sys.stderr, flush=True)


class StageProgress:
    """Progress of several stages, which may run in parallel: one bar each, or one common line in a log.

    Args:
        steps: number of steps of each stage, by its name.
    """

    def __init__(self, steps: Mapping[str, int]) -> None:
        self.steps = dict(steps)
        self.done = dict.fromkeys(steps, 0)
        self._notes = dict.fromkeys(steps, "")
        self._said = time.monotonic()
        self._bars: dict[str, Bar] = {}
        if on_terminal():
            for row, (name, total) in enumerate(steps.items()):
                self._bars[name] = _stage_bar(name, total, row)

    def __enter__(self) -> "StageProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for bar in self._bars.values():
            bar.close()
        if not self._bars:
            self._say()

    def reach(self, name: str, step: int, note: str = "") -> None:
        """Report how far a stage is.

        Args:
            name: the stage.
            step: steps done so far.
            note: shown behind the count, such as the loss.
        """
        begins = self.done[name] == 0
        self.done[name], self._notes[name] = step, note
        if self._bars:
            bar = self._bars[name]
            if begins:  # its clock starts now, not when the bar was made
                bar.reset()
                bar.initial = step
            bar.n = step
            bar.set_postfix_str(note)
        elif time.monotonic() - self._said >= EVERY:
            self._say()

    def _say(self) -> None:
        self._said = time.monotonic()
        parts = []
        for name, done in self.done.items():
            part = f"{name} {done}/{self.steps[name]}"
            if note := self._notes[name]:
                part += f" ({note})"
            parts.append(part)
        print("steps: " + ", ".join(parts), file=sys.stderr, flush=True)


def _stage_bar(name: str, total: int, row: int) -> Bar:
    return Bar(total=total, desc=f"{name:>16}", unit="step", position=row, dynamic_ncols=True)
