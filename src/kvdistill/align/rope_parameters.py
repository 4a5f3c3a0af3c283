"""Rotary scaling at load: transformers' ``rope_parameters`` for a longer window than the trained one.

A scaling is a dictionary of ``rope_type`` (one of ``SCALINGS``), ``factor`` and further rotary parameters.
"""

from collections.abc import Mapping
from typing import Any

from kvdistill.align.rope_scale import ntk_base

SCALINGS = ("linear", "ntk", "dynamic", "yarn", "llama3", "longrope")
"""Methods; all but ``ntk`` are a ``rope_type`` of transformers."""
TRAINED_WINDOW = ("yarn", "llama3", "longrope")
"""Methods whose parameters hold the trained window, ``original_max_position_embeddings``."""
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
"""Llama 3's own settings, where none are given."""


def check_scaling(scaling: Mapping[str, Any]) -> None:
    """Refuse a scaling with an unknown method, or without what the method needs.

    Args:
        scaling: ``rope_type``, ``factor``, and further parameters under transformers' names.

    Raises:
        ValueError: names the parameter, and the values that it takes.
    """
    kind, factor = scaling.get("rope_type"), scaling.get("factor")
    if kind not in SCALINGS:
        raise ValueError(f"rope_type is {kind!r}: give one of {', '.join(SCALINGS)}")
    if not isinstance(factor, int | float) or isinstance(factor, bool) or factor < 1:
        raise ValueError(
            f"factor is {factor!r}: give a number of at least 1, the ratio of the longer window to the "
            "trained one"
        )
    if kind == "longrope" and not {"short_factor", "long_factor"} <= scaling.keys():
        raise ValueError(
            "longrope needs short_factor and long_factor, a list with a number for each rotated channel "
            "pair: give both, or take yarn or ntk, which need the factor alone"
        )


def scaled_parameters(
    scaling: Mapping[str, Any], own: Mapping[str, Any], width: int, window: int
) -> dict[str, Any]:
    """Rotary parameters of a model with a scaling, from its own parameters.

    Args:
        scaling: As ``check_scaling`` accepts it.
        own: The model's ``rope_parameters`` as saved, with ``rope_theta``.
        width: D, the number of rotated channels of a head.
        window: Tokens that the model was trained on, ``max_position_embeddings``.

    Returns:
        The ``rope_parameters`` to set in the model's configuration before its weights are loaded.

    Raises:
        ValueError: if the model has another scaling already, on which this one cannot be put.

    Source: ours.
    """
    kind, before = scaling["rope_type"], own.get("rope_type", "default")
    if kind == "ntk" and before in ("default", *SCALINGS):
        # A static base: the rotation is transformers' own, with another theta.
        theta = ntk_base(float(own["rope_theta"]), float(scaling["factor"]), width)
        return {"rope_type": "default", **own, "rope_theta": theta}
    if before not in ("default", kind):
        raise ValueError(
            f"the model's own rotary scaling is {before}, which {kind} would replace by one that it was not "
            "trained with: leave rope_scaling out, or take ntk or the model's own method with a larger factor"
        )
    # Parameters of the same method are kept where the scaling gives none; of the default, what all share.
    kept = ("rope_theta", "partial_rotary_factor")
    found = {name: value for name, value in own.items() if name in kept or before == kind}
    if kind in TRAINED_WINDOW:
        found.setdefault("original_max_position_embeddings", window)
    if kind == "llama3":
        found = LLAMA3 | found
    return found | dict(scaling)


def readable_window(parameters: Mapping[str, Any], window: int) -> int:
    """Tokens that a model with these rotary parameters reads.

    Args:
        parameters: ``rope_parameters`` of its configuration.
        window: Its ``max_position_embeddings``.

    Returns:
        ``window``, longer by the factor where the parameters scale the trained window.
    """
    kind, factor = parameters.get("rope_type", "default"), float(parameters.get("factor") or 1.0)
    if kind in TRAINED_WINDOW:
        # ``max_position_embeddings`` is either window: Qwen keeps the trained one, Llama 3 the longer one.
        return max(window, int(parameters["original_max_position_embeddings"] * factor))
    if kind in ("linear", "dynamic"):
        return int(window * factor)
    return window
