"""Checkpoints by name: a local folder, or a repository on the Hugging Face hub."""

from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.utils import HFValidationError, validate_repo_id

from kvdistill.models.checkpoint_integrity import first_line
from kvdistill.records.manifest import TRAINING_ONLY

DOWNLOAD_OPTIONS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "token")
"""Options of transformers' ``from_pretrained`` that choose what is downloaded, and how."""
UPLOAD_OPTIONS = (
    "commit_description",
    "commit_message",
    "create_pr",
    "private",
    "repo_id",
    "revision",
    "tags",
    "token",
)
"""Options of transformers' ``save_pretrained`` that belong to ``push_to_hub=True``."""
AUTO_OPTIONS = ("_from_auto", "adapter_kwargs", "trust_remote_code")
"""Options that the auto classes add; a student's checkpoint has no separate adapter and contains no code."""


def checkpoint_folder(name: str | Path, options: dict[str, Any]) -> Path:
    """The folder with a checkpoint's files, downloaded where the name is a repository on the hub.

    Args:
        name: A folder, or ``owner/name``.
        options: Keyword arguments of ``from_pretrained``; those of the hub and of the auto classes are
            removed in place.

    Returns:
        The named folder, or the hub's cached copy. A name that is neither is returned as a path, so that the
        code that reads it reports what is missing.

    Raises:
        ValueError: if the repository cannot be downloaded.
    """
    download = {option: options.pop(option) for option in DOWNLOAD_OPTIONS if option in options}
    download.pop("proxies", None)  # huggingface_hub reads them from the environment
    for option in AUTO_OPTIONS:
        options.pop(option, None)
    if Path(name).exists() or not _is_repository(str(name)):
        return Path(name)
    try:
        return Path(snapshot_download(str(name), ignore_patterns=list(TRAINING_ONLY), **download))
    except OSError as error:
        raise ValueError(
            f"There is no folder {name}, and no such model could be downloaded from the hub "
            f"({first_line(error)})."
        ) from error


def _is_repository(name: str) -> bool:
    """Whether ``name`` could be a repository's: one or two parts of letters, digits and ``-_.``."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True
