"""Models are trained once, in processes of their own, and found again by their configuration."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kvdistill.commands.demo.recipe import Stage
from kvdistill.commands.demo_teachers import prepare as module
from kvdistill.commands.demo_teachers.prepare import checkpoint_of, model_folder, prepare, train_stages
from kvdistill.commands.demo_teachers.recipe import FAMILIES
from kvdistill.latent.reasoner import LatentReasoner

SHARE = 0.001
"""Two steps a stage."""


def _complete(folder: Path, name: str) -> Path:
    """A record as training leaves it, with an empty checkpoint."""
    checkpoint = model_folder(folder, name, 0, SHARE) / "last" / "checkpoint-ep1"
    checkpoint.mkdir(parents=True)
    record = {"checkpoint": "last/checkpoint-ep1", "minutes": 1.0, "cpu_minutes": 1.0}
    (checkpoint.parents[1] / module.COMPLETE).write_text(json.dumps(record))
    return checkpoint


def _short(name: str) -> list[Stage]:
    """The first and the last stage of a model, with few questions to validate on."""
    stages = FAMILIES[name](SHARE)
    return [replace(stage, max_new_tokens=4) for stage in (stages[0], stages[-1])]


def test_a_complete_model_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {name: _complete(tmp_path, name) for name in FAMILIES}
    monkeypatch.setattr(module, "_start", None)  # calling it would fail
    assert prepare(tmp_path, 0, SHARE) == wanted


def test_a_folder_belongs_to_one_configuration(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, "gpt2", 0, 1.0)
    assert folder == model_folder(tmp_path, "gpt2", 0, 1.0)
    others = [
        model_folder(tmp_path, "gpt2", 1, 1.0),
        model_folder(tmp_path, "gpt2", 0, 0.5),
        model_folder(tmp_path, "qwen3", 0, 1.0),
    ]
    assert len({folder, *others}) == 4


def test_without_its_checkpoint_a_model_is_not_complete(tmp_path: Path) -> None:
    checkpoint = _complete(tmp_path, "qwen3")
    assert checkpoint_of(tmp_path, "qwen3", 0, SHARE) == checkpoint
    checkpoint.rmdir()
    assert checkpoint_of(tmp_path, "qwen3", 0, SHARE) is None


def test_stages_follow_each_other(tmp_path: Path) -> None:
    checkpoint = train_stages(tmp_path / "model", _short("gpt2"), 0)
    assert checkpoint.parent == tmp_path / "model" / "warm_final"
    backbone = LatentReasoner.from_pretrained(checkpoint).backbone
    assert backbone.config.model_type == "gpt2"
    first = json.loads((tmp_path / "model" / "warm_final" / "run.json").read_text())
    assert Path(first["config"]["model"]["name"]).parent.name == "warm_terse"
    assert json.loads((tmp_path / "model" / module.COMPLETE).read_text())["cpu_minutes"] > 0


def test_a_process_that_stops_is_reported_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("student", "qwen3"):
        _complete(tmp_path, name)
    # A file in the place of the first stage's run folder.
    own = model_folder(tmp_path, "gpt2", 0, SHARE)
    own.mkdir()
    (own / FAMILIES["gpt2"](SHARE)[0].name).write_text("")
    with pytest.raises(ValueError, match=r"Training of gpt2 stopped: see .*log\.txt"):
        prepare(tmp_path, 0, SHARE)
    assert "Traceback" in (own / "log.txt").read_text()
