"""Validation errors of a configuration, with option names as users type them.

Also the reflection on sections and method unions that the flags and the option list need.
"""

import re
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from kvdistill.console.messages import LONGEST, did_you_mean, quoted, shortened

_EXPECTED = {
    "int_type": "should be an integer",
    "int_parsing": "should be an integer",
    "int_from_float": "should be an integer",
    "int_parsing_size": "should be a smaller number",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "finite_number": "should be a finite number",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "string_type": "should be text",
    "string_too_short": "should not be empty",
    "literal_error": "should be {expected}",
    "greater_than_equal": "should be {ge} or more",
    "greater_than": "should be above {gt}",
    "less_than_equal": "should be {le} or less",
    "less_than": "should be below {lt}",
    "list_type": "should be a list",
    "tuple_type": "should be a list",
    "dict_type": "should be a section with options of its own",
    "model_type": "should be a section with options of its own",
    "dataclass_type": "should be a section with options of its own",
    "model_attributes_type": "should be a section with options of its own",
}
"""Sentence for each type of pydantic error; other types keep pydantic's own message."""


def explain(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """One sentence for each option that is wrong, missing or misspelled.

    Args:
        error: what pydantic raised while it validated ``root``.
        root: the model that was validated.

    Returns:
        The sentences; misspelled names come with the nearest known name.
    """
    found: dict[str, list[Any]] = {}
    # A value that fits no member of a union gives one error a member: they are joined into one sentence.
    for problem in error.errors():
        found.setdefault(_place(problem["loc"], root)[0], []).append(problem)
    return [_sentence(place, problems, root) for place, problems in found.items()]


def _sentence(place: str, problems: list[Any], root: Any) -> str:
    """The sentence about one option."""
    first = problems[0]
    beside = _place(first["loc"], root)[1]
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        # An option typed without its section: name the section that has it.
        owners = [section for section, kind in options_of(root).items() if place in options_of(kind)]
        full = shortened(_as_typed(place, first["input"]))
        hint = _nearest(str(first["loc"][-1]), beside)
        if owners:
            hint = f" Did you mean {owners[0]}.{place}?"
        return f"there is no option {full}.{hint}"
    if first["type"] == "union_tag_invalid":
        context = first["ctx"]
        known = [name.strip("' ") for name in context["expected_tags"].split(",")]
        return (
            f"{place} has no kind {context['tag']!r}.{_nearest(context['tag'], known)} Choose one of "
            f"{', '.join(known)}."
        )
    if first["type"] == "union_tag_not_found":
        return f"{place} does not say which kind it is: add --{place}.kind, or kind = ... in the file."
    if first["type"] == "missing":
        return f"{place} is missing: add it to the file, or give it on the command line as --{place}."
    sentence = f"{place or 'the options together'}: {_joined(problems)}"
    if isinstance(first["input"], dict | BaseModel):
        return sentence
    return f"{sentence} (given: {quoted(first['input'])}){_nearest_choice(problems)}"


def _nearest_choice(problems: list[Any]) -> str:
    """The choice nearest to a misspelled one; empty where none is near."""
    choices: list[str] = []
    for problem in problems:
        if problem["type"] == "literal_error":
            choices += re.findall(r"'([^']*)'", problem["ctx"]["expected"])
    hint = did_you_mean(str(problems[0]["input"]), choices)
    if not hint:
        return ""
    return f".{hint}"


def _joined(problems: list[Any]) -> str:
    """The expectations of all members of a union, joined by "or"."""
    told = list(dict.fromkeys(_expected(problem) for problem in problems))
    if all(each.startswith("should be ") for each in told):
        return " or ".join([told[0], *(each.removeprefix("should be ") for each in told[1:])])
    return "; or: ".join(told)


def _expected(problem: Any) -> str:
    words = _EXPECTED.get(problem["type"])
    if words is None:
        return problem["msg"].removeprefix("Value error, ")
    context = {name: _as_integer(bound) for name, bound in problem.get("ctx", {}).items()}
    return words.format(**context)


def _as_integer(bound: Any) -> Any:
    """A bound as users write it: 1 for 1.0."""
    if isinstance(bound, float) and bound.is_integer():
        return int(bound)
    return bound


def _as_typed(place: str, given: Any) -> str:
    """The full name ``a.b.c`` where ``a`` is unknown: below it are nested sections of one option each."""
    while isinstance(given, dict) and len(given) == 1 and len(place) < LONGEST:
        ((name, given),) = given.items()
        place = f"{place}.{name}"
    return place


def _nearest(name: str, known: list[str]) -> str:
    hint = did_you_mean(name, known)
    if hint or not known:
        return hint
    return f" Known here: {', '.join(sorted(known))}."


def _place(location: tuple[int | str, ...], root: Any) -> tuple[str, list[str]]:
    """Name of an option as users type it, and the names known at its level.

    pydantic's location also holds the tag of each union member on the path; these are left out.
    """
    kind = root
    words: list[str] = []
    beside: list[str] = []
    for part in location:
        sections = [member for member in members(kind) if options_of(member)]
        if len(sections) == 1:
            kind = sections[0]  # an optional section: its location holds no tag
        options = options_of(kind)
        if options or not members(kind):
            words.append(str(part))
            beside, kind = list(options), _below(part, kind)
        else:
            kind = next((member for member in members(kind) if tag_of(member) == part), None)
    return ".".join(words), beside


def _below(part: Any, kind: Any) -> Any:
    """Type of an option of a section, or of a value of a dictionary such as ``teachers``."""
    if get_origin(kind) is dict:
        return get_args(kind)[1]
    return options_of(kind).get(part)


def options_of(kind: Any) -> dict[Any, Any]:
    """Name and type of each option of a section or method; empty for other types."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    if is_dataclass(kind):
        return {field.name: field.type for field in fields(kind)}
    return {}


def members(kind: Any) -> list[Any]:
    """The members of a union, nested unions flattened; empty where ``kind`` is not a union."""
    if get_origin(kind) is Annotated:
        return members(get_args(kind)[0])
    if get_origin(kind) not in (Union, UnionType):
        return []
    return [found for member in get_args(kind) for found in members(member) or [bare(member)]]


def bare(kind: Any) -> Any:
    """A type without its ``Annotated`` metadata."""
    if get_origin(kind) is Annotated:
        return get_args(kind)[0]
    return kind


def tag_of(kind: Any) -> str | None:
    """The name of a method that users type: the default of its ``kind``; None where it has none."""
    if isinstance(kind, type) and issubclass(kind, BaseModel) and "kind" in kind.model_fields:
        return kind.model_fields["kind"].default
    if is_dataclass(kind):
        return next(
            (str(f.default) for f in fields(kind) if f.name == "kind" and f.default is not MISSING), None
        )
    return None
