"""From a teacher's section to the teacher: one function per kind."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from kvdistill.config import DataSection, OwnTeacher, TeacherSection
from kvdistill.data import Reader
from kvdistill.latent.reasoner import SPECIAL_TOKENS, LatentReasoner
from kvdistill.run.readings import text_of, try_reader
from kvdistill.run.student import template_of
from kvdistill.run.teacher_models import TeacherModel, open_teacher, option_of
from kvdistill.teacher.base import Teacher
from kvdistill.teacher.causal_lm import CausalLMTeacher, require_vocabulary, tokenizer_difference
from kvdistill.teacher.self_distillation import SelfDistillation

MODEL_OPTIONS = {
    *("name", "revision", "dtype", "attention", "trust_remote_code", "device", "device_map", "rope_scaling"),
}
"""The options of a teacher that its model depends on."""


@dataclass
class Opening:
    """What the teachers of a run share while they are opened."""

    seed: int = 0
    """Seed of the run, which chains are drawn by."""
    models: dict[str, TeacherModel] = field(default_factory=dict)
    """The models loaded so far, by their options: teachers of one model share it."""

    def model(self, name: str, section: TeacherSection) -> TeacherModel:
        """The model of a teacher, loaded where no teacher before it had the same.

        Args:
            name: the teacher's short name.
            section: the model.

        Returns:
            The model with its tokenizer.

        Raises:
            ValueError: as ``open_teacher`` does.
        """
        key = section.model_dump_json(include=MODEL_OPTIONS)
        if key not in self.models:
            self.models[key] = open_teacher(name, section)
        return self.models[key]


def open_own(
    name: str,
    section: OwnTeacher,
    student: LatentReasoner,
    data: DataSection,
    opening: Opening | None = None,
) -> SelfDistillation:
    """The student's own teacher mode under a short name."""
    return SelfDistillation(student.geometry, name)


def load_teacher(
    name: str,
    section: TeacherSection,
    student: LatentReasoner,
    data: DataSection,
    opening: Opening | None = None,
) -> CausalLMTeacher:
    """A frozen causal language model as teacher.

    A teacher whose tokenizer is not the student's reads in its own tokens, in the section's template, else
    in the one it was trained with (a saved student), else in the student's.

    Args:
        name: the teacher's short name, as in ``[teachers.NAME]``.
        section: the model: a causal language model, or a saved student whose teacher mode is used.
        student: the student.
        data: how examples are encoded for the student.
        opening: what it shares with the teachers opened before it.

    Returns:
        The teacher, with a reader of its own unless it reads what the student reads.

    Raises:
        ValueError: if it is missing, cannot be captured, has no fast tokenizer, or does not fit in memory.
    """
    if student.tokenizer is None:
        raise ValueError("The student was saved without its tokenizer, which its teachers are compared with.")
    opening = opening or Opening()
    opened = opening.model(name, section)
    difference = tokenizer_difference(
        student.tokenizer, opened.tokenizer, section.name, SPECIAL_TOKENS.values()
    )
    reader, tokenizer, template = None, student.tokenizer, section.template
    if difference:
        tokenizer = opened.tokenizer
        template = template or opened.template or template_of(student)
    # The student's latent tokens are no part of any text, so a teacher needs no embeddings for them.
    read = [number for token, number in tokenizer.get_vocab().items() if token not in SPECIAL_TOKENS.values()]
    require_vocabulary(opened.model, read, section.name)
    if template is None and (section.reads != "gold" or section.cue is not None):
        template = template_of(student)
    if template is not None:
        text = text_of(name, section, opening.seed)
        reader = Reader(
            _padded(opened.tokenizer), template, data.drop_last_step, section.tokens, text, section.cue
        )
        try_reader(option_of(name), reader)
    placed = section.device is not None or section.device_map is not None
    heads = None
    if section.heads != "all":
        heads = section.heads
    teacher = CausalLMTeacher(opened.model, section.name, opened.delimiters, name, reader, placed, heads)
    _require_heads(teacher)
    return teacher


def _require_heads(teacher: CausalLMTeacher) -> None:
    if teacher.heads is None:
        return
    try:
        teacher.geometry()
    except ValueError as error:
        raise ValueError(f"{option_of(teacher.name)}.heads: {error}. Choose among them, or all.") from error


def _padded(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked, whatever its id
    return tokenizer


OPEN: dict[str, Callable[[str, Any, LatentReasoner, DataSection, Opening], Teacher]] = {
    "own": open_own,
    "live": load_teacher,
}
"""Kind of a teacher -> what opens it: (short name, section, student, data section, opening) -> teacher."""
