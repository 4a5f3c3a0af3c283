"""Settings of the fusion: where the weights of the teachers come from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from kvdistill.fuse.entropy import EntropyTarget
from kvdistill.fuse.routers import MLPRouter, RouterMethod, RouterShape
from kvdistill.fuse.similarity import Metric
from kvdistill.fuse.weights import (
    CompetenceWeights,
    DrawnWeights,
    LearnedWeights,
    QueryOf,
    RouterTerms,
    SimilarityWeights,
    TeacherWeights,
)

Figure = Literal["cot_nats", "answer_nats", "right"]
"""A figure of the competence table."""
FIGURES: tuple[Figure, ...] = get_args(Figure)


@dataclass(frozen=True)
class FusionShape:
    """What the weights are for."""

    teachers: Sequence[str]
    """Short names."""
    rates: Sequence[float]
    """The weights of their sections."""
    width: int
    """D, width of the question's vector."""
    layers: int
    """L, layers of the student."""


class WithoutTable:
    """Base of the fusions that read neither questions nor a competence table."""

    layer: ClassVar[int | None] = None

    @property
    def table(self) -> str | None:
        """Path of the competence table that it reads: none."""
        return None


@dataclass(frozen=True, kw_only=True)
class Fixed(WithoutTable):
    """The weights of the teachers' sections, the same for every sample."""

    kind: Literal["fixed"] = "fixed"

    def module(self, shape: FusionShape) -> TeacherWeights | None:
        """None: the weights are constants."""
        return None


@dataclass(frozen=True, kw_only=True)
class Draw(WithoutTable):
    """One teacher for each sample and step, drawn by the weights of the sections of those that cover it.

    A control where teachers read different chains of thought, whose mean is the cache of neither.

    Source: ours.
    """

    kind: Literal["draw"] = "draw"

    def module(self, shape: FusionShape) -> TeacherWeights | None:
        """Weights that are drawn."""
        return DrawnWeights(shape.teachers, shape.rates)


@dataclass(frozen=True, kw_only=True)
class WithTable:
    """Base of the fusions that read a table of the teachers' competence."""

    competence: str | None = None
    """Path of the table of the teachers' competence, from ``kvdistill competence``."""
    competence_temperature: float = 1.0
    """Divides the figures before their softmax over the teachers."""
    competence_figures: tuple[Figure, ...] = FIGURES
    """The figures of the table that count."""

    def __post_init__(self) -> None:
        _require_above_zero(self, "competence_temperature")
        if not self.competence_figures:
            raise ValueError(f"fusion.competence_figures is empty. Give one or more of {', '.join(FIGURES)}.")

    @property
    def table(self) -> str | None:
        """Path of the competence table."""
        return self.competence


@dataclass(frozen=True, kw_only=True)
class Competence(WithTable):
    """The teachers' competence for each sample, as the table has it: a control of the routers.

    Source: ours.
    """

    kind: Literal["competence"] = "competence"
    layer: ClassVar[int | None] = None

    def module(self, shape: FusionShape) -> TeacherWeights | None:
        """Weights that are the competence."""
        return CompetenceWeights(shape.teachers)


@dataclass(frozen=True, kw_only=True)
class Similarity(WithTable):
    """Softmax of the similarity between the question's vector and each teacher's prototypes.

    Prototypes are student-side vectors of calibration questions, weighted by the teacher's competence.

    Source: ours.
    """

    kind: Literal["similarity"] = "similarity"
    metric: Metric = "cosine"
    """Similarity of two vectors; ``l2`` is the negative Euclidean distance."""
    temperature: float = 0.5
    """Divides the similarities, of vectors whose usual length is 1."""
    prototypes: Literal["mean", "cls", "kmeans"] = "cls"
    """``mean``: one per teacher, from all tokens of each question. ``cls``: one per teacher, from the last
    token of each question. ``kmeans``: ``clusters`` per teacher, from the last tokens.
    """
    clusters: int = 8
    """Prototypes per teacher with ``kmeans``."""
    prototype_file: str | None = None
    """Prototypes that an earlier run with the same student wrote; None makes them before the first step."""
    layer: int | None = None
    """Layer of the student whose keys are the question's vector; None takes the middle one."""
    query: QueryOf = "start"
    """Whose keys: those of a frozen copy of the student before its first step, or of the student as it is."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_above_zero(self, "temperature", "clusters")

    @property
    def count(self) -> int:
        """Prototypes per teacher."""
        if self.prototypes == "kmeans":
            return self.clusters
        return 1

    def module(self, shape: FusionShape) -> TeacherWeights | None:
        """Weights whose prototypes are still to be set."""
        found = SimilarityWeights(shape.teachers, shape.width, self.count, self.metric, self.temperature)
        found.query_of = self.query
        if self.prototypes == "mean":
            # Questions are compared with prototypes of their own kind.
            found.pool = "mean"
        return found


@dataclass(frozen=True, kw_only=True)
class Learnable(WithTable):
    """A router from the question's vector to the weights of the teachers, trained beside the student.

    The KV loss alone prefers whichever teacher is easiest to imitate, so a router also learns from the
    teachers' competence.

    Source: ours.
    """

    kind: Literal["learnable"] = "learnable"
    router: RouterMethod = field(default_factory=MLPRouter)
    per_layer: bool = False
    """Weights of each student layer, in place of one weight per teacher."""
    temperature: float = 1.0
    """Divides the router's logits."""
    entropy: EntropyTarget = "none"
    """Where the entropy of each sample's weights is moved."""
    entropy_strength: float = 0.1
    """Weight of the entropy term; without effect where ``entropy`` is none."""
    load_balance: float = 0.01
    """Weight of the term that keeps the mean weights of a batch equal; 0 leaves it out."""
    competence_weight: float = 2.0
    """Weight of the cross-entropy against the teachers' competence; 0 leaves it out."""
    layer: int | None = None
    """Layer of the student whose keys are the question's vector; None takes the middle one."""
    query: QueryOf = "start"
    """Whose keys: those of a frozen copy of the student before its first step, or of the student as it is."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_above_zero(self, "temperature")
        for name in ("entropy_strength", "load_balance", "competence_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(
                    f"fusion.{name} is {getattr(self, name)}. Give a finite number of 0 or more."
                )

    def module(self, shape: FusionShape) -> TeacherWeights | None:
        """A new router with its terms."""
        layers = None
        if self.per_layer:
            layers = shape.layers
        router = self.router.module(RouterShape(shape.width, len(shape.teachers), layers), self.temperature)
        strengths = RouterTerms(
            entropy=self.entropy,
            entropy_strength=self.entropy_strength,
            load_balance=self.load_balance,
            competence_weight=self.competence_weight,
        )
        found = LearnedWeights(shape.teachers, router, strengths)
        found.query_of = self.query
        return found


FusionMethod = Fixed | Draw | Competence | Similarity | Learnable
"""Every fusion, told apart by ``kind``."""


def _require_above_zero(method: object, *names: str) -> None:
    for name in names:
        value = getattr(method, name)
        # Written so that NaN is refused too.
        if not 0 < value < float("inf"):
            raise ValueError(f"fusion.{name} is {value}. Give a finite number above 0.")
