"""Checks of ``[fusion]`` beside the teachers and the bridge of a run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kvdistill.console.paths import expanded
from kvdistill.fuse.methods import Fixed, FusionMethod, Learnable, Similarity, WithoutTable

MAKE_TABLE = "kvdistill competence"
"""Command that measures a table of the teachers' competence."""


def with_paths(method: FusionMethod) -> FusionMethod:
    """Expand a leading ``~`` in the paths of a fusion.

    Args:
        method: The fusion's settings.

    Returns:
        A copy, or the same where it has no paths.
    """
    if isinstance(method, WithoutTable):
        return method
    if isinstance(method, Similarity) and method.prototype_file is not None:
        method = replace(method, prototype_file=expanded(method.prototype_file))
    if method.competence is not None:
        method = replace(method, competence=expanded(method.competence))
    return method


def check_fusion(method: FusionMethod, teachers: Sequence[str], bridge: str) -> None:
    """Refuse a fusion that has nothing to choose from, or nothing to learn from.

    Args:
        method: The fusion's settings.
        teachers: Short names of the teachers of weight above 0.
        bridge: Kind of the bridge.

    Raises:
        ValueError: names the option to change.
    """
    if isinstance(method, Fixed):
        return
    if len(teachers) < 2:
        raise ValueError(
            f"fusion.kind {method.kind} weighs several teachers, and there is {len(teachers) or 'no'} "
            "teacher: name two or more in [teachers.NAME] (--teacher_models A B), or leave fusion out"
        )
    if bridge == "same":
        raise ValueError(
            f"fusion.kind {method.kind} weighs teachers, and bridge.kind same compares one cache with the "
            "student's own: set bridge.kind to lower or lift, or fusion.kind to fixed"
        )
    if bridge == "lift" and isinstance(method, Learnable) and method.per_layer:
        raise ValueError(
            "fusion.per_layer weighs the layers of a fused cache, and bridge.kind lift weighs the teachers' "
            "losses: set bridge.kind to lower, or leave fusion.per_layer out"
        )
    if method.table is not None or isinstance(method, WithoutTable):
        return
    if isinstance(method, Learnable) and method.competence_weight == 0:
        return
    if isinstance(method, Similarity) and method.prototype_file is not None:
        return
    raise ValueError(f"fusion.competence is missing: {_why(method)}. Make a table with `{MAKE_TABLE}`")


def require_table(method: FusionMethod) -> None:
    """Refuse a path at which there is no table, before a model is loaded.

    Args:
        method: The fusion's settings.

    Raises:
        ValueError: names the path, and how to make a table.
    """
    if method.table is not None and not Path(method.table).exists():
        raise ValueError(
            f"fusion.competence: there is no table {method.table}. Make it with `{MAKE_TABLE}`, or correct "
            "the path."
        )


def _why(method: FusionMethod) -> str:
    if isinstance(method, Learnable):
        return (
            "without the teachers' competence a router prefers whichever teacher is easiest to imitate (set "
            "fusion.competence_weight to 0 to train it so)"
        )
    if isinstance(method, Similarity):
        return "prototypes are questions weighted by the teachers' competence"
    return "the weights are the table's"
