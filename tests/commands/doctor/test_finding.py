"""Sizes in GiB, and the folder whose disk a path would be on."""

from pathlib import Path

import pytest

from kvdistill.commands.doctor.finding import GIB, WEIGHTS_7B, nearest, size_text


def test_sizes_are_in_gib() -> None:
    assert size_text(3 * GIB // 2) == "1.5 GiB"
    assert size_text(WEIGHTS_7B) == "28.3 GiB"


def test_nearest_is_the_closest_folder_that_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    assert nearest(tmp_path / "a") == tmp_path / "a"
    assert nearest(tmp_path / "a" / "b" / "c") == tmp_path / "a"
    monkeypatch.chdir(tmp_path)
    assert nearest(Path("outputs")) == tmp_path
