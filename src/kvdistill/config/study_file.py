"""A study file, read and checked: which runs it has, and the configuration of each."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kvdistill.config.explain import explain
from kvdistill.config.mistyped import mistyped
from kvdistill.config.read import read_tree
from kvdistill.config.study import Arm, Base, Grid, Overrides, StudySections, WarmStage
from kvdistill.config.study_claims import claim_plan
from kvdistill.config.study_stages import (
    Stage,
    arm_options,
    nested,
    options_beside,
    overlaid,
    with_overrides,
)
from kvdistill.console.messages import did_you_mean
from kvdistill.console.paths import expanded
from kvdistill.records.study import ArmPlan, StudyPlan, WarmPlan

_NO_CHECKPOINT = Path("a checkpoint")
"""Placeholder of the warm start while a configuration is checked before that exists."""


@dataclass(frozen=True)
class StudyFile:
    """A study file with all its runs, checked."""

    path: Path
    sections: StudySections
    stages: dict[str, Stage] = field(default_factory=dict)
    """Warm stages in their order, then arms, then the points of grids."""
    grid_points: dict[str, ArmPlan] = field(default_factory=dict)

    @property
    def arms(self) -> dict[str, Stage]:
        """The stages that are compared."""
        return {name: stage for name, stage in self.stages.items() if not stage.warm}

    def chosen(self, patterns: str | None) -> list[str]:
        """Names of arms.

        Args:
            patterns: names, experiments or patterns such as ``lambda_*``, with commas; None chooses all.

        Raises:
            ValueError: if one of them names no arm, with the nearest name.
        """
        if patterns is None:
            return list(self.arms)
        found: list[str] = []
        for pattern in patterns.split(","):
            names = [name for name in self.arms if fnmatchcase(name, pattern)] or [self.arm(pattern)]
            found += [name for name in names if name not in found]
        return found

    def arm(self, name: str) -> str:
        """The arm of this name, or of this experiment.

        Raises:
            ValueError: if there is none, with the nearest name.
        """
        if name in self.arms:
            return name
        labels = {arm.experiment: key for key, arm in self.sections.arms.items() if arm.experiment}
        if name in labels:
            return labels[name]
        known = [*self.arms, *labels]
        hint = did_you_mean(name, known) or f" There are {', '.join(known)}."
        raise ValueError(f"{self.path}: there is no arm {name!r}.{hint}")

    def plan(self, now: str) -> StudyPlan:
        """What the report needs to know of the study.

        Args:
            now: ISO 8601 time.
        """
        study = self.sections.study
        plans = {
            name: ArmPlan(
                label=arm.label or name,
                experiment=arm.experiment,
                seeds=list(self.stages[name].seeds),
            )
            for name, arm in self.sections.arms.items()
        }
        baseline = None
        if study.baseline is not None:
            baseline = self.arm(study.baseline)
        return StudyPlan(
            name=study.name,
            file=str(self.path),
            planned=now,
            primary=study.primary,
            learned=study.learned,
            delta={str(measure): delta for measure, delta in study.delta.items()},
            baseline=baseline,
            arms=plans | self.grid_points,
            warm=[
                WarmPlan(name=stage.name, require_accuracy=stage.require_accuracy)
                for stage in self.sections.warm
            ],
            grids={name: grid.label for name, grid in self.sections.grids.items()},
            claims=[claim_plan(claim, study.primary, self.arm, self.path) for claim in self.sections.claims],
        )


def read_study(path: Path | str) -> StudyFile:
    """Read a study file and check the configuration of every run.

    Args:
        path: a TOML file; the shipped ones are in experiments/studies.

    Returns:
        The study.

    Raises:
        ValueError: naming file, arm and option, with the nearest name where one is misspelled.
    """
    path = Path(expanded(str(path)))
    if not path.exists():
        raise ValueError(f"There is no study file {path}. Shipped ones are in experiments/studies.")
    tree = _raw(path)
    if found := mistyped(tree, StudySections):
        raise ValueError("\n".join(f"{path}: {sentence}" for sentence in found))
    try:
        sections = StudySections.model_validate(tree)
    except ValidationError as error:
        lines = [f"{path}: {sentence}" for sentence in explain(error, StudySections)]
        raise ValueError("\n".join(lines)) from None
    study = StudyFile(path, sections)
    _add_stages(study)
    study.plan("")  # refuses claims about arms that do not exist
    return study


def _raw(path: Path) -> dict[str, Any]:
    """The tables of a study file; base and warm stages may be paths of other files, relative to it."""
    tree = read_tree(path)
    base, warm = tree.get("base"), tree.get("warm")
    if isinstance(base, str):
        tree["base"] = {"file": base}
    if isinstance(warm, str):
        tree["warm"] = options_beside(path, warm).get("warm")
        if not tree["warm"]:
            raise ValueError(f"{path}: warm is {warm!r}, and that file has no [[warm]] stages.")
    return tree


def _add_stages(study: StudyFile) -> None:
    sections, before = study.sections, None
    assert isinstance(sections.base, Base)
    base = options_beside(study.path, sections.base.file)
    base = with_overrides(base, sections.base)
    for stage in sections.warm:
        _add(study, stage, stage.name, with_overrides(base, stage), before)
        before = stage.name
    last = before
    for name, arm in sections.arms.items():
        _add(study, arm, name, arm_options(study.path, base, arm), _start(study, name, arm, last))
    for name, grid in sections.grids.items():
        _add_grid(study, name, grid, base, last)


def _add_grid(study: StudyFile, grid_name: str, grid: Grid, base: dict[str, Any], last: str | None) -> None:
    for line, arm in grid.arms.items():
        own, start = arm_options(study.path, base, arm), _start(study, f"{grid_name}.{line}", arm, last)
        for value in grid.values:
            name, label = f"{grid_name}_{line}_{value:g}", arm.label or line
            _add(study, arm, name, overlaid(own, nested(grid.option, value)), start)
            study.grid_points[name] = ArmPlan(
                label=f"{label}, {grid.label} = {value:g}",
                experiment=arm.experiment,
                seeds=list(study.stages[name].seeds),
                grid=grid_name,
                line=label,
                value=float(value),
            )


def _add(study: StudyFile, section: Overrides, name: str, tree: dict[str, Any], start: str | None) -> None:
    """Add one stage, and check its configuration.

    Raises:
        ValueError: naming file, stage and option.
    """
    if name in study.stages:
        raise ValueError(f"{study.path}: {name} names two stages or arms; rename one of them.")
    seeds, priority, required = study.sections.study.seeds, 1, None
    if isinstance(section, Arm):
        seeds, priority = section.seeds or seeds, section.priority
    if isinstance(section, Arm | WarmStage):
        required = section.require_accuracy
    tree = overlaid({"evaluation": {"modes": [tree.get("training", {}).get("task", "latent")]}}, tree)
    stage = Stage(
        name=name,
        seeds=seeds,
        start=start,
        priority=priority,
        tree=tree,
        warm=isinstance(section, WarmStage),
        require_accuracy=required,
    )
    checkpoint = None
    if start is not None:
        checkpoint = _NO_CHECKPOINT
    _require_earlier(study, name, stage.teacher_arms.values())
    teachers = dict.fromkeys(stage.teacher_arms, _NO_CHECKPOINT)
    try:
        stage.config(Path("unused"), checkpoint, seeds[0], teachers)
    except ValueError as error:
        raise ValueError("\n".join(f"{study.path}, {line}" for line in str(error).splitlines())) from None
    study.stages[name] = stage


def _require_earlier(study: StudyFile, name: str, arms: Iterable[str]) -> None:
    """Refuse a teacher that is no stage before the arm."""
    for arm in arms:
        if arm not in study.stages:
            known = list(study.stages)
            hint = did_you_mean(arm, known) or f" Choose one of {', '.join(known)}."
            raise ValueError(
                f"{study.path}, arm {name}: a teacher's arm is {arm!r}, which is no stage before it.{hint}"
            )


def _start(study: StudyFile, name: str, arm: Arm, last: str | None) -> str | None:
    """The stage that an arm starts from."""
    if arm.start == "none":
        return None
    if arm.start == "warm":
        return last
    if arm.start not in study.stages:
        known = ["warm", "none", *study.stages]
        hint = did_you_mean(arm.start, known) or f" Choose one of {', '.join(known)}."
        raise ValueError(f"{study.path}, arm {name}: start is {arm.start!r}, which is no stage.{hint}")
    return arm.start
