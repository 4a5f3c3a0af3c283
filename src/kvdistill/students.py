"""From a configuration to the student that training starts from: tokenizer, backbone, latent slots."""

from collections.abc import Iterable
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from kvdistill.config import Lora, ModelSection, RunConfig, SyntheticData
from kvdistill.data import Template, default_template, word_tokenizer
from kvdistill.data.template import template_from
from kvdistill.latent.config import LatentConfig
from kvdistill.latent.reasoner import LatentReasoner, add_latent_tokens

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def build_student(config: RunConfig) -> LatentReasoner:
    """The student that training starts from: a new one on a backbone, or a saved one.

    Raises:
        ValueError: in words, if what the configuration names is not there, cannot be captured, or was saved with other settings.
    """
    model = _saved_student(config) if _is_student(config.model.name) else _new_student(config)
    model.want_attention = config.loss.attention_weight > 0
    return model


def _new_student(config: RunConfig) -> LatentReasoner:
    tokenizer = load_tokenizer(config)
    add_latent_tokens(tokenizer)
    latent = LatentConfig(
        slots=config.latent.slots,
        passes=config.latent.passes,
        feedback=config.latent.feedback,
        delimiters=config.latent.delimiters,
        template=asdict(config.data.template or default_template(tokenizer)),
        lora=_lora(config.model),
        base=_anywhere(config.model.name) if isinstance(config.model.tuning, Lora) else None,
    )
    return LatentReasoner.build(load_backbone(config.model, tokenizer), tokenizer, latent)


def load_backbone(section: ModelSection, tokenizer: PreTrainedTokenizerBase) -> Any:
    """The causal language model that ``section`` names or describes.

    Raises:
        ValueError: if nothing is there, or the description is misspelt, in words.
    """
    options: dict[str, Any] = {"dtype": DTYPES[section.dtype]}
    options |= {} if section.attention is None else {"attn_implementation": section.attention}
    if section.name is None:
        return AutoModelForCausalLM.from_config(_described(section.config or {}, tokenizer), **options)
    options |= {"trust_remote_code": section.trust_remote_code, "use_safetensors": True}
    try:
        return AutoModelForCausalLM.from_pretrained(section.name, **options)
    except OSError as error:
        raise _not_there("model.name", section.name, error) from error


def _described(settings: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> Any:
    """transformers' configuration with these settings; the tokenizer fills in what belongs to it."""
    kind = str(settings.get("model_type"))
    if kind not in CONFIG_MAPPING:
        raise ValueError(f"model.config.model_type is {kind!r}: give one of transformers', such as 'llama'.{_near(kind, CONFIG_MAPPING)}")
    build: Any = CONFIG_MAPPING[kind]
    known = build().to_dict().keys() | build.attribute_map | {"rope_theta", "rope_scaling"}
    for name in settings.keys() - known:
        raise ValueError(f"model.config: {kind} has no setting {name!r}.{_near(name, known)}")
    own = {"vocab_size": len(tokenizer)} | {name: getattr(tokenizer, name) for name in ("pad_token_id", "eos_token_id", "bos_token_id")}
    return build(**own | {name: value for name, value in settings.items() if name != "model_type"})


def _near(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def load_tokenizer(config: RunConfig) -> PreTrainedTokenizerBase:
    """The tokenizer of the run: named, the model's own, or words for an embedded task.

    Raises:
        ValueError: if none is named and the data needs one, or it has no padding or end-of-sequence token.
    """
    section, train = config.model, config.data.train
    name = section.tokenizer or section.name
    if name is None:
        if not isinstance(train, SyntheticData):
            raise ValueError(
                "model.tokenizer is missing: a new backbone on a data file needs a tokenizer (folder, hub name or tokenizer.json)."
            )
        prompt = config.data.template.prompt.split() if config.data.template is not None else []
        return word_tokenizer([*train.task.words(), *prompt])
    try:
        tokenizer = _tokenizer(name, section.trust_remote_code)
    except (OSError, ValueError) as error:
        raise _not_there("model.name" if section.tokenizer is None else "model.tokenizer", name, error) from error
    _name_tokens(tokenizer, section.special_tokens)
    if tokenizer.eos_token_id is None or tokenizer.pad_token_id is None:
        lacking = "end-of-sequence" if tokenizer.eos_token_id is None else "padding"
        raise ValueError(
            f"The tokenizer {name} has no {lacking} token. Name one in the configuration: "
            '--model.special_tokens \'{"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}\'.'
        )
    return tokenizer


def _name_tokens(tokenizer: PreTrainedTokenizerBase, special: dict[str, str]) -> None:
    for token, text in special.items():
        if token not in tokenizer.SPECIAL_TOKENS_ATTRIBUTES:
            near = _near(token, tokenizer.SPECIAL_TOKENS_ATTRIBUTES)
            raise ValueError(f"model.special_tokens: there is no special token {token!r}.{near}")
        if text not in tokenizer.get_vocab():
            raise ValueError(f"model.special_tokens: {text!r} is no token of {tokenizer.name_or_path}. Name one of its own.")
        setattr(tokenizer, token, text)


def template_of(model: LatentReasoner) -> Template:
    """The template that the student was taught with."""
    return template_from(model.config.template or {})


def _tokenizer(name: str, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    if not name.endswith(".json"):
        return AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
    if not Path(name).is_file():
        raise FileNotFoundError(f"there is no file {name}")
    return PreTrainedTokenizerFast(tokenizer_file=name)


def _not_there(option: str, name: str, error: Exception) -> ValueError:
    reason = str(error).strip().splitlines()[0]
    return ValueError(f"{option}: {name!r} could not be loaded: it is neither here nor can it be had from the hub ({reason}).")


def _anywhere(name: str | None) -> str | None:
    """A folder by its full path, since a checkpoint that names it may be loaded from elsewhere; a hub name as it is."""
    return str(Path(name).resolve()) if name is not None and Path(name).is_dir() else name


def _lora(section: ModelSection) -> dict[str, Any] | None:
    if not isinstance(section.tuning, Lora):
        return None
    tuning = section.tuning
    return {"r": tuning.r, "lora_alpha": tuning.alpha, "lora_dropout": tuning.dropout, "target_modules": tuning.targets}


def _is_student(name: str | None) -> bool:
    path = Path(name or "") / "config.json"
    return path.is_file() and '"kvdistill_latent"' in path.read_text(encoding="utf-8")


def _saved_student(config: RunConfig) -> LatentReasoner:
    """A saved student with the configuration's slots and passes; what its weights depend on has to be as it was saved."""
    section, name = config.model, str(config.model.name)
    attention = {} if section.attention is None else {"attn_implementation": section.attention}
    model = LatentReasoner.from_pretrained(name, dtype=DTYPES[section.dtype], **attention)
    saved, lora = model.config, _lora(section)
    template = saved.template if config.data.template is None else asdict(config.data.template)
    for option, wanted, found in (
        ("latent.feedback", config.latent.feedback, saved.feedback),
        ("model.tuning.kind", section.tuning.kind, "full" if saved.lora is None else "lora"),
        ("model.tuning", lora, saved.lora and {key: value for key, value in saved.lora.items() if key in (lora or {})}),
        ("data.template", template, saved.template),
        ("model.tokenizer", section.tokenizer, None),
        ("model.special_tokens", section.special_tokens, {}),
    ):
        if wanted != found:
            raise ValueError(
                f"{name} is a latent student saved with {option} = {found!r}, and cannot go on with {wanted!r}: change {option}."
            )
    saved.slots, saved.passes, saved.delimiters = config.latent.slots, config.latent.passes, config.latent.delimiters
    return model
