"""LoRA adapters on the backbone, and the rows of embedding and head that are trained with them.

Source: https://arxiv.org/abs/2106.09685.
"""

import re
from typing import Any

from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from transformers import PreTrainedModel

TOWERS = r".*(vision|visual|image|audio|speech).*"
"""Modules of multimodal models that no text passes through: adapters there would get no gradient."""


def add_lora(backbone: PreTrainedModel, settings: dict[str, Any]) -> None:
    """Freeze the backbone and insert LoRA adapters.

    Args:
        backbone: Changed in place.
        settings: Fields of peft's LoraConfig. ``target_modules="all-linear"`` leaves out the towers of
            other modalities.
    """
    # Before the adapters are inserted: their own weights are trained.
    backbone.requires_grad_(False)
    if settings["target_modules"] == "all-linear" and any(
        re.fullmatch(TOWERS, name) for name, _ in backbone.named_modules()
    ):
        settings = {"exclude_modules": TOWERS, **settings}
    inject_adapter_in_model(LoraConfig(**settings), backbone)
    for name, module in backbone.named_modules():
        if ".lora_" in name:
            # transformers would draw B at random when the student is complete, and B = 0 is the base model.
            module._is_hf_initialized = True  # pyright: ignore[reportAttributeAccessIssue]
    # peft renames wrapped parameters; transformers ties weights by name when it loads.
    names = {name for name, _ in backbone.named_parameters(remove_duplicate=False)}
    backbone._tied_weights_keys = backbone.all_tied_weights_keys = _through_adapter(
        backbone.all_tied_weights_keys, names
    )


def new_rows(backbone: PreTrainedModel, rows: list[int]) -> dict[str, list[int]]:
    """Rows of the embedding and the head that have to be trained although the backbone is frozen.

    They belong to tokens that were added, with random values that no base model holds.

    Args:
        backbone: The causal language model, its embedding already extended.
        rows: Ids of the added tokens.

    Returns:
        Module name -> row indices, as peft's ``trainable_token_indices`` takes them.

    Raises:
        ValueError: if the head has a bias.
    """
    names = {module: name for name, module in backbone.named_modules()}
    head = backbone.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        raise ValueError(
            f"The head of {type(backbone).__name__} has a bias, which peft drops where rows are added: "
            "train it without LoRA."
        )
    return {names[layer]: rows for layer in (backbone.get_input_embeddings(), head)}


def trained_state(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The trained weights of a state, without those of the frozen base model.

    Args:
        model: The student, whose parameters know whether they are trained.
        state: Tensors by name, as ``state_dict`` gives them.

    Returns:
        The entries of ``state`` that are trained, tied ones under each of their names.
    """
    trained = {
        name for name, parameter in model.named_parameters(remove_duplicate=False) if parameter.requires_grad
    }
    return {name: value for name, value in state.items() if name in trained}


def _through_adapter(tied: dict[str, str], names: set[str]) -> dict[str, str]:
    """Names of tied weights (target -> source) after peft has wrapped the embedding."""
    inside = ("token_adapter.base_layer.weight", "token_adapter.trainable_tokens_delta.default")
    renamed: dict[str, str] = {}
    for target, source in tied.items():
        if source in names:
            renamed[target] = source
            continue
        # A wrapped embedding has two tensors, its frozen weight and the rows that are trained: both are tied.
        stems = target.removesuffix("weight"), source.removesuffix("weight")
        renamed |= {stems[0] + part: stems[1] + part for part in inside}
    return renamed
