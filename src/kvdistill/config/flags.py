"""The short flags of the training scripts: one table of names for options of the configuration."""

import argparse
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal, NoReturn, get_args, get_origin

from pydantic import BaseModel

from kvdistill.config.explain import bare, members, tag_of
from kvdistill.config.read import changed, parse, read_tree
from kvdistill.config.sections import RunConfig
from kvdistill.console.messages import did_you_mean
from kvdistill.console.paths import path_argument


@dataclass(frozen=True)
class Flag:
    """A short name for an option."""

    name: str
    option: str
    help: str
    switch: str | None = None
    """What the bare flag, or ``true``, stands for; None where a value has to follow."""
    off: str = "false"
    """What ``false`` puts in the switch's place."""


FLAGS = (
    Flag(
        "model_name", "model.name", "backbone: folder or hub name, or a checkpoint of kvdistill to start from"
    ),
    Flag(
        "teacher_name",
        "teacher.name",
        "a separate frozen teacher with the same tokenizer; none: the student's own teacher mode",
    ),
    Flag("dataset_name", "data.train.name", "data set on the hub"),
    Flag("dataset_config", "data.train.config", "its configuration"),
    Flag("dataset_split", "data.train.split", "its split to train on"),
    Flag(
        "train_file",
        "data.train.path",
        "data file in place of a data set; patterns such as 'data/part-*.jsonl' name several",
    ),
    Flag("validation_file", "data.validation.path", "data file to evaluate on during training"),
    Flag("test_file", "data.test.path", "data file to evaluate on at the end"),
    Flag("streaming", "data.train.streaming", "read while training, for data larger than memory", "true"),
    Flag("subset_size", "data.train.limit", "use only so many examples"),
    Flag(
        "prompt_template",
        "data.template.kind",
        "plain, or chat: the question in the user's turn; none: chat where the tokenizer has a template",
    ),
    Flag("output_dir", "training.output_dir", "folder of the run"),
    Flag("epochs", "training.epochs", "passes over the data"),
    Flag("max_steps", "training.max_steps", "stop after so many optimiser steps, whatever --epochs says"),
    Flag("batch_size", "training.batch_size", "examples per device and step"),
    Flag(
        "gradient_accumulation_steps", "training.gradient_accumulation_steps", "batches to an optimiser step"
    ),
    Flag("lr", "training.lr", "learning rate"),
    Flag("max_length", "data.max_length", "longest example in tokens; longer ones are left out and counted"),
    Flag("target_len", "latent.slots", "latent slots, M"),
    Flag("num_iterations", "latent.passes", "passes over the slots, T"),
    Flag("kv_method", "target.method.kind", "how the teacher's cache is compressed"),
    Flag("kv_loss", "loss.kv.distance", "distance of keys and values"),
    Flag("kv_weight", "loss.kv_weight", "weight of the KV loss: a number, or auto"),
    Flag("codi_weight", "loss.codi_weight", "weight of the hidden-state loss"),
    Flag(
        "shuffle_kv",
        "target.control.kind",
        "negative control: another sample's cache, its slots in another order",
        "shuffled",
        "none",
    ),
    Flag(
        "save_steps",
        "training.save_steps",
        "also save every so many steps; 0 saves at the end of each epoch only",
    ),
    Flag("eval_steps", "training.eval_steps", "evaluate on the validation data every so many steps"),
    Flag("logging_steps", "training.logging_steps", "steps to a line of the log"),
    Flag("num_workers", "training.num_workers", "processes that prepare batches; at most one reads a stream"),
    Flag("trust_remote_code", "model.trust_remote_code", "run code that comes with a model", "true"),
    Flag("torch_dtype", "model.dtype", "type of the weights"),
    Flag("fp16", "training.precision", "mixed precision in float16 (GPU)", "fp16", "float32"),
    Flag("bf16", "training.precision", "mixed precision in bfloat16", "bf16", "float32"),
    Flag(
        "gradient_checkpointing",
        "training.gradient_checkpointing",
        "compute activations again instead of keeping them",
        "true",
    ),
    Flag("device_map", "model.device_map", "where the backbone is put: cpu, cuda:1, auto"),
    Flag("lora_r", "model.tuning.r", "rank of the adapters; 0 trains every weight"),
    Flag("seed", "training.seed", "seed of data order and weights"),
    Flag(
        "resume",
        "training.resume",
        "go on from the newest checkpoint in --output_dir, or begin where there is none",
        "true",
    ),
)

RECIPE: dict[str, Any] = {
    "model": {"name": "Qwen/Qwen2.5-0.5B-Instruct"},
    "data": {
        "train": {"kind": "hub", "name": "openai/gsm8k", "config": "main", "split": "train"},
        "test": {"kind": "hub", "name": "openai/gsm8k", "config": "main", "split": "test"},
    },
}
"""What is trained on what where the command line and the file say nothing."""
_KINDS = {"train_file": "file", "validation_file": "file", "test_file": "file", "dataset_name": "hub"}


def from_flags(words: Sequence[str], program: str, description: str) -> RunConfig:
    """The configuration that a script's command line asks for: ``--config FILE``, short flags,
    ``--section.option value``.

    Raises:
        ValueError: naming the flag or option, and the nearest name where one is misspelt.
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
    tree = read_tree(known.config) if known.config is not None else _recipe(names)
    where = "the command line" if known.config is None else known.config
    overrides = _overrides(given, tree)
    try:
        tree = changed(tree, [*overrides, *rest])
        _refuse_misplaced([flag for flag in given if f"--{flag.option}" in overrides], tree)
        return parse(tree, where)
    except ValueError as error:
        raise ValueError(_in_flags(str(error), given)) from None


def _recipe(names: set[str]) -> dict[str, Any]:
    """The recipe, without its data where other data are named."""
    return {"model": RECIPE["model"], "data": {}} if names & {"train_file", "dataset_name"} else RECIPE


def _overrides(given: dict[Flag, str], tree: dict[str, Any]) -> list[str]:
    words: list[str] = []
    for flag, value in sorted(
        given.items(), key=lambda pair: pair[1] != "false"
    ):  # what is put off makes room for what is put on
        if flag.name in _KINDS:
            words += [f"--{flag.option.rpartition('.')[0]}.kind", _KINDS[flag.name]]
        if flag.name == "lora_r":
            words += ["--model.tuning.kind", "full" if value == "0" else "lora"]
            if value == "0":
                continue
        if flag.switch is not None:
            if value == "false" and flag.off != "false" and _held(tree, flag.option) != flag.switch:
                continue  # what is not on cannot be put off
            value = flag.switch if value == "true" else flag.off
        elif _is_text(flag.option) and value != "null":
            value = json.dumps(value)  # a name is a name, also where it looks like a number
        words += [f"--{flag.option}", value]
    return words


def _held(tree: Any, option: str) -> Any:
    """What the file says of an option."""
    for part in option.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _refuse_strangers(rest: Sequence[str]) -> None:
    for word in rest:
        if word.startswith("--") and "." not in word.partition("=")[0]:
            name = word[2:].partition("=")[0]
            hint = did_you_mean(name, (flag.name for flag in FLAGS), "--{}")
            raise ValueError(
                f"There is no option --{name}.{hint} --help lists all; every other option is "
                "--section.option value."
            )


def _refuse_misplaced(given: Iterable[Flag], tree: dict[str, Any]) -> None:
    for flag in given:
        above, _, name = flag.option.rpartition(".")
        kind = _held(tree, f"{above}.kind")
        method = next((method for method in members(_type_of(above)) if tag_of(method) == kind), None)
        if method is not None and name not in _fields(method):
            raise ValueError(
                f"--{flag.name} does not go with {above} of the kind {kind!r}: leave it out, or choose "
                f"another {above}.kind."
            )


def _in_flags(message: str, given: Iterable[Flag]) -> str:
    """The message in the words that were typed, or could have been."""
    for flag in (*given, *(flag for flag in FLAGS if flag.switch in (None, "true"))):
        option = flag.option.removesuffix(".kind")
        message = re.sub(
            rf"(?<![\w.-])(?:--)?{re.escape(option)}(?:\.kind)?(?![\w.]*\w)", f"--{flag.name}", message
        )
    return message


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """In words, without the list of all flags.

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
    """Choices and default of an option, as the configuration has them."""
    above, _, name = flag.option.rpartition(".")
    kind, default = _option(flag.option)
    default = _held(RECIPE, flag.option) or default
    if name == "kind":
        choices, default = (
            list(filter(None, map(tag_of, members(_type_of(above))))),
            getattr(_option(above)[1], "kind", None),
        )
    else:
        kinds = members(kind) or [kind]
        choices = (
            [str(choice) for each in kinds for choice in get_args(each)]
            if all(get_origin(each) is Literal for each in kinds)
            else []
        )
    said = [", ".join(choices)] if choices else []
    told = "none" if default is None else default
    return f" ({'; '.join([*said, f'default: {told}'])})"


def _is_text(option: str) -> bool:
    kind = _type_of(option)
    kinds = members(kind) or [bare(kind)]
    return str in kinds and set(kinds) <= {str, NoneType}


def _type_of(option: str) -> Any:
    return _option(option)[0]


def _option(option: str) -> tuple[Any, Any]:
    """Type and default of an option; (None, None) where there is none of that name."""
    found: tuple[Any, Any] = (RunConfig, None)
    for part in option.split("."):
        owner = next((member for member in members(found[0]) if part in _fields(member)), found[0])
        found = _fields(owner).get(part, (None, None))
    return found


def _fields(kind: Any) -> dict[str, tuple[Any, Any]]:
    """Type and default of each option of a section or method."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        held = {
            name: (field.annotation, field.get_default(call_default_factory=True))
            for name, field in kind.model_fields.items()
        }
        return {
            name: (annotation, None if repr(value).startswith("Pydantic") else value)
            for name, (annotation, value) in held.items()
        }
    fields = getattr(kind, "__dataclass_fields__", {})
    return {name: (field.type, field.default) for name, field in fields.items()}
