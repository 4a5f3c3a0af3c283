"""The runs that a study file describes: the options of each kind of run, and its configuration."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvdistill.config.read import parse, read_tree
from kvdistill.config.sections import RunConfig
from kvdistill.config.study import Arm, Overrides

ROLES = ("train", "validation", "test")
ALWAYS = {"resume": True, "overwrite": False, "progress": False, "tensorboard": False, "report": False}
"""Options of the ``training`` section that every run of a study has; the study has its own report."""
NEW_MODEL = ("name", "config", "tokenizer", "new_tokenizer", "special_tokens")
"""Options of the ``model`` section that a run does not need where it starts from a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A kind of run: a warm stage, or an arm."""

    name: str
    seeds: tuple[int, ...]
    start: str | None
    """The stage whose checkpoint it starts from; None starts from ``model``."""
    priority: int
    tree: dict[str, Any]
    """Options, seeds and paths left out."""
    warm: bool = False
    require_accuracy: float | None = None
    """Last validation accuracy (0 to 1) below which no run starts from it."""

    @property
    def teacher_arms(self) -> dict[str, str]:
        """By short name, the arm whose run is a teacher of this one: ``teachers.NAME.arm``."""
        teachers = self.tree.get("teachers", {})
        return {name: section["arm"] for name, section in teachers.items() if "arm" in section}

    def config(
        self, folder: Path, start: Path | None, seed: int, teachers: Mapping[str, Path] | None = None
    ) -> RunConfig:
        """The configuration of one run.

        Args:
            folder: its run folder.
            start: the checkpoint that it starts from; None where ``start`` is None.
            seed: seed of weights, order and generated data.
            teachers: by short name, the checkpoint of each of ``teacher_arms``.

        Raises:
            ValueError: naming the stage and the option.
        """
        tree = deepcopy(self.tree)
        if start is not None:
            own = {name: value for name, value in tree.get("model", {}).items() if name not in NEW_MODEL}
            tree["model"] = own | {"name": str(start)}
        tree["training"] = tree.get("training", {}) | ALWAYS | {"output_dir": str(folder), "seed": seed}
        for section in _generated(tree):
            section.setdefault("seed", seed)
        for name in self.teacher_arms:
            section = tree["teachers"][name]
            del section["arm"]
            tree["teachers"][name] = section | {"kind": "live", "name": str((teachers or {})[name])}
        # Folders that the runs of a seed share are written with placeholders.
        tree = _filled(tree, {"{study}": str(folder.parent.parent), "{seed}": str(seed)})
        return parse(tree, f"arm {self.name}")


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    """Nested options with placeholders replaced in every text."""
    if isinstance(value, dict):
        return {name: _filled(each, words) for name, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, words) for each in value]
    if isinstance(value, str):
        for placeholder, word in words.items():
            value = value.replace(placeholder, word)
    return value


def overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested options with others in their place; a changed ``kind`` or ``model_type`` drops the options of
    the previous one.

    Args:
        below: nested options; not changed.
        above: those that win.
    """
    merged = deepcopy(dict(below))
    for tag in ("kind", "model_type"):
        if tag in above and merged.get(tag) not in (None, above[tag]):
            merged = {}
    for name, value in above.items():
        if isinstance(value, Mapping):
            inner = merged.get(name)
            if not isinstance(inner, Mapping):
                inner = {}
            value = overlaid(inner, value)
        merged[name] = value
    return merged


def arm_options(path: Path, base: Mapping[str, Any], arm: Arm) -> dict[str, Any]:
    """An arm's options: those of its base, the target and loss of its configuration file, and its own."""
    tree = dict(base)
    if arm.base is not None:
        tree = options_beside(path, arm.base)
    given = options_beside(path, arm.config)
    for name in ("target", "loss"):
        if arm.config is not None:
            tree[name] = overlaid(tree.get(name, {}), given.get(name, {}))
    return with_overrides(tree, arm)


def options_beside(path: Path, file: str | None) -> dict[str, Any]:
    """The options in a configuration file that is named relative to the study file; empty without one."""
    if file is None:
        return {}
    try:
        return read_tree(path.parent / file)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def with_overrides(base: Mapping[str, Any], given: Overrides) -> dict[str, Any]:
    """The options of ``base`` with those of a stage or arm in their place."""
    tree = overlaid(base, given.sections)
    for section in _generated(tree):
        section["task"] = overlaid(section.get("task", {}), given.task)
    return tree


def _generated(tree: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The data sets of a generated task."""
    data = tree.get("data", {})
    found = [data[role] for role in ROLES if isinstance(data.get(role), dict)]
    return [section for section in found if section.get("kind") == "synthetic"]


def nested(option: str, value: Any) -> dict[str, Any]:
    """An option ``a.b`` and its value as nested options."""
    for part in reversed(option.split(".")):
        value = {part: value}
    return value
