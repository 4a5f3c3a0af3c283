"""List of all options with default and meaning, printed by ``kvdistill train --help``.

The meaning of an option is the docstring below it, the help of its short flag, or an entry of ``MEANINGS``.
"""

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kvdistill.config.explain import members, tag_of
from kvdistill.config.flag_table import FLAGS
from kvdistill.config.sections import RunConfig

WIDTH, COLUMN = 110, 44
"""Layout of the list in columns: the longest line, and where the meanings begin."""


MEANINGS = {
    "model.attention": "implementation of attention; null takes sdpa where the model has it",
    "model.tuning.alpha": "scale of the adapters, divided by their rank",
    "model.tuning.dropout": "share of the adapters' inputs that is dropped while training",
    "teacher.dtype": "type of the teacher's weights",
    "teacher.attention": "implementation of the teacher's attention",
    "data.train.format": "form of the rows; auto recognises it",
    "data.train.num": "number of examples that are made",
    "data.train.seed": "seed of the examples that are made",
    "data.train.task.names": "names in a question",
    "data.train.task.steps": "reasoning steps of a question",
    "data.train.task.trace": "style of the chains of thought",
    "latent.feedback": "what a pass hands to the next one: its hidden states through an MLP, as they are, or "
    "added to the placeholder's embedding",
    "latent.delimiters": "who reads the tokens around the slots: the student alone, or the teacher mode too",
    "target.method.seed": "seed of the choice",
    "loss.ce_student_weight": "weight of the student's cross-entropy",
    "loss.ce_teacher_weight": "weight of the teacher mode's cross-entropy",
    "loss.attention_weight": "weight of the attention loss",
    "loss.kv_weight": "weight of the KV loss: a number, or auto (then all methods pull equally hard at the "
    "first step)",
    "loss.kv.lambda_k": "weight of the keys",
    "loss.kv.lambda_v": "weight of the values",
    "loss.codi.distance": "distance of hidden states",
    "loss.codi.layer_std": "divide a layer's distance by the standard deviation of its target",
    "training.adam_beta2": "AdamW's second momentum",
    "training.weight_decay": "AdamW's weight decay",
    "training.scheduler": "course of the learning rate",
    "training.max_grad_norm": "gradients are scaled down to this norm; 0 leaves them",
    "training.tensorboard": "write TensorBoard's files",
    "training.report": "write report.html at the end",
    "training.progress": "print the log, with a progress bar on a terminal",
    "evaluation.modes": "ways to answer: latent, cot, direct",
    "evaluation.batch_size": "questions side by side",
    "evaluation.max_new_tokens": "longest answer in tokens, chain of thought included",
}
"""Meanings for the list; they take precedence over docstrings and the help of flags."""


@dataclass(frozen=True)
class Option:
    """One option, with texts as users type them."""

    name: str
    default: str
    meaning: str
    choices: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    """The kinds that have the option, such as ``method.kind rkv``; empty where every kind has it."""


def describe_options() -> str:
    """The complete list of options, one paragraph for each section."""
    paragraphs = ["Options with their defaults; typed as --section.option value:"]
    for section, field in RunConfig.model_fields.items():
        if section == "teachers":
            paragraphs.append("teachers.NAME: several teachers by short names; options as of teacher")
            continue
        methods = tuple(member for member in members(field.annotation) if _fields(member))
        if len(methods) > 1:
            paragraphs.append("\n".join([f"{section}:", *_union_lines(methods, field.default, section)]))
            continue
        kind = _section_type(field.annotation)
        lines = textwrap.wrap(f"{section}: {_plain(_first_line(kind))}", WIDTH)
        for option in options_of(kind, section):
            lines += _shown(option)
        paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs)


def options_of(kind: Any, above: str) -> Iterator[Option]:
    """The options of a section or method, nested ones included.

    Where several options of a section have the same union of methods (the data sets), only the first is
    listed in full.

    Args:
        kind: a section or a method's dataclass.
        above: dotted name that precedes the names of its options.

    Returns:
        One ``Option`` for each value that a user can set.
    """
    meanings = attribute_docstrings(kind)
    listed: dict[tuple[Any, ...], str] = {}
    for name, (hint, default) in _fields(kind).items():
        # No method: a plain value. One: a section. Several: a choice by ``kind``.
        full = f"{above}.{name}"
        methods = tuple(member for member in members(hint) or [_section_type(hint)] if _fields(member))
        meaning = MEANINGS.get(full) or meanings.get(name) or _flag_meaning(full)
        if not methods and name != "kind":
            yield Option(full, _default_text(default), meaning, _choices(hint))
        elif len(methods) == 1:
            yield from options_of(methods[0], full)
        elif len(methods) > 1 and methods in listed:
            yield Option(f"{full}.*", _default_text(default), f"the same options as {listed[methods]}.*")
        elif len(methods) > 1:
            listed[methods] = full
            yield from _union(methods, default, full, meaning)


def _union_lines(methods: tuple[Any, ...], default: Any, section: str) -> Iterator[str]:
    """The listing of a section that is one of several methods."""
    meaning = attribute_docstrings(RunConfig).get(section, "")
    for option in _union(methods, default, section, meaning):
        yield from _shown(option)


def _union(methods: tuple[Any, ...], default: Any, full: str, meaning: str) -> Iterator[Option]:
    """Options of a union: its ``kind``, then those of its members, equal ones merged."""
    tags = [str(tag_of(method)) for method in methods]
    chosen = default
    if not (_is_missing(default) or default is None):
        chosen = default.kind
    meaning = meaning or _flag_meaning(f"{full}.kind") or "which kind it is"
    yield Option(f"{full}.kind", _default_text(chosen), meaning, tuple(tags))
    owners: dict[Option, list[str]] = {}
    for tag, method in zip(tags, methods, strict=True):
        for option in options_of(method, full):
            owners.setdefault(option, []).append(tag)
    name = full.rpartition(".")[2]
    for option, kinds in owners.items():
        needs = option.needs
        if kinds != tags:
            needs = (f"{name}.kind {', '.join(kinds)}", *needs)
        yield replace(option, needs=needs)


def attribute_docstrings(kind: Any) -> dict[str, str]:
    """Docstrings of attributes, read from the source since Python does not keep them.

    Args:
        kind: a class; its bases inside kvdistill count too.

    Returns:
        For each documented attribute, the docstring on one line.
    """
    found: dict[str, str] = {}
    for owner in reversed(getattr(kind, "__mro__", ())):  # the type of a list has no bases
        if not owner.__module__.startswith("kvdistill."):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        assert isinstance(body, ast.ClassDef)
        for node, below in zip(body.body, body.body[1:], strict=False):
            match node, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = " ".join(text.split())
    return found


def _shown(option: Option) -> list[str]:
    """The lines of one option: name and default on the left, meaning on the right."""
    left = f"  --{option.name} {option.default}".rstrip()
    notes: list[str] = []
    if option.choices:
        notes.append(f"one of {', '.join(option.choices)}")
    if option.needs:
        notes.append(f"with {', '.join(option.needs)}")
    meaning = _plain(option.meaning).rstrip(".")
    if notes:
        meaning += f" ({'; '.join(notes)})"
    right = textwrap.wrap(meaning, WIDTH - COLUMN, break_long_words=False, break_on_hyphens=False)
    if len(left) >= COLUMN:
        return [left, *(" " * COLUMN + line for line in right)]
    first, *rest = right
    return [f"{left:<{COLUMN}}{first}", *(" " * COLUMN + line for line in rest)]


def _plain(text: str) -> str:
    """A docstring without its double backticks."""
    return text.replace("``", "")


def _fields(kind: Any) -> dict[str, tuple[Any, Any]]:
    """Type and default of each option of a section or method; empty for a plain type."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        held = kind.model_fields
        return {name: (field.annotation, _default(field)) for name, field in held.items()}
    if isinstance(kind, type) and is_dataclass(kind):
        return {field.name: (field.type, field.default) for field in fields(kind)}
    return {}


def _default(field: FieldInfo) -> Any:
    """The default of a section's option; ``MISSING`` where it has none, as in a dataclass."""
    if field.is_required():
        return MISSING
    return field.get_default(call_default_factory=True)


def _section_type(hint: Any) -> Any:
    """The section behind ``Section``, ``Section | None`` and ``Annotated[Section, ...]``."""
    if get_origin(hint) is Annotated:
        return _section_type(get_args(hint)[0])
    held = [member for member in members(hint) if _fields(member)]
    if len(held) == 1:
        return held[0]
    return hint


def _first_line(kind: Any) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0]


def _choices(hint: Any) -> tuple[str, ...]:
    """The allowed values of a ``Literal``; empty where other values are allowed too."""
    kinds = [member for member in members(hint) or [hint] if member is not NoneType]
    if not all(get_origin(kind) is Literal for kind in kinds):
        return ()
    return tuple(str(choice) for kind in kinds for choice in get_args(kind))


def _default_text(default: Any) -> str:
    """A default as users type it."""
    if _is_missing(default):
        return "(required)"
    if isinstance(default, str):
        return default
    return json.dumps(default)


def _is_missing(default: Any) -> bool:
    return default is MISSING


def _flag_meaning(option: str) -> str:
    return next((flag.help for flag in FLAGS if flag.option == option), "")
