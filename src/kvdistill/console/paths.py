"""Paths that users type: expansion of ``~``, and the check of output folders."""

import argparse
import os
from pathlib import Path


def expanded(path: str) -> str:
    """Expand a leading ``~`` or ``~user`` to that user's home folder.

    Raises:
        ValueError: if there is no such user.
    """
    if not path.startswith("~"):
        return path
    found = os.path.expanduser(path)  # noqa: PTH111 - pathlib raises a RuntimeError
    if found.startswith("~"):
        user = path.partition("/")[0]
        raise ValueError(
            f"{path}: there is no user {user[1:]!r}, so {user} is no home folder. For a file of that name "
            f"write ./{path}."
        )
    return found


def path_argument(text: str) -> str:
    """``expanded`` as the ``type`` of an argparse argument."""
    try:
        return expanded(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def require_folder(option: str, folder: Path) -> None:
    """Refuse an output folder whose path is a file or leads through one.

    Args:
        option: the option that names it, for the message.
        folder: the output folder, which need not exist yet.

    Raises:
        ValueError: naming the option and the file.
    """
    file = next((place for place in (folder, *folder.parents) if place.exists() and not place.is_dir()), None)
    if file is not None:
        raise ValueError(f"{option}: {file} is a file; give a folder for the results.")
