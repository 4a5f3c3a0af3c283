"""Reading a configuration: TOML or JSON, changed by ``--section.option value``."""

import json
import tomllib
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kvdistill.config.explain import explain
from kvdistill.config.sections import RunConfig
from kvdistill.paths import expanded


def load(path: Path | str | None, overrides: list[str] | None = None) -> RunConfig:
    """Read a TOML file, a resolved JSON one (or nothing), and apply ``["--section.option", "value", ...]``.

    Values are read as JSON where they are JSON (``3``, ``true``, ``null``, ``[1, 2]``), else as text. A ``kind`` that changes drops
    the options of the kind before, wherever it stands among the overrides.

    Raises:
        ValueError: naming file, option, and the nearest name where one is misspelt.
    """
    tree = {} if path is None else read_tree(path)
    return parse(changed(tree, overrides or []), "the command line" if path is None else str(path))


def changed(tree: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """A tree of options with overrides applied as in ``load``; the given one stays as it is.

    Raises:
        ValueError: if an override has no value, or goes into an option that holds one.
    """
    tree = deepcopy(tree)
    for name, value in sorted(_pairs(overrides), key=_kinds_first):
        _set(tree, name, value)
    return tree


def parse(tree: dict[str, Any], where: str) -> RunConfig:
    """The configuration in a tree of options; ``where`` it comes from stands in every message.

    Raises:
        ValueError: one line a problem, as in ``load``.
    """
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise ValueError("\n".join(f"{where}: {sentence}" for sentence in explain(error, RunConfig))) from None


def resolved(config: RunConfig) -> dict[str, Any]:
    """Every option with its value, as JSON would hold it."""
    return config.model_dump(mode="json")


def read_tree(path: Path | str) -> dict[str, Any]:
    """The options in a file. Hand-written files are TOML; resolved ones are JSON, a run's own run.json among them.

    Raises:
        ValueError: if there is no such file, or it holds no options.
    """
    path = Path(expanded(str(path)))
    if not path.is_file():
        raise ValueError(f"There is no configuration file {path}. Shipped ones are in experiments/configs.")
    try:
        text = path.read_text(encoding="utf-8")
        tree = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not {'JSON' if path.suffix == '.json' else 'TOML'}: {error}.") from error
    if path.name == "run.json" and isinstance(tree, dict):
        tree = tree.get("config")
    if not isinstance(tree, dict):
        raise ValueError(f"{path} holds no configuration: name a TOML file, or the run.json that a training run wrote.")
    return tree


def _pairs(words: list[str]) -> list[tuple[str, str]]:
    pairs, rest = [], list(words)
    while rest:
        name = rest.pop(0)
        if not name.startswith("--"):
            raise ValueError(f"{name!r} stands where an option should: write --section.option value, such as --training.lr 1e-4.")
        name, equals, value = name[2:].partition("=")
        if not equals:
            if not rest:
                raise ValueError(f"--{name} has no value: write --{name} value.")
            value = rest.pop(0)
        pairs.append((name, value))
    return pairs


def _kinds_first(pair: tuple[str, str]) -> tuple[bool, int]:
    """Kinds before other options, the outer ones first."""
    is_kind = pair[0].endswith(".kind")
    return not is_kind, pair[0].count(".") if is_kind else 0


def _set(tree: dict[str, Any], name: str, text: str) -> None:
    try:
        value: Any = json.loads(text)
    except json.JSONDecodeError:
        value = text
    *parents, last = name.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise ValueError(f"--{name}: {parent} holds a value, not a section.")
    if last == "kind" and tree.get("kind") not in (None, value):
        tree.clear()
    tree[last] = value
