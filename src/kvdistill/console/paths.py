"""Paths as users type them: ``~`` is expanded here and nowhere else."""

import argparse
import os
from pathlib import Path


def expanded(path: str) -> str:
    """A path in which a leading ``~`` or ``~user`` is that user's home folder.

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
    """``expanded`` as a type of argparse."""
    try:
        return expanded(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def require_folder(option: str, folder: Path) -> None:
    """Refuse a place for results that is a file, or lies in one.

    Raises:
        ValueError: naming the option.
    """
    file = next((place for place in (folder, *folder.parents) if place.exists() and not place.is_dir()), None)
    if file is not None:
        raise ValueError(f"{option}: {file} is a file; give a folder for the results.")
