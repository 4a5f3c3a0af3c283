"""``probes.json``: whether answers depend on the latent slots, and which tokens a compressor keeps."""

from dataclasses import dataclass
from typing import ClassVar

from kvdistill.records.jsonfile import JsonFile


@dataclass(frozen=True, kw_only=True)
class KeptLayer:
    """What the slots of one layer keep, over all heads and samples; slots without a token are left out.

    A number is None where it is not defined: the compressor blends tokens, keeps none, or no step has a
    result.
    """

    layer: int
    """Which layer of its model it is."""
    tokens: float | None
    """Tokens kept per sample and head, mean."""
    result_share: float | None
    """Share (0 to 1) of the kept tokens that carry the result of a step."""
    steps_covered: float | None
    """Share (0 to 1) of the steps whose result at least one slot of a head keeps, averaged over heads."""
    role_entropy: float | None
    """Bits: entropy over samples of the step and word that a slot keeps, mean over kept tokens.

    0 where each slot keeps the same word of the same step in every sample.
    """


@dataclass(frozen=True, kw_only=True)
class KeptTokens:
    """What a compressor keeps of the chains of thought, by layer."""

    method: str
    """Kind of the compressor, or a name that tells its settings."""
    num: int
    """Number of chains of thought."""
    base_share: float | None
    """Share (0 to 1) of all tokens that carry the result of a step; None without any token."""
    layers: list[KeptLayer]


@dataclass(frozen=True, kw_only=True)
class ProbesRecord(JsonFile):
    """``probes.json``: tests of whether answers depend on the latent slots."""

    made_by: ClassVar[str] = "kvdistill demo"

    zeroed: float
    """Accuracy with the latent slots set to zero."""
    swapped: float
    """Accuracy with the latent slots of another question."""
    fewer: dict[int, float]
    """Accuracy by number of slots kept."""
    top_words: list[list[str]]
    """Most likely words of each slot, best first."""
    step_match: list[float]
    """Share of questions whose slot i decodes to the result of step i."""
    source: str | None = None
    """Path of the data as given to ``kvdistill evaluate``; None for a demo's own probes."""
    kept: list[KeptTokens] | None = None
    """Which tokens of the student's own chains of thought its compressor keeps; None where not measured."""
