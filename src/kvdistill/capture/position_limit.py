"""Limits on the length of a text: learned positions, chunked attention, sparse attention.

Beyond them a captured call, with its full attention mask, would differ from the model's own forward pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from kvdistill.align.rope_parameters import readable_window
from kvdistill.capture.attention import body_of


class BeyondLimitError(ValueError):
    """A text is longer than the model can be captured on."""


@dataclass(frozen=True, slots=True)
class PositionLimit:
    """A number of tokens beyond which the model cannot be captured, with the reason."""

    tokens: int
    reason: str
    """Completes "the model ... N tokens"."""
    counts_columns: bool = False
    """Whether padding and the tokens of the other reader in the same sequence count too."""
    learned: bool = False
    """Whether it is the size of a learned position table; does not hold if positions prove not learned."""
    scalable: bool = False
    """Whether it is the window of rotary positions, which a rotary scaling makes longer."""


def position_limits(model: PreTrainedModel) -> tuple[PositionLimit, ...]:
    """Read the limits from the model's configuration.

    Rotary positions have none. Chunked attention and attention to a selection of keys equal full attention
    up to their length only.

    Args:
        model: A transformers model.

    Returns:
        All limits, in tokens, the shortest first.
    """
    config = model.config.get_text_config()
    found: list[PositionLimit] = []

    def add(tokens: Any, reason: str, **kind: bool) -> None:
        if isinstance(tokens, int):
            found.append(PositionLimit(tokens, reason, **kind))

    # No rotary frequencies: positions are a learned table, or there are none.
    if not any(name.endswith("inv_freq") for name, _ in model.named_buffers()):
        add(getattr(config, "max_position_embeddings", None), "has learned positions for", learned=True)
    if "chunked_attention" in (getattr(config, "layer_types", None) or ()):
        add(getattr(config, "attention_chunk_size", None), "attends in chunks of")
    # Llama-4 scales queries by their index in the sequence, from floor_scale on.
    if getattr(config, "attn_temperature_tuning", False):
        add(getattr(config, "floor_scale", None), "scales its queries from", counts_columns=True)
    add(getattr(config, "index_topk", None), "attends to a selection of")
    blocks = getattr(config, "index_topk_blocks", None)
    if blocks is not None:
        add(blocks * config.index_block_size, "attends to a selection of")
    return tuple(sorted(found, key=lambda limit: limit.tokens))


def trained_window(model: PreTrainedModel) -> PositionLimit | None:
    """The window of a model with rotary positions, which it can be run beyond, but was not trained for.

    Args:
        model: A transformers model; a rotary scaling in its configuration makes the window longer.

    Returns:
        The window in tokens; None where the configuration names none.
    """
    config = model.config.get_text_config()
    window = getattr(config, "max_position_embeddings", None)
    parameters: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    if not isinstance(window, int) or not parameters:
        return None
    # Gemma 3 has parameters for each type of layer; windowed layers see no further than their window.
    nested = [each for name, each in parameters.items() if isinstance(each, dict) and "sliding" not in name]
    tokens = min(readable_window(each, window) for each in nested or [parameters])
    return PositionLimit(tokens, "was trained on texts of", scalable=True)


def require_positions(
    limits: tuple[PositionLimit, ...],
    columns: int,
    positions: Int[Tensor, "B S"],
    describe: Callable[[PositionLimit, int], str],
    is_learned: Callable[[], bool],
) -> None:
    """Refuse a batch with a text beyond a limit.

    Args:
        limits: From ``position_limits``, the shortest first.
        columns: Most keys that a query may see, padding included.
        positions: Position ids of the call, (B, S).
        describe: Builds the error message from a limit and the number of tokens needed.
        is_learned: Whether the model's positions are learned; only called where it matters.

    Raises:
        BeyondLimitError: with ``describe``'s message.
    """
    if not limits or columns <= limits[0].tokens:
        return
    # Reading positions synchronizes with the device, so it is done only where the columns exceed a limit.
    longest = int(positions.max()) + 1
    for limit in limits:
        needed = longest
        if limit.counts_columns:
            needed = columns
        if needed > limit.tokens and (not limit.learned or is_learned()):
            raise BeyondLimitError(describe(limit, needed))


def register_position_check(model: PreTrainedModel, is_learned: Callable[[], bool]) -> None:
    """Register hooks by which a student's backbone refuses texts beyond its limits, also in generation.

    Args:
        model: The backbone; unchanged where it has no limits.
        is_learned: Whether the model's positions are learned; called only for texts beyond a limit.
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

    # Generation calls the complete model, which may bypass its body (OPT): both get the hook.
    if limits:
        for module in (model, body_of(model)):
            module.register_forward_pre_hook(check, with_kwargs=True)
