"""Flags for several teachers: from ``--teacher_models A B`` to ``[teachers.NAME]`` and its options."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from kvdistill.config.flag_parser import TypedFlag
from kvdistill.config.flag_table import Flag
from kvdistill.console.messages import quoted

LONGEST_NAME = 40
"""Most characters of a teacher's short name."""
ROUTER_FLAGS = {"router_type", "entropy_target", "entropy_reg_strength"}
Given = Mapping[Flag, TypedFlag]


def short_names(paths: Iterable[str]) -> list[str]:
    """Short names of teachers, from the last part of each path or hub name.

    Args:
        paths: folders or hub names, such as ``Qwen/Qwen2.5-7B-Instruct``.

    Returns:
        Lower-case names of ``a-z0-9_-``, such as ``qwen2-5-7b-instruct``; a name that is taken gets a number.
    """
    names: list[str] = []
    for path in paths:
        last = PurePosixPath(path.strip()).name.lower()
        name = re.sub(r"[^a-z0-9_]+", "-", last).strip("-") or "teacher"
        if name[0].isdigit():
            name = f"t{name}"
        name = name[:LONGEST_NAME].strip("-")
        taken, number = name, 1
        while taken in names:
            number += 1
            suffix = f"-{number}"
            taken = name[: LONGEST_NAME - len(suffix)] + suffix
        names.append(taken)
    return names


def model_words(given: Given, tree: Mapping[str, Any], program: str, multi_teacher: bool) -> list[str]:
    """``--teacher_models`` as ``--teachers.NAME.option value`` words.

    Args:
        given: the flags that were typed.
        tree: options of the file or recipe, in which no teacher may be named too.
        program: name of the script.
        multi_teacher: whether the script trains from several teachers.

    Returns:
        Kind and name of each teacher; empty where the flag was not typed.

    Raises:
        ValueError: if teachers are named twice, or too many for the script.
    """
    typed = _named(given)
    models = typed.get("teacher_models")
    if models is None:
        return []
    if "teacher_name" in typed:
        raise ValueError(
            f"--{typed['teacher_name'].name} and --{models.name} both name teachers: give one of them."
        )
    if tree.get("teacher") or tree.get("teachers"):
        raise ValueError(
            f"--{models.name} and the file after --config both name teachers: leave one out, or change the "
            "file's with --teachers.NAME.name."
        )
    if len(models.values) > 1 and not multi_teacher:
        raise ValueError(
            f"--{models.name} names {len(models.values)} teachers, and {program} trains from one: give one, "
            "or use experiments/train_multi_teacher_kv.py."
        )
    words: list[str] = []
    for name, path in zip(short_names(models.values), models.values, strict=True):
        # Quoted, so that a name like 123 is not read as a number.
        words += [f"--teachers.{name}.kind", "live", f"--teachers.{name}.name", json.dumps(path)]
    return words


def fusion_words(given: Given, tree: Mapping[str, Any]) -> list[str]:
    """The kind of fusion that flags of a router imply, where neither the file nor a flag names one.

    Args:
        given: the flags that were typed.
        tree: options of the file or recipe.

    Returns:
        Words as ``--fusion.kind learnable``; mostly none.

    Raises:
        ValueError: if another fusion is named beside them.
    """
    typed = _named(given)
    routed = [name for name in typed if name in ROUTER_FLAGS]
    kind = (tree.get("fusion") or {}).get("kind")
    if "fusion_method" in typed:
        kind = typed["fusion_method"].value
    if not routed or kind == "learnable":
        return []
    if kind is None:
        return ["--fusion.kind", "learnable"]
    raise ValueError(
        f"--{routed[0]} does not go with fusion of the kind {quoted(kind)}, which has no router: leave it "
        "out, or give --fusion_method learnable."
    )


def setting_words(given: Given, tree: Mapping[str, Any]) -> list[str]:
    """Weights, layer maps and rotary scaling of the teachers as ``--teachers.NAME.option value`` words.

    Args:
        given: the flags that were typed.
        tree: options in which every teacher is named.

    Returns:
        The words; empty where no such flag was typed.

    Raises:
        ValueError: if there is no separate teacher, or a value fits none.
    """
    typed = _named(flag for flag in given.items() if flag[0].each_teacher)
    typed.pop("teacher_models", None)
    sections = teacher_sections(tree)
    live = separate_teachers(tree)
    if typed and not live:
        first = next(iter(typed.values()))
        raise ValueError(
            f"--{first.name} is for separate teachers, and there is none: name them with --teacher_models."
        )
    words: list[str] = []
    if weights := typed.get("teacher_weights"):
        for section, weight in zip(sections, _weights(weights, list(sections)), strict=True):
            words += [f"--{section}.weight", json.dumps(weight)]
    if strategy := typed.get("layer_mapping_strategy"):
        for section in live:
            words += [f"--{section}.layers.kind", json.dumps(strategy.value)]
    return [*words, *_scaling_words(typed, live)]


def separate_teachers(tree: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The sections of separate teachers by their dotted names; all but the student's own teacher mode."""
    return {name: held for name, held in teacher_sections(tree).items() if held.get("kind") != "own"}


def teacher_sections(tree: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The sections of all teachers in their order, by dotted names: ``teacher`` or ``teachers.NAME``."""
    found: dict[str, Any] = {"teacher": tree.get("teacher")}
    several = tree.get("teachers")
    if isinstance(several, dict):
        found |= {f"teachers.{name}": section for name, section in several.items()}
    return {name: section for name, section in found.items() if isinstance(section, dict)}


def _named(given: Given | Iterable[tuple[Flag, TypedFlag]]) -> dict[str, TypedFlag]:
    """The typed flags by the first name of each."""
    return {flag.name: typed for flag, typed in dict(given).items()}


def _weights(typed: TypedFlag, sections: Sequence[str]) -> list[float]:
    """The weights as numbers, one for each teacher."""
    weights = [_number(text, typed) for text in typed.values]
    if len(weights) != len(sections):
        names = ", ".join(section.removeprefix("teachers.") for section in sections)
        raise ValueError(
            f"--{typed.name}: the number of weights is {len(weights)}, that of teachers {len(sections)} "
            f"({names}): give one weight for each."
        )
    if min(weights) < 0:
        raise ValueError(f"--{typed.name}: a weight should be 0 or more (given: {' '.join(typed.values)})")
    if max(weights) == 0:
        raise ValueError(f"--{typed.name}: every weight is 0, so no teacher is left: give one of them more.")
    return weights


def _scaling_words(typed: Mapping[str, TypedFlag], live: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Rotary scaling of each separate teacher; a new method replaces the file's with all its parameters."""
    method, factor = typed.get("rope_scaling_method"), typed.get("rope_scaling_factor")
    if method is None and factor is None:
        return []
    words: list[str] = []
    if method is None:
        assert factor is not None
        if lacking := [name for name, section in live.items() if not section.get("rope_scaling")]:
            raise ValueError(
                f"--{factor.name}: {lacking[0]} has no rotary scaling of which this is the factor: give "
                "--rope_scaling_method too."
            )
        number = json.dumps(_number(factor.value, factor))
        for section in live:
            words += [f"--{section}.rope_scaling.factor", number]
        return words
    if factor is None:
        raise ValueError(
            f"--{method.name} needs --rope_scaling_factor: the ratio of the longer window to the trained one."
        )
    scaling = {"rope_type": method.value, "factor": _number(factor.value, factor)}
    for section in live:
        words += [f"--{section}.rope_scaling", json.dumps(scaling)]
    return words


def _number(text: str, typed: TypedFlag) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"--{typed.name}: should be a number (given: {quoted(text)})") from None
    if not math.isfinite(number):
        raise ValueError(f"--{typed.name}: should be a finite number (given: {quoted(text)})")
    return number
