"""Read a configuration from TOML or JSON and apply ``--section.option value`` overrides."""

import json
import os
import stat
import tomllib
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kvdistill.config.explain import explain
from kvdistill.config.mistyped import mistyped
from kvdistill.config.sections import RunConfig
from kvdistill.console.messages import explain_os_error, shortened
from kvdistill.console.paths import expanded
from kvdistill.records.jsonfile import DEEPEST, depth_of, parse_json
from kvdistill.records.renamed import present_option, present_options

_PARSERS: dict[str, tuple[str, Callable[[str], Any]]] = {".json": ("JSON", parse_json)}
"""Name and parser of a file's format by its suffix; every other file is TOML."""


def load(path: Path | str | None, overrides: list[str] | None = None) -> RunConfig:
    """Read a configuration file and apply overrides.

    Values of overrides are read as JSON where they are JSON (``3``, ``true``, ``null``, ``[1, 2]``), else as
    text. A changed ``kind`` drops the options of the previous kind, wherever it is among the overrides.

    Args:
        path: a TOML file, a JSON file with resolved options, or a ``run.json``; None starts from nothing.
        overrides: words of the command line, ``["--section.option", "value", ...]``.

    Returns:
        The validated configuration.

    Raises:
        ValueError: naming file, option, and the nearest name where one is misspelled.
    """
    if path is None:
        return parse(changed({}, overrides or []), "the command line")
    return parse(changed(read_tree(path), overrides or []), str(path))


def changed(tree: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Apply overrides to a copy of a tree of options.

    Args:
        tree: nested options; not changed.
        overrides: as in ``load``.

    Returns:
        The changed copy, not validated yet.

    Raises:
        ValueError: if an override has no value, or addresses an option below one that holds a value.
    """
    tree = deepcopy(tree)
    pairs = [(present_option(name), value) for name, value in _pairs(overrides)]
    for name, value in sorted(pairs, key=_kinds_first):
        if name.count(".") >= DEEPEST // 2:
            raise ValueError(f"there is no option --{shortened(name)}: it is nested too deep.")
        _set(tree, name, value)
    return tree


def parse(tree: dict[str, Any], where: str) -> RunConfig:
    """Validate a tree of options.

    Args:
        tree: nested options.
        where: where they come from, named in every message.

    Returns:
        The configuration.

    Raises:
        ValueError: one line for each problem, as in ``load``.
    """
    tree = _present(tree, where)
    # Before pydantic, which would convert such values.
    if found := mistyped(tree, RunConfig):
        raise ValueError("\n".join(f"{where}: {sentence}" for sentence in found))
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise ValueError(
            "\n".join(f"{where}: {sentence}" for sentence in explain(error, RunConfig))
        ) from None


def resolved(config: RunConfig) -> dict[str, Any]:
    """Every option with its value, defaults filled in, in JSON's types."""
    return config.model_dump(mode="json")


def with_defaults(options: dict[str, Any]) -> dict[str, Any]:
    """The options of an earlier run, with the defaults of options that were added since.

    Args:
        options: nested options, as in ``run.json``.

    Returns:
        Every option; ``options`` itself where one of them no longer exists.
    """
    try:
        return resolved(parse(options, "run.json"))
    except ValueError:
        return options


def read_tree(path: Path | str) -> dict[str, Any]:
    """The options in a file, not validated yet.

    Args:
        path: a TOML file; with the suffix ``.json`` a file of resolved options, or the ``run.json`` of a run.

    Returns:
        Nested options, under their present names.

    Raises:
        ValueError: if the file does not exist, cannot be parsed, or holds no options.
    """
    path = Path(expanded(str(path)))
    kind, parsed = _PARSERS.get(path.suffix, ("TOML", tomllib.loads))
    text = _text_of(path)
    try:
        tree = parsed(text)
    except ValueError as error:
        raise ValueError(f"{path} is not {kind}: {error}.") from error
    except RecursionError:
        raise ValueError(f"{path} is not a configuration: it is nested too deep.") from None
    if depth_of(tree) > DEEPEST:
        raise ValueError(f"{path} is not a configuration: it is nested too deep.")
    if path.name == "run.json" and isinstance(tree, dict):
        tree = tree.get("config")
    if not isinstance(tree, dict):
        raise ValueError(
            f"{path} holds no configuration: name a TOML file, or the run.json that a training run wrote."
        )
    return _present(tree, str(path))


def _present(tree: dict[str, Any], where: str) -> dict[str, Any]:
    try:
        return present_options(tree)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _text_of(path: Path) -> str:
    """The text of a regular file or a pipe, without a byte order mark."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ValueError(
                f"{path} is a folder: name a TOML file, or the run.json that a training run wrote."
            )
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or path.samefile(os.devnull)):
            raise ValueError(
                f"{path} is a device or socket: name a TOML file, or the run.json that a training run wrote."
            )
        return path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(
            f"There is no configuration file {path}. Shipped ones are in experiments/configs."
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}.") from error
    except OSError as error:
        error.filename = error.filename or str(path)
        raise ValueError(explain_os_error(error)) from error


def _pairs(words: list[str]) -> list[tuple[str, str]]:
    """Name and value of each override, written ``--name value`` or ``--name=value``."""
    pairs, rest = [], list(words)
    while rest:
        name = rest.pop(0)
        if not name.startswith("--"):
            raise ValueError(
                f"{name!r} is in the place of an option: write --section.option value, such as "
                "--training.lr 1e-4."
            )
        name, equals, value = name[2:].partition("=")
        if not equals:
            if not rest:
                raise ValueError(f"--{name} has no value: write --{name} value.")
            value = rest.pop(0)
        pairs.append((name, value))
    return pairs


def _kinds_first(pair: tuple[str, str]) -> tuple[bool, int]:
    """Sort key: kinds before other options, outer kinds first, since a changed kind drops options."""
    name, _ = pair
    if not name.endswith(".kind"):
        return True, 0
    return False, name.count(".")


def _set(tree: dict[str, Any], name: str, text: str) -> None:
    try:
        value: Any = parse_json(text)
    except json.JSONDecodeError:
        value = text
    except ValueError as error:
        raise ValueError(f"--{name}: the value cannot be read, since {error}.") from None
    *parents, last = name.split(".")
    # Sections that are not there yet are created.
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise ValueError(f"--{name}: {parent} holds a value, not a section.")
    # Options of the previous kind would not be valid for the new one.
    if last == "kind" and tree.get("kind") not in (None, value):
        tree.clear()
    tree[last] = value
