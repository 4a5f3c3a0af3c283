"""One line on what a compressor keeps of a batch, for ``kvdistill trace``."""

from collections.abc import Sequence

from kvdistill.console.wording import number
from kvdistill.records.probes import KeptLayer, KeptTokens

MOST_LAYERS = 4
"""Layers that are described; of more layers the first and the last."""


def kept_line(kept: KeptTokens, blends_tokens: bool) -> str:
    """Describe what a compressor keeps, layer by layer.

    Args:
        kept: what it keeps.
        blends_tokens: whether its slots are mixtures of tokens.

    Returns:
        ``slots that hold a step's result: layer 0: 3.1 of 4 (78 %), role entropy 0.2 bits; layer 1: ...``.
    """
    if blends_tokens:
        return f"{kept.method} blends tokens, so that no slot holds one"
    if kept.base_share is None:
        return "no step of the chains of thought has a result"
    layers = "; ".join(f"layer {layer.layer}: {_numbers(layer)}" for layer in _shown(kept.layers))
    return f"slots that hold a step's result: {layers}"


def _shown(layers: Sequence[KeptLayer]) -> Sequence[KeptLayer]:
    if len(layers) > MOST_LAYERS:
        return layers[0], layers[-1]
    return layers


def _numbers(layer: KeptLayer) -> str:
    if layer.tokens is None or layer.result_share is None:
        return "none"
    if layer.role_entropy is None:  # slots that are read between their places
        return f"{100 * layer.result_share:.0f} % of what a slot blends"
    return (
        f"{layer.result_share * layer.tokens:.1f} of {number(layer.tokens)} "
        f"({100 * layer.result_share:.0f} %), role entropy {layer.role_entropy:.1f} bits"
    )
