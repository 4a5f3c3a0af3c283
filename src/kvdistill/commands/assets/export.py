"""Export a hub data set to JSON lines that the readers of ``kvdistill.data`` recognize."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, load_dataset
from tqdm import tqdm

from kvdistill.commands.assets.errors import HubError, in_words

FORMS = (("question", "steps", "answer"), ("question", "answer"))
"""The columns that are written, of ``StepsJson`` or of ``Gsm8k``: the first form that a data set has."""
CONFIGS = {"openai/gsm8k": "main"}
"""Default configuration of data sets that have several."""


@dataclass(frozen=True)
class Exported:
    """A written JSON lines file."""

    path: Path
    num_rows: int
    sha256: str
    written: bool
    """False where the file existed with the same content."""

    def __str__(self) -> str:
        place = str(self.path)
        if not self.written:
            place += ", there already"
        return f"{self.num_rows:,} rows -> {place} (sha256 {self.sha256})"


def default_config(name: str) -> str | None:
    """The configuration of a data set that is used if none is named; None leaves it to the hub."""
    return CONFIGS.get(name)


def load_splits(name: str, config: str | None = None, wanted: Sequence[str] = ()) -> dict[str, Dataset]:
    """Load the splits of a data set.

    Args:
        name: a hub name or a folder.
        config: the data set's configuration; None takes the default.
        wanted: names of splits; empty takes all.

    Returns:
        Split name -> rows.

    Raises:
        HubError: if it cannot be fetched, or has no such split.
    """
    with in_words("dataset", name):
        found = load_dataset(name, config or default_config(name))
    assert isinstance(found, DatasetDict), "without a split named and without streaming, all splits come"
    if unknown := [split for split in wanted if split not in found]:
        raise HubError(f"{name} has no split {unknown[0]!r}. It has: {', '.join(map(str, found))}.")
    return {str(split): rows for split, rows in found.items() if not wanted or split in wanted}


def export(name: str, splits: Mapping[str, Dataset], folder: Path, overwrite: bool = False) -> list[Exported]:
    """Write each split to a file: ``whynlp/gsm8k-aug``'s ``train`` to ``gsm8k_aug_train.jsonl``.

    Args:
        name: hub name or folder of the data set.
        splits: rows by split.
        folder: where the files are written.
        overwrite: whether files with other content are replaced.

    Returns:
        One entry per split.

    Raises:
        HubError: if a split lacks the columns of a known form, or a file with other content exists.
    """
    # All splits are checked before the first one is written.
    stem = Path(name).name.replace("-", "_").lower()
    forms = {split: _form(f"{name}, split {split}", rows) for split, rows in splits.items()}
    return [
        _write(rows, forms[split], folder / f"{stem}_{split}.jsonl", overwrite)
        for split, rows in splits.items()
    ]


def _form(where: str, rows: Dataset) -> tuple[str, ...]:
    for form in FORMS:
        if set(form) <= set(rows.column_names):
            return form
    known = "; or ".join(", ".join(form) for form in FORMS)
    raise HubError(
        f"{where}: the columns {', '.join(rows.column_names)} fit no form that is written: {known}. Choose "
        "another --dataset_name."
    )


def _write(rows: Dataset, form: tuple[str, ...], path: Path, overwrite: bool) -> Exported:
    """Write rows to a temporary file, which replaces ``path`` once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    digest = hashlib.sha256()
    try:
        with temporary.open("wb") as file:
            row: Any
            for row in tqdm(rows, desc=path.name, unit="row", disable=None):
                line = (
                    json.dumps({column: row[column] for column in form}, ensure_ascii=False) + "\n"
                ).encode()
                digest.update(line)
                file.write(line)
            file.flush()
            os.fsync(file.fileno())
        same = path.is_file() and _sha256(path) == digest.hexdigest()
        if path.exists() and not same and not overwrite:
            raise HubError(
                f"{path} is there with other content. Give --overwrite to replace it, or --output_dir to "
                "write elsewhere."
            )
        if not same:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return Exported(path, len(rows), digest.hexdigest(), written=not same)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
