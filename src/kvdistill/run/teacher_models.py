"""Load a teacher's model: revision, device, rotary scaling, and a message where memory runs out."""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from kvdistill.align.rope_parameters import scaled_parameters
from kvdistill.config import TeacherSection
from kvdistill.data import Template
from kvdistill.latent.layout import cot_delimiters
from kvdistill.latent.load import read_config
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.models.memory import explained_out_of_memory
from kvdistill.run.pretrained import (
    DTYPES,
    is_student,
    not_loaded,
    open_tokenizer,
    options_of,
    placed,
    pretrained,
)
from kvdistill.run.student import template_of


@dataclass(frozen=True)
class TeacherModel:
    """A teacher's model with its tokenizer, and how it was trained to read."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    delimiters: tuple[int, int] | None = None
    """Token ids before and after the chain of thought, for a student that was trained with them."""
    template: Template | None = None
    """The prompt template that a saved student was trained with; None for other models."""


def option_of(name: str) -> str:
    """The option of a teacher, as it was configured: ``teacher``, or ``teachers.NAME``."""
    if name == "teacher":
        return name
    return f"teachers.{name}"


def open_teacher(name: str, section: TeacherSection) -> TeacherModel:
    """Load a teacher's model and tokenizer.

    Args:
        name: the teacher's short name, as in ``[teachers.NAME]``.
        section: the model: a causal language model, or a saved student.

    Returns:
        The model on the device that the section names, else on the CPU.

    Raises:
        ValueError: if it is missing, was saved without its tokenizer, has no rotary positions to scale, or
            does not fit in memory.
    """
    option = option_of(name)
    _require_revision(option, section)
    config = _config_of(option, section)
    options = options_of(section)
    if section.rope_scaling is not None:
        options["config"] = config
    backbone: PreTrainedConfig = getattr(config, "backbone", config)
    with (
        explained_out_of_memory(name, section.name, backbone, DTYPES[section.dtype]),
        placed(section, option) as place,
    ):
        if is_student(section.name):
            model = LatentReasoner.from_pretrained(section.name, **options, **place)
        else:
            model = pretrained(option, section, options | place)
    if not isinstance(model, LatentReasoner):
        tokenizer = open_tokenizer(
            f"{option}.name", section.name, section.trust_remote_code, section.revision
        )
        return TeacherModel(model, tokenizer)
    if model.tokenizer is None:
        raise ValueError(
            f"{option}.name: {section.name} was saved without its tokenizer, so it is not known whether it "
            "reads the same tokens."
        )
    # Where both modes were trained with <bot> and <eot>, the teacher's chain is enclosed in them too.
    delimiters = cot_delimiters(model.config.delimiters, model.special)
    return TeacherModel(model.backbone, model.tokenizer, delimiters, template_of(model))


def scaled_config(option: str, config: Any, scaling: dict[str, Any]) -> Any:
    """A model's configuration with a rotary scaling.

    Args:
        option: the teacher's section, for error messages.
        config: the configuration as saved; not changed.
        scaling: ``rope_scaling`` of the teacher.

    Returns:
        A copy. Layers with a sliding window keep their frequencies where they have their own.

    Raises:
        ValueError: if the model has no rotary positions, or another scaling already.
    """
    config = deepcopy(config)
    text = config.get_text_config()
    own: dict[str, Any] = getattr(text, "rope_parameters", None) or {}
    if not own:
        raise ValueError(
            f"{option}.rope_scaling: a {text.model_type} model has no rotary positions that could be scaled "
            "(they are learned, or it has none): leave rope_scaling out, and samples beyond its window too "
            "(data.max_length)."
        )
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    window = text.max_position_embeddings

    def scaled(parameters: dict[str, Any], head_width: int) -> dict[str, Any]:
        turned = int(head_width * parameters.get("partial_rotary_factor", 1.0))
        return scaled_parameters(scaling, parameters, turned, window)

    try:
        if any(isinstance(each, dict) for each in own.values()):
            full = getattr(text, "global_head_dim", None) or width
            text.rope_parameters = {
                kind: scaled(each, full) if isinstance(each, dict) and "sliding" not in kind else each
                for kind, each in own.items()
            }
        else:
            text.rope_parameters = scaled(own, width)
    except ValueError as error:
        raise ValueError(f"{option}.rope_scaling: {error}.") from None
    if scaling["rope_type"] == "ntk":
        text.max_position_embeddings = int(window * scaling["factor"])
    return config


def _config_of(option: str, section: TeacherSection) -> Any:
    """The configuration of the model or saved student, with the section's rotary scaling."""
    if is_student(section.name):
        config = read_config(Path(section.name))
        if section.rope_scaling is None:
            return config
        if config.base is not None:
            raise ValueError(
                f"{option}.rope_scaling: {section.name} holds adapters of {config.base}, whose rotation "
                "is set there: leave rope_scaling out, or take a checkpoint with all weights."
            )
        config.backbone = scaled_config(option, config.backbone, section.rope_scaling)
        return config
    try:
        config = AutoConfig.from_pretrained(
            section.name, revision=section.revision or "main", trust_remote_code=section.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise not_loaded(f"{option}.name", section.name, error) from error
    if section.rope_scaling is None:
        return config
    return scaled_config(option, config, section.rope_scaling)


def _require_revision(option: str, section: TeacherSection) -> None:
    if section.revision is not None and Path(section.name).is_dir():
        raise ValueError(
            f"{option}.revision is {section.revision!r}, but {section.name} is a folder, which holds one "
            "version: leave revision out, or name a repository on the hub."
        )
