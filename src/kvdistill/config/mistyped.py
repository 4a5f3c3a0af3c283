"""Values of the wrong type that pydantic would convert silently, such as true for 1 or "0.1" for 0.1."""

import math
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from kvdistill.config.explain import members, options_of, tag_of
from kvdistill.console.messages import quoted

_NAMES = {int: "an integer", float: "a number", bool: "true or false"}


def mistyped(value: Any, kind: Any, place: str = "") -> list[str]:
    """One sentence for each number, switch or text of a tree of options that has another type.

    Args:
        value: the tree, or a part of it.
        kind: the section, method or type that it is read as.
        place: the option's name, as users type it.

    Returns:
        The sentences; empty where all types are right.
    """
    if isinstance(value, dict):
        return [
            sentence
            for name, item in value.items()
            if (found := _type_of(str(name), kind, value)) is not None
            for sentence in mistyped(item, found, f"{place}.{name}".removeprefix("."))
        ]
    kinds = members(kind) or [kind]
    if isinstance(value, list) or value is None or Any in kinds or _fits(value, kinds):
        return []
    names = [_NAMES[each] for each in kinds if each in _NAMES]
    choices = [repr(choice) for each in kinds if get_origin(each) is Literal for choice in get_args(each)]
    if not names:
        return []
    return [f"{place}: should be {' or '.join([*names, *choices])} (given: {quoted(value)})"]


def _fits(value: Any, kinds: list[Any]) -> bool:
    # bool before int: in Python True is an int.
    if isinstance(value, bool):
        return bool in kinds
    if isinstance(value, int | float):
        return (int in kinds or float in kinds or str in kinds) and _is_finite(value)
    choices = [choice for each in kinds if get_origin(each) is Literal for choice in get_args(each)]
    return str in kinds or value in choices or set(kinds) <= {NoneType}


def _is_finite(value: int | float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _type_of(name: str, kind: Any, given: dict[Any, Any]) -> Any:
    """Type of an option; where several methods have it, that of the method whose ``kind`` is given."""
    if get_origin(kind) is dict:
        return get_args(kind)[1]
    owners = [owner for owner in members(kind) or [kind] if name in options_of(owner)]
    if not owners:
        return None
    chosen = next((owner for owner in owners if tag_of(owner) == given.get("kind")), owners[0])
    return options_of(chosen)[name]
