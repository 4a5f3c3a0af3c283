"""The options of training."""

import pytest
from pydantic import ValidationError

from kvdistill.config.training import TrainingSection


def test_zero_steps_and_unknown_options_are_refused() -> None:
    assert TrainingSection(max_steps=-1).max_steps == -1
    for wrong in ({"max_steps": 0}, {"steps": 3}, {"lr": float("inf")}):
        with pytest.raises(ValidationError):
            TrainingSection.model_validate(wrong)


def test_a_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert TrainingSection(output_dir="~/run").output_dir == "/home/me/run"
