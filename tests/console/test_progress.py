"""A bar where somebody watches, now and then a line where nobody does."""

import io
import re
import sys

import pytest

from kvdistill.console import progress
from kvdistill.console.progress import Bar, Progress, StageProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(40, "latent", "question") as shown:
        shown.advance(10)
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(progress, "EVERY", 0.0)
        shown.advance(10)
    assert capsys.readouterr().err == "latent: 20 of 40 questions\n"
    with Progress(40, "latent", "question", shown=False) as hidden:
        hidden.advance(10)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_that_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(2, "latent", "question") as shown:
        shown.advance(2)
    assert "latent:   0%" in terminal.getvalue()
    assert "\n" not in terminal.getvalue(), "a finished bar leaves no blank line"
    assert terminal.getvalue().endswith("\r")


@pytest.mark.parametrize(
    ("n", "elapsed", "estimates"), [(1, 60.0, False), (30, 2.0, False), (1, 2.0, False), (30, 60.0, True)]
)
def test_no_estimate_at_the_beginning(
    monkeypatch: pytest.MonkeyPatch, n: int, elapsed: float, estimates: bool
) -> None:
    bar = Bar(total=100, file=io.StringIO(), ncols=80)
    bar.n = n
    bar.start_t = bar._time() - elapsed
    assert (re.search(r"<\d\d:\d\d", str(bar)) is not None) == estimates
    bar.close()


def test_stages_side_by_side(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with StageProgress({"kv": 250, "e1": 600}) as shown:
        shown.reach("kv", 25, "validation 0.50")
    assert capsys.readouterr().err == "steps: kv 25/250 (validation 0.50), e1 0/600\n"
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with StageProgress({"kv": 250, "e1": 600}) as shown:
        shown.reach("kv", 25, "validation 0.50")
        shown.reach("e1", 600)
    assert "25/250" in terminal.getvalue() and "600/600" in terminal.getvalue()
