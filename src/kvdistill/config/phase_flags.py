"""``--phase``: the teachers, fusion and readings that make a run one of the phases of several teachers."""

import json
from collections.abc import Mapping
from typing import Any, get_args

from kvdistill.config.explain import tag_of
from kvdistill.config.teacher_flags import separate_teachers
from kvdistill.config.training import TrainingSection
from kvdistill.console.messages import quoted
from kvdistill.fuse.methods import FusionMethod, WithoutTable

PHASES = {
    "1": "one model under two prompts",
    "2": "several chains of thought sampled from one model",
    "3": "different models with fixed weights",
    "4": "different models with a router",
}
"""The phases of training from several teachers that exist."""
SYNTHETIC_TRACES = ("verbose", "terse")
"""The two traces of a row of an embedded task."""
ROW_TRACES = ("words", "equations")
"""The two traces of a GSM8K row."""
PROMPTED = {"1": {"reads", "cue", "template"}, "2": {"reads"}}
"""Options of which a teacher sets one where a file names the teachers of phases 1 and 2."""
FUSIONS = {"3": "fixed", "4": "learnable"}
"""Fusion of phases 3 and 4 where none is named."""
WITHOUT_TABLE = {tag_of(method) for method in get_args(FusionMethod) if issubclass(method, WithoutTable)}
"""Fusions that need no competence table."""


def check_phase(phase: str | None, program: str, multi_teacher: bool) -> None:
    """Refuse phases that do not exist, and any phase in the script for one teacher.

    Args:
        phase: the value of ``--phase``; None where it was not typed.
        program: name of the script.
        multi_teacher: whether the script trains from several teachers.

    Raises:
        ValueError: naming the phases that exist.
    """
    if phase is None:
        return
    if not multi_teacher:
        raise ValueError(
            f"--phase: {program} has no phases, since they train from several teachers: leave it out, or use "
            "experiments/train_multi_teacher_kv.py."
        )
    if phase not in PHASES:
        known = "; ".join(f"{number}, {about}" for number, about in PHASES.items())
        raise ValueError(f"--phase: {quoted(phase)} does not exist. Choose one of: {known}.")


def phase_words(phase: str | None, tree: Mapping[str, Any]) -> list[str]:
    """A phase as ``--section.option value`` words; options that were typed come after them and win.

    Args:
        phase: the value of ``--phase``; None where it was not typed.
        tree: all options so far, with the teachers that flags and file name.

    Returns:
        The words.

    Raises:
        ValueError: if the phase has another number of teachers, or they read other texts.
    """
    teachers = separate_teachers(tree)
    if phase in FUSIONS:
        if len(teachers) < 2:
            raise ValueError(
                f"--phase {phase} fuses two or more teachers, and there is {len(teachers) or 'none'}: name "
                "them with --teacher_models A B."
            )
        return _fusion(phase, tree)
    if phase not in PROMPTED:
        return []
    if len(teachers) >= 2:
        _require_prompts(phase, teachers)
        return _selection(tree)
    return [*_selection(tree), *_readings(phase, tree, teachers)]


def _readings(phase: str, tree: Mapping[str, Any], teachers: Mapping[str, Any]) -> list[str]:
    """The teachers of phases 1 and 2: one model that reads two texts."""
    model, name = _model(phase, tree, teachers)
    readings = _traces(tree)
    if phase == "2":
        readings = _draws(tree)
    adapter: dict[str, Any] = {}
    if model == tree.get("model", {}).get("name"):
        # A frozen copy of the student needs no map; another model gets the default one.
        adapter = {"adapter": {"kind": "identity"}}
    words = ["--bridge.kind", "lower"]
    if name is not None:
        words += [f"--{name}.weight", "0"]
    for short, reading in readings.items():
        section = {"kind": "live", "name": model, **adapter, **reading}
        words += [f"--teachers.{short}", json.dumps(section)]
    if phase == "2" and not tree.get("sampling", {}).get("min_right"):
        words += ["--sampling.min_right", "2"]
    return words


def _require_prompts(phase: str, teachers: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse several teachers of which none reads another text than the student: they are phase 3."""
    if any(PROMPTED[phase] & section.keys() for section in teachers.values()):
        return
    raise ValueError(
        f"--phase {phase} reads two texts with one model, and all of its {len(teachers)} teachers here read "
        "the student's: name one (--teacher_models A), or give them teachers.NAME.reads."
    )


def _fusion(phase: str, tree: Mapping[str, Any]) -> list[str]:
    """A router in phase 4, and the place of the competence table, which the run makes where there is none."""
    fusion, words = tree.get("fusion", {}), []
    kind = fusion.get("kind") or FUSIONS[phase]
    if not fusion.get("kind") and phase == "4":
        words += ["--fusion.kind", kind]
    if kind not in WITHOUT_TABLE and not fusion.get("competence"):
        words += ["--fusion.competence", json.dumps(f"{_output(tree)}/competence")]
    return words


def _output(tree: Mapping[str, Any]) -> str:
    return str(tree.get("training", {}).get("output_dir", TrainingSection.model_fields["output_dir"].default))


def _model(phase: str, tree: Mapping[str, Any], teachers: Mapping[str, Any]) -> tuple[str, str | None]:
    """The one model of phases 1 and 2, and the section that names it: the only teacher, else the student."""
    for section, held in teachers.items():
        return str(held["name"]), section
    name = tree.get("model", {}).get("name")
    if not name:
        raise ValueError(
            f"--phase {phase} reads with a frozen copy of the student, and the student is a new model: start "
            "it from one (--model_name), or name a teacher (--teacher_models A)."
        )
    return str(name), None


def _traces(tree: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The two readings of phase 1, by short name."""
    data = tree.get("data", {}).get("train", {})
    names = ROW_TRACES
    if data.get("kind") == "synthetic":
        names = SYNTHETIC_TRACES
    return {name: {"reads": name} for name in names}


def _draws(tree: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The two chains of phase 2, by short name."""
    own = {"reads": "own", "traces": f"{_output(tree)}/samples"}
    return {"first": {**own, "draw": 0}, "second": {**own, "draw": 1}}


def _selection(tree: Mapping[str, Any]) -> list[str]:
    """Texts that differ are compressed before they are fused, with one selection for all heads."""
    method = tree.get("target", {}).get("method", {})
    if method.get("kind", "rkv") == "rkv" and "selection" not in method:
        return ["--target.method.selection", "shared"]
    return []
