"""Build or load the student: a new one on a backbone, a saved one, or the one of a checkpoint."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from kvdistill.config import Lora, ModelSection, RunConfig
from kvdistill.data import Template, default_template
from kvdistill.data.template import template_from
from kvdistill.latent.config import LatentConfig
from kvdistill.latent.feedback import new_feedback
from kvdistill.latent.reasoner import LatentReasoner, add_latent_tokens
from kvdistill.run.pretrained import (
    is_student,
    load_backbone,
    load_tokenizer,
    options_of,
    placed,
    require_one_device,
)


def build_student(config: RunConfig) -> LatentReasoner:
    """The student that training starts from: a new one on a backbone, or a saved one.

    Args:
        config: the run's configuration; ``model.name`` may be a backbone or a saved student.

    Returns:
        The student with its tokenizer.

    Raises:
        ValueError: if the model is missing, cannot be captured, or was saved with other settings.
    """
    if is_student(config.model.name):
        return _saved_student(config)
    return _new_student(config)


def starting_student(config: RunConfig) -> LatentReasoner:
    """The student of a run before its first step, with the feedback of its latent passes initialized.

    Args:
        config: the run's configuration.

    Returns:
        The student; the same for the same seed of torch.
    """
    model = build_student(config)
    if config.training.task == "latent" and not model.config.latents_trained:
        model.start_feedback()
        model.config.latents_trained = True
    return model


def resumed_student(config: RunConfig, checkpoint: Path) -> LatentReasoner:
    """The student of a checkpoint, to resume its run.

    Args:
        config: the run's configuration.
        checkpoint: folder of the checkpoint.

    Raises:
        ValueError: if the checkpoint is damaged or was saved with other settings.
    """
    here = {"name": str(checkpoint), "config": None, "tokenizer": None, "special_tokens": {}}
    return _saved_student(config.model_copy(update={"model": config.model.model_copy(update=here)}))


def template_of(model: LatentReasoner) -> Template:
    """The prompt template that the student was trained with."""
    return template_from(model.config.template or {})


def _new_student(config: RunConfig) -> LatentReasoner:
    tokenizer = load_tokenizer(config)
    add_latent_tokens(tokenizer)
    base = None  # a fully trained student saves all its weights, adapters only their own
    if isinstance(config.model.tuning, Lora):
        base = _anywhere(config.model.name)
    latent = LatentConfig(
        slots=config.latent.slots,
        passes=config.latent.passes,
        feedback=config.latent.feedback,
        delimiters=config.latent.delimiters,
        layout=config.latent.layout,
        template=asdict(config.data.template or default_template(tokenizer)),
        lora=_lora(config.model),
        base=base,
    )
    return LatentReasoner.build(load_backbone(config.model, tokenizer), tokenizer, latent)


def _saved_student(config: RunConfig) -> LatentReasoner:
    """A saved student with the configuration's slots, passes, delimiters and layout; the other settings of
    the model and template have to be those it was saved with.
    """
    section, name = config.model, str(config.model.name)
    with placed(section) as place:
        model = LatentReasoner.from_pretrained(name, **options_of(section), **place)
    require_one_device(section, model)
    require_one_device(section, model.backbone)
    saved, lora = model.config, _lora(section)
    if not saved.latents_trained and saved.feedback != config.latent.feedback:
        _replace_feedback(model, config.latent.feedback)
    template, tuning = saved.template, "full"
    if config.data.template is not None:
        template = asdict(config.data.template)
    if saved.lora is not None:
        tuning = "lora"
    for option, wanted, found in (
        ("latent.feedback", config.latent.feedback, saved.feedback),
        ("model.tuning.kind", section.tuning.kind, tuning),
        (
            "model.tuning",
            lora,
            saved.lora and {key: value for key, value in saved.lora.items() if key in (lora or {})},
        ),
        ("data.template", template, saved.template),
        ("model.tokenizer", section.tokenizer, None),
        ("model.special_tokens", section.special_tokens, {}),
    ):
        if wanted != found:
            raise ValueError(
                f"{name} is a latent student saved with {option} = {found!r}, and cannot go on with "
                f"{wanted!r}: change {option}."
            )
    # No weight has a shape that depends on these, so they may change between runs.
    saved.slots, saved.passes, saved.delimiters, saved.layout = (
        config.latent.slots,
        config.latent.passes,
        config.latent.delimiters,
        config.latent.layout,
    )
    return model


def _replace_feedback(model: LatentReasoner, kind: str) -> None:
    """Give a student whose latents have not been trained another feedback, freshly initialized."""
    model.config.feedback = kind
    feedback = new_feedback(
        kind, model.embed(torch.zeros(1, 1, dtype=torch.long, device=model.device)).shape[-1]
    )
    model.feedback = feedback.to(model.device, model.backbone.dtype)
    model.start_feedback()


def _anywhere(name: str | None) -> str | None:
    """The absolute path of a folder, since a checkpoint that names it may be loaded from elsewhere; a hub
    name is unchanged.
    """
    if name is not None and Path(name).is_dir():
        return str(Path(name).resolve())
    return name


def _lora(section: ModelSection) -> dict[str, Any] | None:
    if not isinstance(section.tuning, Lora):
        return None
    tuning = section.tuning
    return {
        "r": tuning.r,
        "lora_alpha": tuning.alpha,
        "lora_dropout": tuning.dropout,
        "target_modules": tuning.targets,
    }


def to_device(model: LatentReasoner) -> LatentReasoner:
    """Move the model to the GPU, if there is one; returns the same model."""
    model.to("cuda" if torch.cuda.is_available() else "cpu")  # pyright: ignore[reportArgumentType]
    return model
