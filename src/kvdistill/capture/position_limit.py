"""The longest text that a model reads as its captured calls do: learned positions, attention in chunks,
sparse attention.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from kvdistill.capture.attention import body_of


@dataclass(frozen=True, slots=True)
class PositionLimit:
    """One reason why a model cannot read longer texts."""

    tokens: int
    reason: str
    """Completes "the model ... N tokens"."""
    counts_columns: bool = False
    """Whether padding and the other reader's tokens count too."""
    learned: bool = False
    """Whether it is the table of learned positions, which a rotary model only seems to have."""


def position_limits(model: PreTrainedModel) -> tuple[PositionLimit, ...]:
    """Every limit that the model's configuration names, the shortest first.

    Rotary positions have no end. Attention in chunks and attention to a selection of keys equal full
    attention up to their length, and what a captured call does beyond it is not what the model does.
    """
    config = model.config.get_text_config()
    found: list[PositionLimit] = []

    def add(tokens: Any, reason: str, **kind: bool) -> None:
        if isinstance(tokens, int):
            found.append(PositionLimit(tokens, reason, **kind))

    if not any(name.endswith("inv_freq") for name, _ in model.named_buffers()):
        add(getattr(config, "max_position_embeddings", None), "has learned positions for", learned=True)
    if "chunked_attention" in (getattr(config, "layer_types", None) or ()):
        add(getattr(config, "attention_chunk_size", None), "attends in chunks of")
    if getattr(config, "attn_temperature_tuning", False):
        add(getattr(config, "floor_scale", None), "scales its queries from", counts_columns=True)
    add(getattr(config, "index_topk", None), "attends to a selection of")
    blocks = getattr(config, "index_topk_blocks", None)
    if blocks is not None:
        add(blocks * config.index_block_size, "attends to a selection of")
    return tuple(sorted(found, key=lambda limit: limit.tokens))


def require_positions(
    limits: tuple[PositionLimit, ...],
    columns: int,
    positions: Int[Tensor, "B S"],
    describe: Callable[[PositionLimit, int], str],
    is_learned: Callable[[], bool],
) -> None:
    """Refuse a text beyond a limit. Positions, which may wait for the device, are read only where the columns
    exceed one.

    Args:
        limits: From ``position_limits``.
        columns: Keys that a query may see at most, padding included.
        positions: Position ids of the call.
        describe: The error message of a limit and the number of tokens needed.
        is_learned: Whether the model's positions are learned.

    Raises:
        ValueError: ``describe``'s message.
    """
    if not limits or columns <= limits[0].tokens:
        return
    longest = int(positions.max()) + 1
    for limit in limits:
        needed = columns if limit.counts_columns else longest
        if needed > limit.tokens and (not limit.learned or is_learned()):
            raise ValueError(describe(limit, needed))


def register_position_check(model: PreTrainedModel, is_learned: Callable[[], bool]) -> None:
    """Let a student's backbone refuse texts beyond its limits, in training as in generation.

    Generation calls the complete model, which may pass its body by (OPT), so both are watched.
    """
    limits = position_limits(model)

    def describe(limit: PositionLimit, needed: int) -> str:
        return (
            f"{type(model).__name__} {limit.reason} {limit.tokens} tokens, and a text with its latent slots "
            "and answer needs "
            f"{needed}: leave longer texts out (--max_length, data.max_length), take fewer slots "
            "(latent.slots), let answers be "
            "shorter (evaluation.max_new_tokens), or choose a backbone that reads further."
        )

    def check(_: nn.Module, __: tuple[Any, ...], call: dict[str, Any]) -> None:
        mask, positions = call.get("attention_mask"), call.get("position_ids")
        if positions is None:
            return
        columns = int(positions.max()) + 1 if mask is None else mask.shape[-1]
        require_positions(limits, columns, positions, describe, is_learned)

    if limits:
        for module in (model, body_of(model)):
            module.register_forward_pre_hook(check, with_kwargs=True)
