"""Manifest of a checkpoint: size and hash of each file, so that damaged or mixed ones are refused."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from hashlib import file_digest
from pathlib import Path
from typing import ClassVar

from xxhash import xxh3_128

from kvdistill.records.jsonfile import JsonFile, read_json

CONTENTS = "contents.json"
"""The file name of the manifest."""
CONFIG = "config.json"
"""Hashed without its key ``base``, which users may edit where the base model has moved."""
TRAINING_ONLY = (
    "trainer_state.json",
    "optimizer.pt",
    "scheduler.pt",
    "scaler.pt",
    "rng_state*.pth",
    "carried.safetensors",
)
"""Patterns of files that only a resumed training reads."""
LOADABLE = (
    *(
        "*.safetensors",
        "*.safetensors.index.json",
        "*.bin",
        "*.pt",
        "*.pth",
        "*.py",
        "*.jinja",
        "*.model",
        "*.tiktoken",
    ),
    *(
        "config*.json",
        "adapter_config.json",
        "generation_config.json",
        "tokenizer*",
        "vocab*",
        "merges*",
        "tekken.json",
    ),
    *("added_tokens.json", "special_tokens_map.json"),
)
"""Patterns of files that loading reads where they exist: an added one would change the loaded model."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Size and hash of one file of a checkpoint."""

    size: int
    """Bytes."""
    xxh3_128: str | None
    """Hash of the content, against damage and mix-ups; None in older manifests, which hold sizes alone.
    """


@dataclass(frozen=True, kw_only=True)
class Manifest(JsonFile):
    """``contents.json``: the files of a checkpoint."""

    version: ClassVar[int | None] = 2

    checkpoint: str | None
    """The folder's name; None in an older manifest without a version."""
    global_step: int | None
    """Optimizer steps done when it was written; None in an older manifest without a version."""
    files: dict[str, Entry]
    """By path relative to the folder."""

    @staticmethod
    def of(folder: Path, name: str, global_step: int) -> "Manifest":
        """The manifest of the files that are in a folder now.

        Args:
            folder: the checkpoint, possibly under a temporary name.
            name: the name that the folder gets.
            global_step: optimizer steps done.
        """
        paths = [path for path in _files(folder) if path != folder / CONTENTS]
        with ThreadPoolExecutor() as pool:
            digests = list(pool.map(digest, paths))
        entries = (
            Entry(size=path.stat().st_size, xxh3_128=found)
            for path, found in zip(paths, digests, strict=True)
        )
        files = {str(path.relative_to(folder)): entry for path, entry in zip(paths, entries, strict=True)}
        return Manifest(checkpoint=name, global_step=global_step, files=files)

    @staticmethod
    def load(folder: Path, remedy: str) -> "Manifest":
        """Read the manifest of a checkpoint, also an older one without a version.

        Args:
            folder: the checkpoint.
            remedy: what to do, as the end of the message.

        Raises:
            ValueError: if the manifest is missing or cannot be read.
        """
        file = folder / CONTENTS
        unknown = f"so it is not known whether the checkpoint is complete. {remedy}"
        if not file.exists():
            raise ValueError(f"{file} is missing, {unknown}")
        try:
            document = read_json(file)
            if isinstance(document, dict) and "version" in document:
                return Manifest.read(file)
            return _earlier(document)
        except ValueError as error:
            raise ValueError(f"{file} is damaged, {unknown}") from error

    def require(self, folder: Path, remedy: str, training: bool) -> None:
        """Refuse a folder in which a file is missing, was changed, or was added.

        Args:
            folder: the checkpoint.
            remedy: what to do, as the end of the message.
            training: True also checks the files that only a resumed training reads.

        Raises:
            ValueError: naming the first such file.
        """
        ignored = () if training else TRAINING_ONLY
        names = [name for name in self.files if not _matches(name, ignored)]
        with ThreadPoolExecutor() as pool:
            problems = list(pool.map(lambda name: problem(folder / name, self.files[name]), names))
        for name, found in zip(names, problems, strict=True):
            if found is not None:
                raise ValueError(f"{folder / name} {found}. {remedy}")
        # Older manifests are checked only for the files that they list.
        if self.checkpoint is not None:
            for path in _files(folder):
                name = str(path.relative_to(folder))
                if name not in self.files and _matches(path.name, LOADABLE) and not _matches(name, ignored):
                    raise ValueError(f"{path} was not written with the checkpoint: move it away. {remedy}")


def require_unchanged(folder: Path) -> None:
    """Refuse to load a model from a checkpoint whose files were changed; folders without a manifest pass.

    Raises:
        ValueError: naming the first file that is missing, damaged or added.
    """
    if not (folder / CONTENTS).exists():
        return
    remedy = (
        "Copy the checkpoint here again, or use another one. If the change was made on purpose, delete "
        f"{folder / CONTENTS}: the model can then be loaded, but training cannot be resumed from it."
    )
    Manifest.load(folder, remedy).require(folder, remedy, training=False)


def problem(path: Path, entry: Entry) -> str | None:
    """What is wrong with a file of a checkpoint.

    Args:
        path: the file.
        entry: its entry in the manifest.

    Returns:
        The end of a sentence that begins with the file's name; None where the file is as it was written.
    """
    if not path.exists():
        return "is missing"
    if not path.is_file():
        return "is not a regular file"
    # The size first: it is known without reading the file.
    if path.name != CONFIG and path.stat().st_size != entry.size:
        return f"is damaged: it has {path.stat().st_size} bytes, and {entry.size} were written"
    if entry.xxh3_128 is None:
        return None
    try:
        found = digest(path)
    except ValueError as error:
        return f"is damaged ({error})"
    if found != entry.xxh3_128:
        return "is damaged or was replaced: its hash is not the one that was written with the checkpoint"
    return None


def digest(path: Path) -> str:
    """XXH3-128 of a file, in hex; of a config.json that of its content without ``base``.

    Raises:
        ValueError: if a config.json is not JSON.
    """
    if path.name == CONFIG:
        content = read_json(path)
        if isinstance(content, dict):
            content.pop("base", None)
        return xxh3_128(json.dumps(content, sort_keys=True).encode()).hexdigest()
    with path.open("rb") as file:
        return file_digest(file, xxh3_128).hexdigest()


def _earlier(document: object) -> Manifest:
    """A manifest from an older one without a version: an object of file names and sizes."""
    if (
        not isinstance(document, dict)
        or not document
        or not all(type(size) is int for size in document.values())
    ):
        raise ValueError("a manifest of the earlier version lists the size of each file")
    return Manifest(
        checkpoint=None,
        global_step=None,
        files={name: Entry(size=size, xxh3_128=None) for name, size in document.items()},
    )


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)
