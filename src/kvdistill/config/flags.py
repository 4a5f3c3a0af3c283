"""Command line of the training scripts: short flags are translated into options of the configuration."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from types import NoneType
from typing import Any

from kvdistill.config.explain import bare, members, tag_of
from kvdistill.config.flag_parser import (
    RECIPE,
    CommandLine,
    TypedFlag,
    fields_of,
    held_value,
    option_type,
    parse_flags,
)
from kvdistill.config.flag_table import FLAGS, Flag
from kvdistill.config.phase_flags import check_phase, phase_words
from kvdistill.config.read import changed, parse, read_tree
from kvdistill.config.sections import RunConfig
from kvdistill.config.teacher_flags import fusion_words, model_words, separate_teachers, setting_words

# A file or hub name also decides the kind of its data set.
_KINDS = {"train_file": "file", "validation_file": "file", "test_file": "file", "dataset_name": "hub"}
# The kind that an option belongs to, where none is chosen.
_DEFAULT_KINDS = {"calibration_target": "lower"}


def from_flags(
    words: Sequence[str], program: str, description: str, multi_teacher: bool = False
) -> RunConfig:
    """Build the configuration from a script's command line.

    Args:
        words: the arguments: ``--config FILE``, short flags and ``--section.option value``, in any order.
        program: name of the script, for ``--help``.
        description: what it does, for ``--help``.
        multi_teacher: whether the script trains from several teachers: it needs one at least, and fuses them
            (``bridge.kind = "lower"``) where two or more are named and no bridge is.

    Returns:
        The file (or the default recipe) with flags and options applied.

    Raises:
        ValueError: naming the flag or option as it was typed, and the nearest name where one is misspelled.
        SystemExit: for ``--help``.
    """
    line = parse_flags(words, program, description)
    check_phase(line.phase, program, multi_teacher)
    _refuse_contradictions(line.given)
    if line.config is None:
        tree, where = _recipe(line.given), "the command line"
    else:
        tree, where = read_tree(line.config), line.config
    try:
        tree = _applied(line, tree, program, multi_teacher)
        return parse(tree, where)
    except ValueError as error:
        raise ValueError(_as_typed(str(error), line)) from None


def _refuse_contradictions(given: Mapping[Flag, TypedFlag]) -> None:
    """Refuse two flags that set one thing."""
    names = _switched_on(given)
    for one, other, about in (
        ("train_file", "dataset_name", "what to train on"),
        ("fp16", "bf16", "how precisely to compute"),
    ):
        if {one, other} <= names:
            raise ValueError(f"--{one} and --{other} both say {about}: give one of them.")


def _switched_on(given: Mapping[Flag, TypedFlag]) -> set[str]:
    """Names of the flags that were typed, without switches turned off."""
    return {flag.name for flag, typed in given.items() if typed.values != ("false",)}


def _recipe(given: Mapping[Flag, TypedFlag]) -> dict[str, Any]:
    """The default recipe, without its data sets where the flags name data."""
    if _switched_on(given) & {"train_file", "dataset_name"}:
        return {"model": RECIPE["model"], "data": {}}
    return RECIPE


def _applied(line: CommandLine, tree: dict[str, Any], program: str, multi_teacher: bool) -> dict[str, Any]:
    """The tree with all flags and options: options win over flags, and flags over the file."""
    words = _overrides(line.given, tree)
    words += fusion_words(line.given, tree)
    words += model_words(line.given, tree, program, multi_teacher)
    # Teachers may be named by the file, by flags and by options, so all of these come first.
    named = changed(tree, [*words, *line.rest])
    if line.phase is not None:
        words += phase_words(line.phase, named)
        named = changed(tree, [*words, *line.rest])
    words += setting_words(line.given, named)
    if multi_teacher:
        words += _bridge_words(named, program)
    tree = changed(tree, [*words, *line.rest])
    given = [(flag, typed) for flag, typed in line.given.items() if f"--{flag.option}" in words]
    _refuse_misplaced(given, tree)
    return tree


def _bridge_words(named: Mapping[str, Any], program: str) -> list[str]:
    """The default bridge of the script for several teachers, which refuses to train from none."""
    count = len(separate_teachers(named))
    if count == 0:
        raise ValueError(
            f"{program} trains from separate teachers, and there is none: name them with --teacher_models A "
            "B, or give a --config with [teachers.NAME]. experiments/train_with_kv.py trains from the "
            "student's own teacher mode."
        )
    if count == 1 or named.get("bridge"):
        return []
    return ["--bridge.kind", "lower"]


def _overrides(given: Mapping[Flag, TypedFlag], tree: dict[str, Any]) -> list[str]:
    """The flags as ``--section.option value`` words, in the order in which they are applied."""
    words: list[str] = []
    single = [(flag, typed.value) for flag, typed in given.items() if not flag.each_teacher]
    # Switches turned off come first, so that one turned on wins.
    for flag, value in sorted(single, key=lambda pair: pair[1] != "false"):
        words += _override(flag, value, tree)
    return words


def _override(flag: Flag, value: str, tree: dict[str, Any]) -> list[str]:
    """One flag as words: the kind that it implies, then its option; empty where it changes nothing."""
    words = _kind_words(flag, tree)
    if flag.name == "lora_r":
        if value == "0":
            return ["--model.tuning.kind", "full"]
        words += ["--model.tuning.kind", "lora"]
    if flag.switch is not None and value == "true":
        value = flag.switch
    elif flag.switch is not None:
        if flag.off != "false" and held_value(tree, flag.option) != flag.switch:
            return []  # the option has another value: this switch is not on
        value = flag.off
    elif _is_text(flag.option) and value != "null":
        value = json.dumps(value)  # quoted, so that a name like 123 is not read as a number
    return [*words, f"--{flag.option}", value]


def _kind_words(flag: Flag, tree: dict[str, Any]) -> list[str]:
    """The kind that a flag implies; a default kind gives way to one that is chosen."""
    option = f"{flag.option.rpartition('.')[0]}.kind"
    kind = _KINDS.get(flag.name)
    if flag.name in _DEFAULT_KINDS and not held_value(tree, option):
        kind = _DEFAULT_KINDS[flag.name]
    if kind is None:
        return []
    return [f"--{option}", kind]


def _refuse_misplaced(given: Iterable[tuple[Flag, TypedFlag]], tree: dict[str, Any]) -> None:
    """Refuse a flag whose option the chosen kind does not have."""
    for flag, typed in given:
        above, _, name = flag.option.rpartition(".")
        kind = held_value(tree, f"{above}.kind")
        if not kind:
            continue
        methods = members(option_type(above)[0])
        method = next((method for method in methods if tag_of(method) == kind), None)
        if method is not None and name not in fields_of(method):
            raise ValueError(
                f"--{typed.name} does not go with {above} of the kind {kind!r}: leave it out, or choose "
                f"another {above}.kind."
            )


def _as_typed(message: str, line: CommandLine) -> str:
    """An error message with flags in place of option names; an option typed in full keeps its name."""
    parameter = r"(teachers?(?:\.[\w-]+)?): rope_scaling: (rope_type|factor)\b"
    message = re.sub(parameter, r"\1.rope_scaling.\2", message)
    full = {word[2:].partition("=")[0].removesuffix(".kind") for word in line.rest if word.startswith("--")}
    for flag, typed in line.given.items():
        message = _renamed(message, flag, typed.name)
    for flag in FLAGS:
        known = flag in line.given or flag.each_teacher or flag.option.removesuffix(".kind") in full
        if not known and flag.switch in (None, "true"):
            message = _renamed(message, flag, flag.name)
    # What is wrong for every teacher alike is said once.
    return "\n".join(dict.fromkeys(message.split("\n")))


def _renamed(message: str, flag: Flag, name: str) -> str:
    """An error message with one flag in place of its option."""
    option = flag.option.removesuffix(".kind")
    pattern = re.escape(option)
    if flag.each_teacher:
        pattern = rf"teachers?(?:\.[\w-]+)?{re.escape(option.removeprefix('teacher'))}"
    return re.sub(rf"(?<![\w.-])(?:--)?{pattern}(?:\.kind)?(?![\w.]*\w)", f"--{name}", message)


def _is_text(option: str) -> bool:
    """Whether an option takes text only, and no number or list."""
    kind = option_type(option)[0]
    kinds = members(kind) or [bare(kind)]
    return str in kinds and set(kinds) <= {str, NoneType}
