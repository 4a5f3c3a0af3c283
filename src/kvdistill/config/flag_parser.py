"""Parser of the training scripts' command line, and its ``--help``."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, NoReturn, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kvdistill.config.explain import members, tag_of
from kvdistill.config.flag_table import FLAGS, Flag
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


@dataclass(frozen=True)
class TypedFlag:
    """A flag as it was typed."""

    name: str
    """The name that was typed, one of the flag's names, without its dashes."""
    values: tuple[str, ...]

    @property
    def value(self) -> str:
        """The value of a flag that takes one."""
        return self.values[0]


@dataclass(frozen=True)
class CommandLine:
    """A command line, taken apart."""

    config: str | None
    """The file after ``--config``."""
    phase: str | None
    """The value of ``--phase``."""
    given: dict[Flag, TypedFlag]
    rest: list[str]
    """Words of the form ``--section.option value``."""


def parse_flags(words: Sequence[str], program: str, description: str) -> CommandLine:
    """Take a command line apart.

    Args:
        words: the arguments.
        program: name of the script, for ``--help``.
        description: what it does, for ``--help``.

    Returns:
        Flags in the order of the table, and all other words; options are not checked yet.

    Raises:
        ValueError: naming the flag that does not exist, lacks its value, or was given under two names.
        SystemExit: for ``--help``.
    """
    known, rest = _parser(program, description).parse_known_args(list(words))
    typed = {flag: getattr(known, flag.name) for flag in FLAGS}
    given = {flag: found for flag, found in typed.items() if found is not None}
    _refuse_unknown(rest)
    return CommandLine(known.config, known.phase, given, rest)


def _refuse_unknown(rest: Sequence[str]) -> None:
    """Refuse unknown flags; names with a dot are options, which are checked later."""
    names = ["phase", *(name for flag in FLAGS for name in (flag.name, *flag.aliases))]
    for word in rest:
        if word.startswith("--") and "." not in word.partition("=")[0]:
            name = word[2:].partition("=")[0]
            raise ValueError(
                f"There is no option --{name}.{did_you_mean(name, names, '--{}')} --help lists all; every "
                "other option is --section.option value."
            )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise in place of printing the usage and exiting.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{message.removeprefix('argument ')}. --help lists all flags.")


class _StoreTyped(argparse.Action):
    """Keeps the name that was typed beside the value."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Store a ``TypedFlag``; the same name again replaces the earlier value.

        Raises:
            ValueError: if another name of the flag was typed before.
        """
        if isinstance(values, str):
            values = [values]
        name = str(option_string).removeprefix("--")
        before: TypedFlag | None = getattr(namespace, self.dest)
        if before is not None and before.name != name:
            raise ValueError(f"--{before.name} and --{name} are two names of one option: give one of them.")
        setattr(namespace, self.dest, TypedFlag(name, tuple(values or ())))


def _parser(program: str, description: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=program,
        description=description,
        epilog="Every option of the configuration can also be given as --section.option value "
        "(--training.weight_decay 0.01);\n"
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
    parser.add_argument("--phase", metavar="X", help="phase of training from several teachers: 1 to 4")
    for flag in FLAGS:
        _add(parser, flag)
    return parser


def _add(parser: argparse.ArgumentParser, flag: Flag) -> None:
    """Add a flag, and each of its aliases as an argument of its own, which argparse names in its errors."""
    shape: dict[str, Any] = {"metavar": "X"}
    if flag.several:
        shape["nargs"] = "+"
    if flag.switch is not None:
        shape = {"nargs": "?", "const": "true", "choices": ("true", "false")}
    text = f"{flag.help}{_more(flag)}"
    for name in (flag.name, *flag.aliases):
        parser.add_argument(f"--{name}", dest=flag.name, action=_StoreTyped, help=text, **shape)
        text = argparse.SUPPRESS


def _more(flag: Flag) -> str:
    """Choices, default and further names of a flag, for its help text."""
    also = [f"also --{name}" for name in flag.aliases]
    if flag.switch is not None:
        return f" ({'; '.join(['default: false', *also])})"
    above, _, name = flag.option.rpartition(".")
    kind, default = option_type(flag.option)
    default = held_value(RECIPE, flag.option) or default
    kinds = members(kind) or [kind]
    choices: list[str] = []
    if name == "kind":
        methods, chosen = option_type(above)
        choices = list(filter(None, map(tag_of, members(methods) or [methods])))
        default = getattr(chosen, "kind", None)
    elif all(get_origin(each) is Literal for each in kinds):
        choices = [str(choice) for each in kinds for choice in get_args(each)]
    if default is None:
        default = "none"
    parts = [", ".join(choices), f"default: {default}", *also]
    return f" ({'; '.join(filter(None, parts))})"


def held_value(tree: Any, option: str) -> Any:
    """Value of an option in a tree; None where it is not set."""
    for part in option.split("."):
        if not isinstance(tree, dict):
            return None
        tree = tree.get(part)
    return tree


def option_type(option: str) -> tuple[Any, Any]:
    """Type and default of an option; (None, None) where it does not exist."""
    found: tuple[Any, Any] = (RunConfig, None)
    for part in option.split("."):
        owner = next((member for member in members(found[0]) if part in fields_of(member)), found[0])
        found = fields_of(owner).get(part, (None, None))
    return found


def fields_of(kind: Any) -> dict[str, tuple[Any, Any]]:
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
