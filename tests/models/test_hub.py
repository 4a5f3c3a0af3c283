"""A student that was pushed to the hub is loaded again by its name."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModel

import pico_students
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.models.hub import checkpoint_folder
from kvdistill.run.student import build_student
from pico_hub import SHA, Hub, put_model


@pytest.fixture
def student() -> LatentReasoner:
    return build_student(pico_students.config()).eval()


@pytest.mark.parametrize("how", ["push_to_hub", "save_pretrained"])
def test_a_pushed_student_is_loaded_by_name(
    how: str, student: LatentReasoner, local_hub: Hub, tmp_path: Path
) -> None:
    if how == "push_to_hub":
        student.push_to_hub("owner/student", commit_message="First")
    else:
        student.save_pretrained(tmp_path / "mine", push_to_hub=True, repo_id="owner/student")
        assert (tmp_path / "mine" / "tokenizer.json").is_file()
    pushed = local_hub.folder / "models" / "owner" / "student"
    names = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert names < {path.name for path in pushed.iterdir()}
    for load in (LatentReasoner.from_pretrained, AutoModel.from_pretrained):
        loaded = load("owner/student", revision="main")
        assert loaded.tokenizer.get_vocab() == student.tokenizer.get_vocab()  # pyright: ignore
        assert torch.equal(pico_students.loss_of(loaded), pico_students.loss_of(student))
    assert local_hub.served.count("model.safetensors") == 1


def test_files_of_training_alone_are_not_downloaded(local_hub: Hub, tmp_path: Path) -> None:
    put_model(local_hub.folder, "owner/run", {"config.json": b"{}", "optimizer.pt": b"x" * 100})
    options = {"cache_dir": tmp_path / "elsewhere", "token": "secret", "dtype": torch.float32}
    options |= {"adapter_kwargs": {}, "trust_remote_code": False, "_from_auto": True, "proxies": None}
    folder = checkpoint_folder("owner/run", options)
    assert folder == tmp_path / "elsewhere" / "models--owner--run" / "snapshots" / SHA
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    assert options == {"dtype": torch.float32}


def test_a_folder_needs_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert checkpoint_folder("owner/name", {}) == Path("owner/name")
    assert checkpoint_folder("outputs/run/checkpoint-ep1", {}) == Path("outputs/run/checkpoint-ep1")
    assert checkpoint_folder(tmp_path / "nothing", {}) == tmp_path / "nothing"


def test_a_name_that_is_nowhere(local_hub: Hub) -> None:
    with pytest.raises(
        ValueError,
        match=r"There is no folder owner/gone, and no such model .* from the hub \(.*404|401.*\)\.",
    ):
        LatentReasoner.from_pretrained("owner/gone")
