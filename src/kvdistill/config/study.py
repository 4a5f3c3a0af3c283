"""Sections of a study file: budget, warm stages, arms, grids, claims, and what a pilot has to show."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from kvdistill.config.claims import ClaimSection, Measure
from kvdistill.config.section import Section, UserPath

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,39}$")]
"""Name of a stage, arm or grid; also that of its folder."""
_SEEDS = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")


def seed_list(given: Any) -> Any:
    """Seeds written as ``0-7`` or ``0,2,4-6`` as a list; anything else is returned as it is.

    Raises:
        ValueError: if a text is not of this form.
    """
    if not isinstance(given, str):
        return given
    text = given.replace(" ", "")
    if not _SEEDS.fullmatch(text):
        raise ValueError("should be seeds such as 0-7, or 0,2,4-6")
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    return seeds


Seeds = Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], BeforeValidator(seed_list)]
"""Seeds: a list, or a text such as ``0-7``."""


class Budget(Section):
    """How much one command may use; the runs that it has begun are finished."""

    minutes: float | None = Field(default=None, gt=0)
    """Wall-clock minutes after which no run begins; default: no limit."""
    jobs: int = Field(default=1, ge=1, le=1024)
    """Runs side by side."""
    threads: int = Field(default=1, ge=1, le=1024)
    """CPU threads of a run."""


class StudySection(Section):
    """Settings of the entire study."""

    name: str = Field(min_length=1)
    seeds: Seeds = Field(min_length=1)
    primary: Measure = "accuracy"
    """The measure of claims that name none."""
    learned: float = Field(default=0.9, gt=0, le=1)
    """Accuracy from which a run counts as having learned; also the goal of ``steps_to_90``."""
    delta: dict[Measure, Annotated[float, Field(gt=0)]] = Field(default={})
    """Smallest difference that matters, by measure: accuracy and area .02, nats .05, one evaluation interval
    for ``steps_to_90`` where nothing is said.
    """
    baseline: str | None = None
    """The arm that the others are shown against in the report."""
    budget: Budget = Budget()


class Overrides(Section):
    """Options that a stage or an arm has in place of the base's."""

    task: dict[str, Any] = Field(default={})
    """Options of the generated task, for training, validation and test data alike."""
    model: dict[str, Any] = Field(default={})
    teacher: dict[str, Any] = Field(default={})
    teachers: dict[str, Any] = Field(default={})
    """By short name; with ``arm`` in place of ``name`` it is the run of an earlier arm, same seed. In paths,
    ``{study}`` and ``{seed}`` are the study's folder and the seed.
    """
    bridge: dict[str, Any] = Field(default={})
    fusion: dict[str, Any] = Field(default={})
    sampling: dict[str, Any] = Field(default={})
    data: dict[str, Any] = Field(default={})
    latent: dict[str, Any] = Field(default={})
    target: dict[str, Any] = Field(default={})
    loss: dict[str, Any] = Field(default={})
    training: dict[str, Any] = Field(default={})
    evaluation: dict[str, Any] = Field(default={})

    @property
    def sections(self) -> dict[str, Any]:
        """The options by section of a run's configuration."""
        names = [name for name in Overrides.model_fields if name != "task"]
        return {name: value for name in names if (value := getattr(self, name))}


class Base(Overrides):
    """What all runs share: a configuration file, and options in place of its own."""

    file: UserPath | None = None
    """A configuration, relative to the study file."""


class WarmStage(Overrides):
    """A training stage that the arms of a seed share; it starts where the stage before it ended."""

    name: Name
    require_accuracy: float | None = Field(default=None, gt=0, le=1)
    """Last validation accuracy below which the seed is held back: no run starts from it."""


class Arm(Overrides):
    """One way to train, run with every seed."""

    label: str | None = None
    """Name in reports; default: the arm's own."""
    experiment: str | None = Field(default=None, pattern=r"^E\d+$")
    """Its number in the literature of the project, such as E4; claims may use it."""
    priority: int = Field(default=1, ge=1)
    """Arms of a lower number run first, all their seeds before any of a higher number."""
    seeds: Seeds | None = None
    """Default: the study's."""
    start: str = "warm"
    """``warm`` (the last warm stage), ``none``, or the name of a stage or of an earlier arm."""
    require_accuracy: float | None = Field(default=None, gt=0, le=1)
    """Last validation accuracy below which no run starts from it or has it as a teacher."""
    base: UserPath | None = None
    """A configuration file in place of the study's base, relative to the study file."""
    config: UserPath | None = None
    """A configuration file whose target and loss sections the arm takes, relative to the study file."""


class GridArm(Arm):
    """A line of a curve."""


class Grid(Section):
    """A curve: arms that are run at each value of one option."""

    label: str
    """Name of the horizontal axis."""
    option: str = Field(pattern=r"^[a-z_]+(\.[a-z_0-9]+)+$")
    """The option that takes the values, such as ``latent.slots``."""
    values: tuple[int | float, ...] = Field(min_length=2)
    arms: dict[Name, GridArm] = Field(min_length=1)


class PilotSection(Section):
    """What a candidate task has to show before a study is run on it."""

    seeds: int = Field(default=4, ge=2)
    """The first so many seeds of the study."""
    cot_at_least: float = 0.95
    direct_at_most: float = 0.40
    e1_between: tuple[float, float] = (0.4, 0.8)
    """Range of E1 by the primary measure."""
    sd_at_most: float = 0.03
    """Standard deviation over seeds of E1 and of ``step_end``, by the primary measure."""
    p_at_most: float = 0.05
    """In place of the deviation: the log-rank test of time to learn, E1 against ``step_end``."""
    minutes_at_most: float | None = None
    """Minutes of a run; default: only reported."""


class StudySections(Section):
    """A study file."""

    study: StudySection
    base: Base | UserPath
    """Shared configuration: a table, or a file relative to the study file."""
    warm: tuple[WarmStage, ...] = ()
    arms: dict[Name, Arm] = Field(default={})
    grids: dict[Name, Grid] = Field(default={})
    claims: tuple[ClaimSection, ...] = ()
    pilot: PilotSection = PilotSection()
