"""Weights of the teachers for each sample: drawn, by competence, by similarity, or from a learned router."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from kvdistill.fuse.entropy import (
    EntropyTarget,
    agreement,
    entropy,
    entropy_loss,
    load_balance,
    mean_over,
    route_ce,
    teacher_weights,
    with_teacher,
)
from kvdistill.fuse.query_norm import QueryNorm, unit_scale
from kvdistill.fuse.routers import Router
from kvdistill.fuse.similarity import Metric, similarity_weights
from kvdistill.kv import LossOutput, Routing

QueryOf = Literal["start", "current"]
"""``start``: a frozen copy of the student before its first step. ``current``: the student as it is."""


@dataclass(frozen=True, slots=True)
class RouteInputs:
    """What the weights of E teachers may depend on, for B samples."""

    query: Float[Tensor, "B d"] | None = None
    """The question's vector, as ``TwoModes.question``."""
    competence: Float[Tensor, "B E"] | None = None
    """Competence of each teacher, sums to 1 over E; 0 throughout where it is not known."""
    sample_ids: tuple[str, ...] = ()
    """B ids, for weights that are drawn."""
    step: int = 0
    """Training step, from 0: another one draws again."""
    present: Bool[Tensor, "B E"] | None = None
    """Whether each teacher covers a token of the sample."""


@dataclass(frozen=True, kw_only=True)
class RouterTerms:
    """Strengths of the terms that a router is trained with; see ``Learnable``."""

    entropy: EntropyTarget
    entropy_strength: float
    load_balance: float
    competence_weight: float


class TeacherWeights(nn.Module):
    """Base: weights of E teachers for each sample, and the terms that they are trained with.

    Args:
        teachers: Short names of the teachers, in the order of the weights.
    """

    reads_question: ClassVar[bool] = True
    """Whether the weights depend on the question's vector."""
    pool: Literal["last", "mean"] = "last"
    """Tokens of the question that its vector is made of."""

    def __init__(self, teachers: Sequence[str]) -> None:
        super().__init__()
        self.teachers = tuple(teachers)

    def forward(self, inputs: RouteInputs) -> Float[Tensor, "B *l E"]:
        """Weights of the teachers.

        Args:
            inputs: The question's vector and the teachers' competence, for B samples.

        Returns:
            (B, E), or (B, L, E) where they differ between layers; sums to 1 over E.
        """
        raise NotImplementedError

    def observe(
        self, query: Float[Tensor, "B D"] | None, all_reduce_sum: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """Take note of the questions of a training step; nothing where the weights do not depend on them.

        Args:
            query: (B, D), the questions' vectors.
            all_reduce_sum: All-reduce sum over the processes; None for a single one.
        """

    def terms(self, routing: Routing, all_reduce_sum: Callable[[Tensor], Tensor] | None = None) -> LossOutput:
        """The loss of the weights, and what is logged of them.

        Args:
            routing: Weights and competence of B samples, over the teachers that are present.
            all_reduce_sum: All-reduce sum over the processes, for the load balance; None for a single one.

        Returns:
            The weighted sum of the terms, 0 without any, and the metrics ``weight_TEACHER`` and
            ``route_entropy`` (nats), with competence also ``route_ce`` (nats) and ``route_agreement``.
        """
        weights, competence = routing.weights.detach(), routing.competence
        valid = with_teacher(weights)
        means = teacher_weights(weights)
        found = {
            f"weight_{name}": mean_over(means[:, column], valid) for column, name in enumerate(self.teachers)
        }
        found["route_entropy"] = mean_over(entropy(weights), valid)
        if competence is not None:
            found["route_ce"] = route_ce(weights, competence)
            found["route_agreement"] = agreement(weights, competence)
        return LossOutput(self.loss(routing, all_reduce_sum), found)

    def loss(
        self, routing: Routing, all_reduce_sum: Callable[[Tensor], Tensor] | None = None
    ) -> Float[Tensor, ""]:
        """The loss alone; 0 where nothing is learned.

        Args:
            routing: As in ``terms``.
            all_reduce_sum: As in ``terms``.

        Returns:
            A scalar.
        """
        return torch.zeros((), device=routing.weights.device)


class CompetenceWeights(TeacherWeights):
    """The competence itself; see ``Competence``."""

    reads_question = False

    def forward(self, inputs: RouteInputs) -> Float[Tensor, "B E"]:
        """The competence of each sample; equal weights where it is not known."""
        assert inputs.competence is not None
        known = inputs.competence.sum(-1, keepdim=True) > 0
        return torch.where(known, inputs.competence, 1 / len(self.teachers))


class DrawnWeights(TeacherWeights):
    """One teacher a sample and step; see ``Draw``.

    Args:
        teachers: As in ``TeacherWeights``.
        rates: (E), proportional to how often each is drawn, where all of them are present.
    """

    reads_question = False

    def __init__(self, teachers: Sequence[str], rates: Sequence[float]) -> None:
        super().__init__(teachers)
        self.rates = tuple(rates)

    def forward(self, inputs: RouteInputs) -> Float[Tensor, "B E"]:
        """1 for the drawn teacher, 0 for the others."""
        assert inputs.present is not None
        # Of exponential times the first one is of teacher i with a probability proportional to its rate.
        times = torch.tensor([self._times(f"draw/{inputs.step}/{name}") for name in inputs.sample_ids])
        times = times.to(inputs.present.device).masked_fill(~inputs.present, float("inf"))
        return functional.one_hot(times.argmin(-1), len(self.teachers)).float()

    def _times(self, seed: str) -> list[float]:
        draws = random.Random(seed)
        return [draws.expovariate(1.0) / rate if rate else float("inf") for rate in self.rates]


class QuestionWeights(TeacherWeights):
    """Base of the weights that depend on the question's vector.

    Args:
        teachers: As in ``TeacherWeights``.
        width: D, width of the question's vector.
    """

    query_of: QueryOf = "start"
    """Whose keys the question's vector is made of."""

    def __init__(self, teachers: Sequence[str], width: int) -> None:
        super().__init__(teachers)
        self.norm = QueryNorm(width)

    def observe(
        self, query: Float[Tensor, "B D"] | None, all_reduce_sum: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """Move the statistics of the standardization, where the vectors of questions move."""
        if self.query_of == "current":
            assert query is not None
            self.norm.observe(query, all_reduce_sum)

    def query(self, inputs: RouteInputs) -> Float[Tensor, "B D"]:
        """The standardized vector of each question, outside the student's graph."""
        assert inputs.query is not None
        return self.norm(inputs.query.detach())


class SimilarityWeights(QuestionWeights):
    """Similarity to prototypes; see ``Similarity``.

    Args:
        teachers: As in ``TeacherWeights``.
        width: D, width of the question's vector.
        clusters: P, prototypes per teacher.
        metric: ``cosine``, ``dot`` or ``l2``.
        temperature: Divides the similarities.
    """

    prototypes: Tensor
    mass: Tensor
    whitening: Tensor

    def __init__(
        self, teachers: Sequence[str], width: int, clusters: int, metric: Metric, temperature: float
    ) -> None:
        super().__init__(teachers, width)
        self.metric: Metric = metric
        self.temperature = temperature
        count = len(self.teachers)
        self.register_buffer("prototypes", torch.zeros(count, clusters, width))
        self.register_buffer("mass", torch.full((count, clusters), 1 / (count * clusters)))
        self.register_buffer("whitening", torch.eye(width))

    def set_prototypes(
        self, prototypes: Float[Tensor, "E P D"], mass: Float[Tensor, "E P"], whitening: Float[Tensor, "D D"]
    ) -> None:
        """Set the prototypes, in the space of whitened question vectors divided by the root of D.

        Args:
            prototypes: (E, P, D).
            mass: (E, P), how many questions each of them counts for, weighted; 0 or more.
            whitening: Multiplies a standardized question vector.
        """
        self.prototypes.copy_(prototypes)
        self.mass.copy_(mass)
        self.whitening.copy_(whitening)

    def forward(self, inputs: RouteInputs) -> Float[Tensor, "B E"]:
        """Softmax over the teachers of the similarity to their prototypes."""
        query = unit_scale(self.query(inputs) @ self.whitening)
        return similarity_weights(query, self.prototypes, self.mass, self.metric, self.temperature)


class LearnedWeights(QuestionWeights):
    """A router with its terms; see ``Learnable``.

    Args:
        teachers: As in ``TeacherWeights``.
        router: From standardized question vectors to weights.
        strengths: Weights of the terms.
    """

    def __init__(self, teachers: Sequence[str], router: Router, strengths: RouterTerms) -> None:
        super().__init__(teachers, router.shape.width)
        self.router, self.strengths = router, strengths

    def forward(self, inputs: RouteInputs) -> Float[Tensor, "B *l E"]:
        """The router's weights."""
        query = self.query(inputs)
        # A length of its own keeps the router from saturating where the student moves faster than the
        # statistics do.
        scale = query.square().mean(-1, keepdim=True).clamp_min(1e-8).rsqrt()
        return self.router(query * scale)

    def loss(
        self, routing: Routing, all_reduce_sum: Callable[[Tensor], Tensor] | None = None
    ) -> Float[Tensor, ""]:
        """Entropy, load balance and competence, each with its strength."""
        method = self.strengths
        found = super().loss(routing)
        if method.entropy != "none":
            found = found + method.entropy_strength * entropy_loss(routing.weights, method.entropy)
        if method.load_balance:
            found = found + method.load_balance * load_balance(routing.weights, all_reduce_sum)
        if method.competence_weight and routing.competence is not None:
            found = found + method.competence_weight * route_ce(routing.weights, routing.competence)
        return found
