"""Routers: from the vector of a question to the weights of the teachers, learned beside the student."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

GATE_FLOOR = 1e-6
"""Added to every gate, so that the weights can be normalized where all gates are closed."""


@dataclass(frozen=True)
class RouterShape:
    """What a router reads and what it weighs."""

    width: int
    """D, width of the query."""
    teachers: int
    """E."""
    layers: int | None = None
    """L, for weights of each layer; None gives one weight per teacher for all layers."""

    @property
    def outputs(self) -> int:
        """Number of weights per question."""
        return (self.layers or 1) * self.teachers

    def per_layer(self, logits: Float[Tensor, "B o"]) -> Float[Tensor, "B *l E"]:
        """(B, L E) as (B, L, E); (B, E) as it is."""
        if self.layers is None:
            return logits
        return logits.unflatten(-1, (self.layers, self.teachers))


class Router(nn.Module):
    """Base of the routers: weights of E teachers for each question, which sum to 1.

    Args:
        shape: Width of the query and number of weights.
        temperature: Divides the logits; above 0.
    """

    def __init__(self, shape: RouterShape, temperature: float) -> None:
        super().__init__()
        self.shape, self.temperature = shape, temperature

    def forward(self, query: Float[Tensor, "B D"]) -> Float[Tensor, "B *l E"]:
        """Weights of the teachers.

        Args:
            query: (B, D), one vector per question, standardized.

        Returns:
            (B, E), or (B, L, E) with weights of each layer; sums to 1 over E.
        """
        raise NotImplementedError


def _network(shape: RouterShape, hidden: int) -> nn.Sequential:
    """Linear, GELU, Linear; its output is 0 at the start, so that all teachers weigh alike."""
    last = nn.Linear(hidden, shape.outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(shape.width, hidden), nn.GELU(), last)


class SoftmaxRouter(Router):
    """Softmax over logits; see ``MLPRouter``."""

    def __init__(self, shape: RouterShape, temperature: float, hidden: int) -> None:
        super().__init__(shape, temperature)
        self.network = _network(shape, hidden)

    def forward(self, query: Float[Tensor, "B D"]) -> Float[Tensor, "B *l E"]:
        """Softmax of the network's logits."""
        logits = self.shape.per_layer(self.network(query))
        return (logits / self.temperature).softmax(-1)


class SigmoidRouter(Router):
    """Independent gates, normalized; see ``GateRouter``."""

    def __init__(self, shape: RouterShape, temperature: float, hidden: int) -> None:
        super().__init__(shape, temperature)
        self.network = _network(shape, hidden)

    def forward(self, query: Float[Tensor, "B D"]) -> Float[Tensor, "B *l E"]:
        """Gates between 0 and 1, divided by their sum."""
        logits = self.shape.per_layer(self.network(query))
        gates = (logits / self.temperature).sigmoid() + GATE_FLOOR
        return gates / gates.sum(-1, keepdim=True)


class KeyRouter(Router):
    """Multi-head attention to learned keys of the teachers; see ``AttentionRouter``."""

    def __init__(self, shape: RouterShape, temperature: float, heads: int, width: int) -> None:
        super().__init__(shape, temperature)
        self.query = nn.Linear(shape.width, heads * width)
        # Small keys: at the start all teachers weigh nearly alike.
        self.keys = nn.Parameter(0.1 * torch.randn(shape.outputs, heads, width))
        # What is the same for every question: through products with the query it is learned slowly.
        self.bias = nn.Parameter(torch.zeros(shape.outputs, heads))

    def forward(self, query: Float[Tensor, "B D"]) -> Float[Tensor, "B *l E"]:
        """Mean over the heads of each head's softmax over the teachers."""
        heads, width = self.keys.shape[1:]
        # At a length of about 1, so that what all questions have in common is left to the bias.
        unit = query / math.sqrt(query.shape[-1])
        queries = self.query(unit).unflatten(-1, (heads, width))
        # B o h: every weight's key against the query of each head.
        scores = torch.einsum("bhw,ohw->boh", queries, self.keys) / math.sqrt(width)
        logits = (scores + self.bias) / self.temperature
        # (B, h, o) -> (B, h, *l, E): softmax over the teachers alone, in each head and layer.
        weights = [self.shape.per_layer(each).softmax(-1) for each in logits.unbind(-1)]
        return torch.stack(weights).mean(0)


@dataclass(frozen=True, kw_only=True)
class MLPRouter:
    """A network of one hidden layer, with a softmax over the teachers.

    Source: ours; the gating network of https://arxiv.org/abs/1701.06538, equation 2, with a hidden layer.
    """

    kind: Literal["mlp"] = "mlp"
    hidden: int = 64
    """Width of the hidden layer."""

    def __post_init__(self) -> None:
        _require_positive("mlp", hidden=self.hidden)

    def module(self, shape: RouterShape, temperature: float) -> Router:
        """A new router."""
        return SoftmaxRouter(shape, temperature, self.hidden)


@dataclass(frozen=True, kw_only=True)
class GateRouter:
    """A network of one hidden layer, with a sigmoid gate for each teacher; gates are normalized.

    Source: ours.
    """

    kind: Literal["gate"] = "gate"
    hidden: int = 64
    """Width of the hidden layer."""

    def __post_init__(self) -> None:
        _require_positive("gate", hidden=self.hidden)

    def module(self, shape: RouterShape, temperature: float) -> Router:
        """A new router."""
        return SigmoidRouter(shape, temperature, self.hidden)


@dataclass(frozen=True, kw_only=True)
class AttentionRouter:
    """Attention of the question to a learned key of each teacher, in several heads.

    Source: ours; scaled dot products of https://arxiv.org/abs/1706.03762, equation 1.
    Differs: each teacher has a learned bias in each head.
    """

    kind: Literal["attention"] = "attention"
    heads: int = 4
    """Heads, each with a softmax of its own over the teachers."""
    width: int = 16
    """Width of a head."""

    def __post_init__(self) -> None:
        _require_positive("attention", heads=self.heads, width=self.width)

    def module(self, shape: RouterShape, temperature: float) -> Router:
        """A new router."""
        return KeyRouter(shape, temperature, self.heads, self.width)


RouterMethod = MLPRouter | GateRouter | AttentionRouter
"""Every router, told apart by ``kind``."""


def _require_positive(router: str, **sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"fusion.router {router}: {name} is {size}. Give 1 or more.")
