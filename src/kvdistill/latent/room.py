"""Learned positions end with their table: a text that reaches further is refused in words."""

from typing import Any

from torch import nn
from transformers import PreTrainedModel

from kvdistill.capture import rotation


def watch_positions(backbone: PreTrainedModel) -> None:
    """From now on the backbone refuses, by a ValueError, positions beyond its table, in training as in generation.

    Rotary positions have no end. The positions themselves are not looked at where the mask is no wider than the table. Generation
    calls the whole model, which may pass its body by (OPT).
    """
    room: int | None = getattr(backbone.config, "max_position_embeddings", None)
    if room is None or any(name.endswith("inv_freq") for name, _ in backbone.named_buffers()):
        return

    def check(_: nn.Module, __: tuple[Any, ...], call: dict[str, Any]) -> None:
        mask, positions = call.get("attention_mask"), call.get("position_ids")
        if positions is None or (mask is not None and mask.shape[-1] <= room) or (needed := int(positions.max()) + 1) <= room:
            return
        if any(layer.positional == "learned" for layer in rotation.measure(backbone)):
            raise ValueError(
                f"{type(backbone).__name__} has learned positions for {room} tokens, and a text with its latent slots and answer needs "
                f"{needed}: leave longer texts out (--max_length, data.max_length), take fewer slots (latent.slots), let answers be "
                "shorter (evaluation.max_new_tokens), or choose a backbone that reads further."
            )

    for module in (backbone, backbone.base_model):
        module.register_forward_pre_hook(check, with_kwargs=True)
