"""Dataclasses stored as JSON files: written atomically, read with every key and type checked.

A field that still has its default is left out of the file. A field that ``__post_init__`` computes is written
for other programs; on reading it has to agree with the fields it is computed from.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from itertools import chain
from math import isclose
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin

import numpy as np

from kvdistill.console.messages import quoted, shortened

Kind = TypeVar("Kind", bound="JsonFile")
DEEPEST = 100
"""Most levels of nested objects and lists in a JSON text that is read."""
TOO_DEEP = f"it is nested more than {DEEPEST} levels deep"


class JsonFile:
    """Base class of the dataclasses that are stored as JSON files."""

    version: ClassVar[int | None] = 1
    """Version of the schema, written to the file; None where the format is given from outside."""
    made_by: ClassVar[str] = "kvdistill train"
    """The command that writes the file."""

    def write(self, path: Path) -> None:
        """Write the file atomically (temporary file, fsync, rename); missing folders are made.

        Raises:
            ValueError: if a value is not finite, naming its key.
        """
        document: dict[str, Any] = _plain(self)
        if self.version is not None:
            document = {"version": self.version, **document}
        for key, value in document.items():
            try:
                json.dumps(value, allow_nan=False, default=_from_numpy)
            except ValueError as error:
                raise ValueError(
                    f"{path}: {key} holds a number that is not finite. Repair what measures it, or record "
                    "null."
                ) from error
        write_atomic(path, json.dumps(document, indent=2, ensure_ascii=False, default=_from_numpy) + "\n")

    @classmethod
    def read(cls: type[Kind], path: Path) -> Kind:
        """Read and check the dataclass in a file.

        Raises:
            FileNotFoundError: if there is no such file; the message names the command that writes it.
            ValueError: if the file is not JSON, of another version, or a key is missing, unknown or of the
                wrong type.
        """
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist: `{cls.made_by}` writes it.")
        try:
            document = read_json(path)
        except ValueError as error:
            raise ValueError(f"{path} is no JSON ({error}): write it again with `{cls.made_by}`.") from error
        if not isinstance(document, dict):
            raise ValueError(f"{path} should hold one JSON object: write it again with `{cls.made_by}`.")
        if cls.version is not None and (found := document.pop("version", None)) != cls.version:
            raise ValueError(
                f"{path}: version is {found!r}, this kvdistill reads {cls.version}. Write it again with "
                f"`{cls.made_by}`."
            )
        return _build(cls, document, f"{path}: ")

    @classmethod
    def find(cls: type[Kind], path: Path) -> Kind | None:
        """As ``read``, but None where the file does not exist."""
        if not path.is_file():
            return None
        return cls.read(path)


def read_json(path: Path) -> Any:
    """The document in a JSON file.

    Raises:
        ValueError: if it is not a regular file, or as ``parse_json`` does; the message is a reason without
            the file's name, which the caller adds.
        OSError: if it is missing or cannot be read.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is not a regular file")
    return parse_json(path.read_text(encoding="utf-8"))


def parse_json(text: str, pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """``json.loads`` for untrusted texts, with a limit on nesting.

    Args:
        text: a JSON text.
        pairs_hook: ``object_pairs_hook`` of ``json.loads``.

    Returns:
        The value.

    Raises:
        ValueError: if the text is not JSON, holds a number of thousands of digits, or is nested more than
            ``DEEPEST`` levels, which would otherwise end in a ``RecursionError`` here or in the caller.
    """
    try:
        value = json.loads(text, object_pairs_hook=pairs_hook)
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        raise ValueError("it holds a number of thousands of digits") from error
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    # Counting brackets is cheap and bounds the depth: most texts need no closer look.
    if text.count("[") + text.count("{") > DEEPEST and depth_of(value) > DEEPEST:
        raise ValueError(TOO_DEEP)
    return value


def depth_of(value: Any) -> int:
    """Levels of dictionaries and lists in ``value``; 0 for a number or a string."""
    # Level by level, since recursion is what the caller has to be protected from.
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = list(chain.from_iterable(map(_items, level)))
    return depth


def _items(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    """The values of a dictionary or of a list."""
    if isinstance(value, dict):
        return value.values()
    return value


def by_dotted_name(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Flatten nested options: ``{"training": {"lr": 1}}`` becomes ``{"training.lr": 1}``.

    Args:
        tree: nested options; an empty dictionary in it counts as a value.
        above: prefix of the names, with its dot.

    Returns:
        One flat dictionary.
    """
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            found |= by_dotted_name(value, f"{above}{name}.")
        else:
            found[f"{above}{name}"] = value
    return found


def write_atomic(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically; missing folders are made.

    A reader, also after a crash, finds the old content or the new one, never a part of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    # The rename itself is durable only once the folder is synced.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _from_numpy(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(
        f"a {type(value).__name__} does not go into a record: use numbers, strings, lists and dicts."
    )


def _plain(value: Any) -> Any:
    """``value`` in JSON's types; fields of a dataclass that still have their default are left out."""
    if is_dataclass(value):
        held = ((f, getattr(value, f.name)) for f in fields(value))
        return {f.name: _plain(item) for f, item in held if f.default is MISSING or item != f.default}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _build(kind: Any, document: Any, where: str) -> Any:
    """A dataclass from its JSON object; ``where`` is the file and the key of the object, for messages."""
    if not isinstance(document, dict):
        raise ValueError(
            f"{where.rstrip('.: ')} should be a JSON object, not {quoted(document)}. Write the file again."
        )
    known = {f.name: f for f in fields(kind)}
    if unknown := sorted(document.keys() - known.keys()):
        raise ValueError(
            f"{where}unknown key {shortened(', '.join(unknown))}. Remove it, or write the file again."
        )
    if missing := sorted(name for name, f in known.items() if f.default is MISSING and name not in document):
        raise ValueError(f"{where}missing key {', '.join(missing)}. Write the file again.")
    values = {name: _parse(known[name].type, value, f"{where}{name}") for name, value in document.items()}
    record = kind(**{name: value for name, value in values.items() if known[name].init})
    # Computed fields: the file has to agree with what __post_init__ computed.
    for name in (name for name in values if not known[name].init):
        if not isclose(values[name], getattr(record, name), abs_tol=1e-9):
            raise ValueError(
                f"{where}{name} is {values[name]}, the other keys give {getattr(record, name)}. Write the "
                "file again."
            )
    return record


def _parse(hint: Any, value: Any, where: str) -> Any:
    """Check ``value`` against a type hint; lists, dicts and dataclasses item by item."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any or (origin is Literal and value in args) or (value is None and NoneType in args):
        return value
    if NoneType in args:
        return _parse(args[0], value, where)
    if is_dataclass(hint):
        return _build(hint, value, f"{where}.")
    if origin is list and isinstance(value, list):
        return [_parse(args[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {
            _parse(args[0], _key(args[0], key), f"{where} key"): _parse(args[1], item, f"{where}.{key}")
            for key, item in value.items()
        }
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is hint:
        return value
    raise ValueError(f"{where} should be {_described(hint)}, not {quoted(value)}. Write the file again.")


def _described(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    return getattr(hint, "__name__", str(hint))


def _key(hint: Any, key: str) -> int | str:
    """A key of an object: JSON's keys are strings, those of ``dict[int, ...]`` are converted back."""
    if hint is int and key.isdecimal():
        return int(key)
    return key
