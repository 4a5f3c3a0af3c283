"""The parts of a saved student, read strictly: its configuration, its tokenizer, and the base model of
adapters.
"""

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
"""Settings in which a student's description of its base model has to agree with the base model."""


def check_files(folder: Path) -> None:
    """Refuse a folder whose files are not those that were written, before any is read.

    Raises:
        ValueError: naming the file.
    """
    require_regular_files(folder)
    require_unchanged(folder)


def read_config(folder: Path) -> LatentConfig:
    """The configuration of a saved student.

    Raises:
        ValueError: if there is none, it is damaged, it belongs to another kind of model, or its weights are
            too few for its sizes.
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
    except Exception as error:  # transformers checks its settings with classes of their own
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
    """Refuse sizes that the weights cannot fill, before memory is taken for them."""
    shapes = list(_shapes(folder))
    if not shapes:
        return
    numbers = sum(prod(shape) for shape in shapes)
    text = config.backbone.get_text_config()  # pyright: ignore[reportOptionalMemberAccess]
    widths = [getattr(text, name, None) for name in ("hidden_size", "embedding_size", "word_embed_proj_dim")]
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
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                yield opened.get_slice(name).get_shape()


def read_tokenizer(folder: Path, config: LatentConfig) -> PreTrainedTokenizerBase | None:
    """The tokenizer that was saved with a student, None where there is none; code that it brings is not run.

    Raises:
        ValueError: if it is damaged, or is another one.
    """
    from transformers import AutoTokenizer

    if not (folder / "tokenizer_config.json").is_file():
        return None
    strange = ValueError(
        f"The tokenizer in {folder} is not the student's (its tokenizer.json is another, or gone): {AGAIN}."
    )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, config=config.backbone, trust_remote_code=False)
    except Exception as error:  # of no other class where a tokenizer.json is damaged
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
    """A student whose frozen weights are read from its base model; ``build`` makes it from its configuration
    and that backbone.

    Raises:
        ValueError: if the base model cannot be read, is another one, or the trained weights do not fit it.
    """
    name = str(config.base)
    base = _read_base(name, folder, {"dtype": config.dtype, **options})
    wanted, found = config.backbone, fingerprint(base)
    assert wanted is not None
    if base.config.model_type != wanted.model_type or base.config.hidden_size != wanted.hidden_size:
        raise ValueError(
            f"{folder} was trained on a {wanted.model_type} of width {wanted.hidden_size}, but {name} now "
            f"holds a {base.config.model_type} of width {base.config.hidden_size}. "
            "Restore the base model or edit `base` in config.json."
        )
    last = max((tokenizer.get_vocab() if tokenizer is not None else config.special or {}).values(), default=0)
    if wanted.vocab_size > max(num_rows(base), last + 1):
        raise ValueError(
            f"{folder / 'config.json'} is damaged: its vocab_size is {wanted.vocab_size}, but {name} and "
            f"the tokenizer have {max(num_rows(base), last + 1)} tokens: {AGAIN}."
        )
    resize_embeddings(base, wanted.vocab_size)  # pyright: ignore
    model = build(config, base)
    state = load_file(folder / "model.safetensors")
    own = {name: parameter.shape for name, parameter in model.named_parameters() if parameter.requires_grad}
    misshapen = (name for name, value in state.items() if name in own and value.shape != own[name])
    require_fit(folder, own.keys() - state.keys(), state.keys() - own.keys(), misshapen)
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
    model.load_state_dict(state, strict=False)
    return model


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
