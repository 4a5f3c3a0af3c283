"""Every name of earlier versions that a file or a command may still hold, with the name that replaced it.

Files and commands are read through these tables; what is written has the present names only.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

OPTIONS = {
    "loss.kv.geometry": "axis",
    "loss.extra.*.loss.geometry": "axis",
}
"""Options of a run, in TOML, run.json and on the command line: dotted name -> new last part. ``*`` is every
item of a list.
"""
VALUES = {("training.task", "explicit"): "cot"}
"""Values of options, in the same places: (dotted name, old value) -> new value."""
METRICS = {"kv_floor": "kv_lower_bound"}
"""Metrics, in metrics.jsonl and in a checkpoint's log history and running means."""
STUDENT = {"taught": "latents_trained"}
"""Settings in the config.json of a saved student."""


def present_option(name: str) -> str:
    """The present dotted name of an option."""
    above, dot, _ = name.rpartition(".")
    return f"{above}{dot}{OPTIONS[name]}" if name in OPTIONS else name


def present_options(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a run's options with present names and values.

    Args:
        tree: nested options; not changed, and not validated yet.

    Returns:
        The copy.

    Raises:
        ValueError: if an option is given under both names.
    """
    copy = deepcopy(dict(tree))
    for name, new in OPTIONS.items():
        for section, old in _holders(copy, name):
            if new in section:
                raise ValueError(f"{name} is the earlier name of {present_option(name)}: give one of them.")
            section[new] = section.pop(old)
    for (name, before), now in VALUES.items():
        for section, last in _holders(copy, name):
            if section[last] == before:
                section[last] = now
    return copy


def present_names(values: Mapping[str, Any], table: Mapping[str, str]) -> dict[str, Any]:
    """A copy of a dictionary with present names; where it holds both names, the present one counts.

    Args:
        values: values by name, such as one row of metrics.
        table: ``METRICS`` or ``STUDENT``.
    """
    return {table.get(name, name): value for name, value in values.items() if table.get(name) not in values}


def _holders(tree: Any, name: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Each section that holds the option, with the option's key in it."""
    *path, last = name.split(".")
    held = [tree]
    for part in path:
        if part == "*":
            held = [item for each in held if isinstance(each, list | tuple) for item in each]
        else:
            held = [each[part] for each in held if isinstance(each, dict) and part in each]
    yield from ((each, last) for each in held if isinstance(each, dict) and last in each)
