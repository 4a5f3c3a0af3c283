"""From a configuration to the student that training starts from: tokenizer, backbone, latent slots."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from kvdistill.config import Lora, ModelSection, RunConfig, SyntheticData
from kvdistill.data import Template, default_template, word_tokenizer
from kvdistill.latent.config import LatentConfig
from kvdistill.latent.reasoner import LatentReasoner, add_latent_tokens

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def build_student(config: RunConfig) -> LatentReasoner:
    """The student that training starts from: a new one on a backbone, or a saved one."""
    if config.model.name is not None and _is_student(config.model.name):
        return _saved_student(config)
    tokenizer = load_tokenizer(config)
    add_latent_tokens(tokenizer)
    backbone = load_backbone(config.model, tokenizer)
    template = config.data.template or default_template(tokenizer)
    latent = LatentConfig(
        slots=config.latent.slots,
        passes=config.latent.passes,
        feedback=config.latent.feedback,
        delimiters=config.latent.delimiters,
        template=asdict(template),
        lora=_lora(config.model),
        base=config.model.name if isinstance(config.model.tuning, Lora) else None,
    )
    model = LatentReasoner.build(backbone, tokenizer, latent)
    model.want_attention = config.loss.attention_weight > 0
    return model


def load_backbone(section: ModelSection, tokenizer: PreTrainedTokenizerBase) -> Any:
    """The causal language model that ``section`` names or describes.

    Raises:
        ValueError: if nothing is there, in words.
    """
    attention = {} if section.attention is None else {"attn_implementation": section.attention}
    if section.name is None:
        settings = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
        settings |= {"bos_token_id": tokenizer.bos_token_id} | dict(section.config or {})
        if "model_type" not in settings:
            raise ValueError("model.config names no model_type: give one of transformers', such as 'llama' or 'gpt2'.")
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings), dtype=DTYPES[section.dtype], **attention)
    try:
        return AutoModelForCausalLM.from_pretrained(
            section.name, dtype=DTYPES[section.dtype], trust_remote_code=section.trust_remote_code, use_safetensors=True, **attention
        )
    except OSError as error:
        raise ValueError(
            f"model.name: {section.name!r} could not be loaded: it is neither a folder with a model nor reachable on the hub. "
            f"({str(error).splitlines()[0]})"
        ) from error


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
    if name.endswith(".json"):
        if not Path(name).is_file():
            raise ValueError(f"model.tokenizer: there is no file {name}.")
        tokenizer: PreTrainedTokenizerBase = PreTrainedTokenizerFast(tokenizer_file=name)
    else:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=section.trust_remote_code)
    for token, text in section.special_tokens.items():
        setattr(tokenizer, token, text)
    if tokenizer.eos_token_id is None or tokenizer.pad_token_id is None:
        lacking = "end-of-sequence" if tokenizer.eos_token_id is None else "padding"
        raise ValueError(
            f"The tokenizer {name} has no {lacking} token. Name one in the configuration: "
            '--model.special_tokens \'{"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}\'.'
        )
    return tokenizer


def template_of(model: LatentReasoner) -> Template:
    """The template that the student was taught with."""
    return TypeAdapter(Template).validate_python(model.config.template)


def _lora(section: ModelSection) -> dict[str, Any] | None:
    if not isinstance(section.tuning, Lora):
        return None
    tuning = section.tuning
    return {"r": tuning.r, "lora_alpha": tuning.alpha, "lora_dropout": tuning.dropout, "target_modules": tuning.targets}


def _is_student(name: str) -> bool:
    path = Path(name) / "config.json"
    return path.is_file() and '"kvdistill_latent"' in path.read_text(encoding="utf-8")


def _saved_student(config: RunConfig) -> LatentReasoner:
    model = LatentReasoner.from_pretrained(str(config.model.name), dtype=DTYPES[config.model.dtype])
    if model.config.feedback != config.latent.feedback:
        raise ValueError(f"{config.model.name} was built with feedback {model.config.feedback!r}: set latent.feedback to that.")
    model.config.slots, model.config.passes = config.latent.slots, config.latent.passes
    model.config.delimiters = config.latent.delimiters
    model.want_attention = config.loss.attention_weight > 0
    return model
