"""What a checkpoint's manifest notices: every change of a byte that is read, and nothing else."""

import json
import os
import random
from pathlib import Path

import pytest

from kvdistill.records.manifest import CONTENTS, Entry, Manifest, digest, problem, require_unchanged

FILES = {
    "model.safetensors": b"\x01\x02" * 300,
    "tokenizer.json": b'{"a": 1}',
    "optimizer.pt": b"numbers" * 30,
    "trainer_state.json": b"{}",
}
CONFIG = {"base": "here", "slots": 2}


def checkpoint(folder: Path) -> Path:
    """A folder with a manifest."""
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    Manifest.of(folder, folder.name, 7).write(folder / CONTENTS)
    return folder


def check(folder: Path, training: bool = True) -> None:
    Manifest.load(folder, "Do this.").require(folder, "Do this.", training)


def test_what_was_written_is_accepted(tmp_path: Path) -> None:
    check(checkpoint(tmp_path))
    require_unchanged(tmp_path)
    manifest = Manifest.load(tmp_path, "")
    assert (manifest.checkpoint, manifest.global_step) == (tmp_path.name, 7)
    assert manifest.files.keys() == {*FILES, "config.json"}
    assert manifest.files["optimizer.pt"].size == 210


@pytest.mark.parametrize("name", [*FILES, "config.json", CONTENTS])
def test_every_flipped_bit_is_noticed(name: str, tmp_path: Path) -> None:
    file = checkpoint(tmp_path) / name
    data, chance = file.read_bytes(), random.Random(name)
    base = data.find(b"here")
    for _ in range(60):
        place = chance.randrange(len(data))
        if name == "config.json" and base - 1 <= place <= base + 4:
            continue
        changed = bytearray(data)
        changed[place] ^= 1 << chance.randrange(8)
        file.write_bytes(changed)
        with pytest.raises(ValueError, match=r"^\S+ (is|was) .* Do this\.$"):
            check(tmp_path)
            if (found := Manifest.load(tmp_path, "Do this.")) and (found.checkpoint, found.global_step) != (
                tmp_path.name,
                7,
            ):
                raise ValueError("x is another checkpoint's, which resuming compares. Do this.")


def test_only_the_base_of_a_configuration_may_be_edited(tmp_path: Path) -> None:
    file = checkpoint(tmp_path) / "config.json"
    file.write_text(json.dumps(CONFIG | {"base": "elsewhere"}, indent=4))
    check(tmp_path)
    for other in (CONFIG | {"slots": 3}, [CONFIG], CONFIG | {"more": None}):
        file.write_text(json.dumps(other))
        with pytest.raises(
            ValueError,
            match=r"config\.json is damaged or was replaced: its hash is not the one that was written with",
        ):
            check(tmp_path)


def test_loading_the_model_needs_only_the_files_of_the_model(tmp_path: Path) -> None:
    (checkpoint(tmp_path) / "optimizer.pt").unlink()
    require_unchanged(tmp_path)
    with pytest.raises(ValueError, match=r"optimizer\.pt is missing\. Do this\."):
        check(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b'{"a": 2}')
    with pytest.raises(
        ValueError,
        match=r"tokenizer\.json is damaged or was replaced.* If the change was made on purpose, delete "
        r"\S+json: ",
    ):
        require_unchanged(tmp_path)
    (tmp_path / CONTENTS).unlink()
    require_unchanged(tmp_path)


@pytest.mark.parametrize(
    "make",
    [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")],
    ids=["pipe", "folder", "device"],
)
@pytest.mark.parametrize("name", ["model.safetensors", CONTENTS])
def test_what_is_no_file_is_not_opened(make, name: str, tmp_path: Path) -> None:
    (checkpoint(tmp_path) / name).unlink()
    make(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name} is (not a regular file|damaged)"):
        require_unchanged(tmp_path)


def test_files_that_came_along_are_refused_where_they_would_be_read(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    for name in (
        "evaluation_tokens_latent.json",
        "evaluation_test_cot.answers.txt",
        "probes.json",
        "notes.txt",
        "quarantine_x.jsonl",
    ):
        (tmp_path / name).touch()
    check(tmp_path)
    for name in (
        "own.py",
        "adapter_config.json",
        "added_tokens.json",
        "model-2.safetensors",
        "chat_template.jinja",
    ):
        (tmp_path / name).touch()
        with pytest.raises(ValueError, match=rf"{name} was not written with the checkpoint: move it away\."):
            require_unchanged(tmp_path)
        (tmp_path / name).unlink()
    (tmp_path / "scaler.pt").touch()
    require_unchanged(tmp_path)
    with pytest.raises(ValueError, match=r"scaler\.pt was not written with the checkpoint"):
        check(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "null",
        "{}",
        "3",
        '{"model.safetensors": "600"}',
        '{"version": 2, "files": []}',
        "[" * 10**5,
        '{"version": 2}',
        "\0",
    ],
)
def test_a_manifest_of_another_form_is_refused(text: str, tmp_path: Path) -> None:
    (checkpoint(tmp_path) / CONTENTS).write_text(text)
    with pytest.raises(
        ValueError,
        match=r"contents\.json is damaged, so it is not known whether the checkpoint is complete\. Do this\.",
    ):
        check(tmp_path)


def test_manifests_of_the_earlier_version_hold_sizes(tmp_path: Path) -> None:
    sizes = {name: len(data) for name, data in FILES.items()}
    (checkpoint(tmp_path) / CONTENTS).write_text(json.dumps(sizes, indent=1))
    (tmp_path / "more.json").touch()
    check(tmp_path)
    require_unchanged(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(
        ValueError, match=r"model\.safetensors is damaged: it has 5 bytes, and 600 were written\. Do this\."
    ):
        check(tmp_path)


def test_a_hash_by_hand(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert digest(tmp_path / "empty") == "99aa06d3014798d86001c324468d497f"
    assert problem(tmp_path / "empty", Entry(size=0, xxh3_128=digest(tmp_path / "empty"))) is None
