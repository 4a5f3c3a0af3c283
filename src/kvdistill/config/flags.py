"""Command line of the training scripts: short flags are translated into options of the configuration."""

import argparse
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from types import NoneType
from typing import Any, Literal, NoReturn, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kvdistill.config.explain import bare, members, tag_of
from kvdistill.config.flag_table import FLAGS, Flag
from kvdistill.config.read import changed, parse, read_tree
from kvdistill.config.sections import RunConfig
from kvdistill.console.messages import did_you_mean
from kvdistill.console.paths import path_argument

RECIPE: dict[str, Any] = {
    "model": {"name": "Qwen/Qwen2.5-0.5B-Instruct"},
    "data": {
        "train": {"kind": "hub", "name": "openai/gsm8k", "config": "main", "split": "train"},
        "test": {"kind": "hub", "name": "openai/gsm8k", "config": "main", "split": "test"},
    },
}
"""Default model and data, used where neither a file nor flags name them."""
# A file or hub name also decides the kind of its data set.
_KINDS = {"train_file": "file", "validation_file": "file", "test_file": "file", "dataset_name": "hub"}


def from_flags(words: Sequence[str], program: str, description: str) -> RunConfig:
    """Build the configuration from a script's command line.

    Args:
        words: the arguments: ``--config FILE``, short flags and ``--section.option value``, in any order.
        program: name of the script, for ``--help``.
        description: what it does, for ``--help``.

    Returns:
        The file (or the default recipe) with flags and options applied.

    Raises:
        ValueError: naming the flag or option, and the nearest name where one is misspelled.
        SystemExit: for ``--help``.
    """
    known, rest = _parser(program, description).parse_known_args(list(words))
    given = {flag: getattr(known, flag.name) for flag in FLAGS if getattr(known, flag.name) is not None}
    _refuse_strangers(rest)
    names = {flag.name for flag, value in given.items() if value != "false"}
    for one, other, about in (
        ("train_file", "dataset_name", "what to train on"),
        ("fp16", "bf16", "how precisely to compute"),
    ):
        if {one, other} <= names:
            raise ValueError(f"--{one} and --{other} both say {about}: give one of them.")
    if known.config is None:
        tree, where = _recipe(names), "the command line"
    else:
        tree, where = read_tree(known.config), known.config
    overrides = _overrides(given, tree)
    try:
        tree = changed(tree, [*overrides, *rest])
        _refuse_misplaced([flag for flag in given if f"--{flag.option}" in overrides], tree)
        return parse(tree, where)
    except ValueError as error:
        raise ValueError(_in_flags(str(error), given)) from None


def _recipe(names: set[str]) -> dict[str, Any]:
    """The default recipe, without its data sets where the flags name data."""
    if names & {"train_file", "dataset_name"}:
        return {"model": RECIPE["model"], "data": {}}
    return RECIPE


def _overrides(given: dict[Flag, str], tree: dict[str, Any]) -> list[str]:
    """The flags as ``--section.option value`` words, in the order in which they are applied."""
    words: list[str] = []
    # Switches turned off come first, so that one turned on wins.
    for flag, value in sorted(given.items(), key=lambda pair: pair[1] != "false"):
        words += _override(flag, value, tree)
    return words


def _override(flag: Flag, value: str, tree: dict[str, Any]) -> list[str]:
    """One flag as words: the kind that it implies, then its option; empty where it changes nothing."""
    words: list[str] = []
    if flag.name in _KINDS:
        words += [f"--{flag.option.rpartition('.')[0]}.kind", _KINDS[flag.name]]
    if flag.name == "lora_r":
        if value == "0":
            return ["--model.tuning.kind", "full"]
        words += ["--model.tuning.kind", "lora"]
    if flag.switch is not None and value == "true":
        value = flag.switch
    elif flag.switch is not None:
        if flag.off != "false" and _held(tree, flag.option) != flag.switch:
            return []  # the option has another value: this switch is not on
        value = flag.off
    elif _is_text(flag.option) and value != "null":
        value = json.dumps(value)  # quoted, so that a name like 123 is not read as a number
    return [*words, f"--{flag.option}", value]


def _held(tree: Any, option: str) -> Any:
    """Value of an option in a tree; None where it is not set."""
    for part in option.split("."):
        if not isinstance(tree, dict):
            return None
        tree = tree.get(part)
    return tree


def _refuse_strangers(rest: Sequence[str]) -> None:
    """Refuse unknown flags; names with a dot are options, which are checked later."""
    for word in rest:
        if word.startswith("--") and "." not in word.partition("=")[0]:
            name = word[2:].partition("=")[0]
            hint = did_you_mean(name, (flag.name for flag in FLAGS), "--{}")
            raise ValueError(
                f"There is no option --{name}.{hint} --help lists all; every other option is "
                "--section.option value."
            )


def _refuse_misplaced(given: Iterable[Flag], tree: dict[str, Any]) -> None:
    """Refuse a flag whose option the chosen kind does not have."""
    for flag in given:
        above, _, name = flag.option.rpartition(".")
        kind = _held(tree, f"{above}.kind")
        if not kind:
            continue
        methods = members(_type_of(above))
        method = next((method for method in methods if tag_of(method) == kind), None)
        if method is not None and name not in _fields(method):
            raise ValueError(
                f"--{flag.name} does not go with {above} of the kind {kind!r}: leave it out, or choose "
                f"another {above}.kind."
            )


def _in_flags(message: str, given: Iterable[Flag]) -> str:
    """An error message with short flags in place of option names, those that were typed first."""
    for flag in (*given, *(flag for flag in FLAGS if flag.switch in (None, "true"))):
        option = flag.option.removesuffix(".kind")
        message = re.sub(
            rf"(?<![\w.-])(?:--)?{re.escape(option)}(?:\.kind)?(?![\w.]*\w)", f"--{flag.name}", message
        )
    return message


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise in place of printing the usage and exiting.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{message.removeprefix('argument ')}. --help lists all flags.")


def _parser(program: str, description: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=program,
        description=description,
        epilog="Every option of the configuration can also be given as --section.option value "
        "(--training.warmup_steps 100);\n"
        "the run.json of a run holds them all, and --config takes such a file. Shipped configurations: "
        "experiments/configs.",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=path_argument,
        help="a TOML file, or the run.json of a run; none: Qwen2.5-0.5B on GSM8K (default: none)",
    )
    for flag in FLAGS:
        more = _more(flag)
        if flag.switch is None:
            parser.add_argument(f"--{flag.name}", metavar="X", help=f"{flag.help}{more}")
        else:
            parser.add_argument(
                f"--{flag.name}",
                nargs="?",
                const="true",
                choices=("true", "false"),
                help=f"{flag.help} (default: false)",
            )
    return parser


def _more(flag: Flag) -> str:
    """Choices and default of a flag's option, taken from the configuration, for its help text."""
    above, _, name = flag.option.rpartition(".")
    kind, default = _option(flag.option)
    default = _held(RECIPE, flag.option) or default
    kinds = members(kind) or [kind]
    choices: list[str] = []
    if name == "kind":
        choices = list(filter(None, map(tag_of, members(_type_of(above)))))
        default = getattr(_option(above)[1], "kind", None)
    elif all(get_origin(each) is Literal for each in kinds):
        choices = [str(choice) for each in kinds for choice in get_args(each)]
    if default is None:
        default = "none"
    parts = [", ".join(choices), f"default: {default}"]
    return f" ({'; '.join(filter(None, parts))})"


def _is_text(option: str) -> bool:
    """Whether an option takes text only, and no number or list."""
    kind = _type_of(option)
    kinds = members(kind) or [bare(kind)]
    return str in kinds and set(kinds) <= {str, NoneType}


def _type_of(option: str) -> Any:
    return _option(option)[0]


def _option(option: str) -> tuple[Any, Any]:
    """Type and default of an option; (None, None) where it does not exist."""
    found: tuple[Any, Any] = (RunConfig, None)
    for part in option.split("."):
        owner = next((member for member in members(found[0]) if part in _fields(member)), found[0])
        found = _fields(owner).get(part, (None, None))
    return found


def _fields(kind: Any) -> dict[str, tuple[Any, Any]]:
    """Type and default of each option of a section or method."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: (field.annotation, _default(field)) for name, field in kind.model_fields.items()}
    if is_dataclass(kind):
        return {field.name: (field.type, field.default) for field in fields(kind)}
    return {}


def _default(field: FieldInfo) -> Any:
    """The default of a section's option; None where it has none."""
    if field.is_required():
        return None
    return field.get_default(call_default_factory=True)
