"""Strict loading of a saved student's parts: files, configuration, tokenizer, base model of adapters."""

from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kvdistill.latent.config import SPECIAL_TOKENS, LatentConfig
from kvdistill.latent.embeddings import num_rows, resize_embeddings
from kvdistill.models.checkpoint_integrity import (
    AGAIN,
    explain_load_failure,
    fingerprint,
    first_line,
    read_backbone,
    require_fit,
    require_regular_files,
    same_weights,
)
from kvdistill.records.jsonfile import read_json
from kvdistill.records.manifest import require_unchanged

SIZES = ("num_hidden_layers", "intermediate_size", "num_attention_heads", "num_key_value_heads")
"""Settings in which the saved backbone configuration has to agree with the base model's."""


def check_files(folder: Path) -> None:
    """Compare the files of a checkpoint with its manifest, before any of them is read.

    Args:
        folder: The checkpoint.

    Raises:
        ValueError: naming the file that is missing, changed or not a regular file.
    """
    require_regular_files(folder)
    require_unchanged(folder)


def read_config(folder: Path) -> LatentConfig:
    """Configuration of a saved student.

    Args:
        folder: The checkpoint.

    Returns:
        The configuration, with backbone and special tokens.

    Raises:
        ValueError: if there is none, it is damaged, it belongs to another kind of model, or its sizes exceed
            the saved weights.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(
            f"{folder} holds no config.json: give a folder that kvdistill train wrote, such as "
            "outputs/run/checkpoint-ep1; if it is a "
            f"checkpoint, {AGAIN}."
        )
    try:
        settings = read_json(file)
        config = LatentConfig.from_pretrained(folder)
    except Exception as error:  # transformers validates settings with exception classes of its own
        raise ValueError(f"{file} is damaged ({first_line(error)}): {AGAIN}.") from error
    if (
        settings.get("model_type") != LatentConfig.model_type
        or config.backbone is None
        or config.special is None
    ):
        raise ValueError(
            f"{folder} is not a latent student: its config.json does not name slots and special tokens."
        )
    if config.base is None:
        _require_sizes(folder, config)
    return config


def _require_sizes(folder: Path, config: LatentConfig) -> None:
    """Refuse sizes that exceed the saved weights, before memory is allocated for them."""
    shapes = list(_shapes(folder))
    if not shapes:
        return
    # Upper bounds only: exact shapes are compared when the weights are loaded.
    numbers = sum(prod(shape) for shape in shapes)
    text = config.backbone.get_text_config()  # pyright: ignore[reportOptionalMemberAccess]
    widths = [getattr(text, name, None) for name in ("hidden_size", "embedding_size", "word_embed_proj_dim")]
    # The smallest width gives the loosest bound for the number of tokens.
    width = min((width for width in widths if isinstance(width, int)), default=1)
    for name, most in (
        ("hidden_size", numbers),
        ("vocab_size", numbers // max(width, 1)),
        ("num_hidden_layers", len(shapes)),
    ):
        size = getattr(text, name, 0)
        if isinstance(size, int) and size > most:
            raise ValueError(
                f"{folder / 'config.json'} is damaged: its {name} is {size}, but the weights hold only "
                f"{numbers} numbers in {len(shapes)} "
                f"tensors: {AGAIN}."
            )


def _shapes(folder: Path) -> Iterator[list[int]]:
    for file in sorted(folder.glob("model*.safetensors")):
        # Shapes are in the header of the file: no weight is read.
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                yield opened.get_slice(name).get_shape()


def read_tokenizer(folder: Path, config: LatentConfig) -> PreTrainedTokenizerBase | None:
    """Tokenizer that was saved with a student; code in the checkpoint is not executed.

    Args:
        folder: The checkpoint.
        config: Its configuration, with the ids of the special tokens.

    Returns:
        The tokenizer; None where the checkpoint has none.

    Raises:
        ValueError: if it is damaged, or gives the special tokens other ids.
    """
    from transformers import AutoTokenizer

    if not (folder / "tokenizer_config.json").is_file():
        return None
    strange = ValueError(
        f"The tokenizer in {folder} is not the student's (its tokenizer.json is another, or gone): {AGAIN}."
    )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, config=config.backbone, trust_remote_code=False)
    except Exception as error:  # tokenizers raises a bare Exception for a damaged tokenizer.json
        if "trust_remote_code" in str(error):
            raise ValueError(
                f"The tokenizer in {folder} brings code of its own, which is never run from a checkpoint: "
                f"{AGAIN}."
            ) from error
        raise strange from error
    ids = [config.special[name] for name in SPECIAL_TOKENS]  # pyright: ignore[reportOptionalSubscript]
    if tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS.values())) != ids:
        raise strange
    return tokenizer


def load_adapter(
    build: Callable[[LatentConfig, PreTrainedModel], Any],
    folder: Path,
    config: LatentConfig,
    tokenizer: PreTrainedTokenizerBase | None,
    options: dict[str, Any],
) -> Any:
    """Load a student of which only the trained weights were saved (LoRA on a named base model).

    Args:
        build: Makes the student from its configuration and the backbone.
        folder: The checkpoint.
        config: Its configuration; ``base`` names the base model.
        tokenizer: Its tokenizer, where it has one.
        options: Options for transformers' ``from_pretrained`` of the base model.

    Returns:
        The student, with frozen weights from the base model and trained weights from ``folder``.

    Raises:
        ValueError: if the base model cannot be read, has changed, or the trained weights do not fit it.
    """
    name = str(config.base)
    base = _read_base(name, folder, {"dtype": config.dtype, **options})
    # Before rows are added: the fingerprint is that of the base model on disk.
    wanted, found = config.backbone, fingerprint(base)
    assert wanted is not None
    if base.config.model_type != wanted.model_type or base.config.hidden_size != wanted.hidden_size:
        raise ValueError(
            f"{folder} was trained on a {wanted.model_type} of width {wanted.hidden_size}, but {name} now "
            f"holds a {base.config.model_type} of width {base.config.hidden_size}. "
            "Restore the base model or edit `base` in config.json."
        )
    most = max(num_rows(base), _num_ids(config, tokenizer))
    if wanted.vocab_size > most:
        raise ValueError(
            f"{folder / 'config.json'} is damaged: its vocab_size is {wanted.vocab_size}, but {name} and "
            f"the tokenizer have {most} tokens: {AGAIN}."
        )
    # Rows of added tokens: padding rows repeat the last row, trained rows come from the checkpoint below.
    resize_embeddings(base, wanted.vocab_size)  # pyright: ignore
    model = build(config, base)
    state = load_file(folder / "model.safetensors")
    own = {name: parameter.shape for name, parameter in model.named_parameters() if parameter.requires_grad}
    misshapen = (name for name, value in state.items() if name in own and value.shape != own[name])
    require_fit(folder, own.keys() - state.keys(), state.keys() - own.keys(), misshapen)
    # The model was built on the base model, so wrong sizes in config.json have gone unnoticed so far.
    for size in SIZES:
        ours, theirs = getattr(wanted, size, None), getattr(base.config, size, None)
        if ours != theirs:
            raise ValueError(
                f"{folder / 'config.json'} is damaged: its {size} is {ours}, but {name} has {theirs}: "
                f"{AGAIN}."
            )
    if config.base_fingerprint is not None and not same_weights(config.base_fingerprint, found):
        raise ValueError(
            f"{folder} was trained on other weights than {name} holds now. Restore the base model, or write "
            "where it is now as `base` into "
            f"{folder / 'config.json'}."
        )
    # Not strict: frozen weights come from the base, and require_fit has compared the trained ones.
    model.load_state_dict(state, strict=False)
    return model


def _num_ids(config: LatentConfig, tokenizer: PreTrainedTokenizerBase | None) -> int:
    """The largest token id + 1; without a tokenizer, that of the special tokens."""
    ids = config.special or {}
    if tokenizer is not None:
        ids = tokenizer.get_vocab()
    return max(ids.values(), default=0) + 1


def _read_base(name: str, folder: Path, options: dict[str, Any]) -> PreTrainedModel:
    try:
        return read_backbone(name, **{**options, "trust_remote_code": False})
    except (OSError, ValueError) as error:
        raise ValueError(
            f"The checkpoint {folder} takes its frozen weights from its `base`, {name}, which could not be "
            f"loaded: {explain_load_failure(name, error)}. "
            "Put the base model back there, or write where it is now as `base` into "
            f"{folder / 'config.json'}."
        ) from error
