"""From a teacher's section to the teacher: one function per kind."""

from collections.abc import Callable
from typing import Any

from kvdistill.config import DataSection, OwnTeacher, TeacherSection
from kvdistill.data import Reader
from kvdistill.latent.layout import cot_delimiters
from kvdistill.latent.reasoner import SPECIAL_TOKENS, LatentReasoner
from kvdistill.run.pretrained import is_student, open_tokenizer, options_of, pretrained
from kvdistill.teacher.base import Teacher
from kvdistill.teacher.causal_lm import CausalLMTeacher, require_same_tokenizer, require_vocabulary
from kvdistill.teacher.self_distillation import SelfDistillation


def open_own(name: str, section: OwnTeacher, student: LatentReasoner, data: DataSection) -> SelfDistillation:
    """The student's own teacher mode under a short name."""
    return SelfDistillation(student.geometry, name)


def load_teacher(
    name: str, section: TeacherSection, student: LatentReasoner, data: DataSection
) -> CausalLMTeacher:
    """A frozen causal language model as teacher.

    Args:
        name: the teacher's short name, as in ``[teachers.NAME]``.
        section: the model: a causal language model, or a saved student whose teacher mode is used.
        student: the student; the teacher has to read the same token ids.
        data: how examples are encoded for the student.

    Raises:
        ValueError: if it is missing, cannot be captured, or reads other tokens than the student.
    """
    option = "teacher" if name == "teacher" else f"teachers.{name}"  # as it was configured
    if is_student(section.name):
        saved = LatentReasoner.from_pretrained(section.name, **options_of(section))
        tokenizer, model = saved.tokenizer, saved.backbone
        # Where both modes were trained with <bot> and <eot>, the teacher's chain is enclosed in them too.
        delimiters = cot_delimiters(saved.config.delimiters, saved.special)
    else:
        model, delimiters = pretrained(option, section, options_of(section)), None
        tokenizer = open_tokenizer(f"{option}.name", section.name, section.trust_remote_code)
    if tokenizer is None or student.tokenizer is None:
        raise ValueError(
            f"{option}.name: {section.name} was saved without its tokenizer, so it is not known whether it "
            "reads the same tokens."
        )
    require_same_tokenizer(student.tokenizer, tokenizer, section.name, SPECIAL_TOKENS.values())
    read = [
        number
        for token, number in student.tokenizer.get_vocab().items()
        if token not in SPECIAL_TOKENS.values()
    ]
    require_vocabulary(model, read, section.name)
    reader = None
    if section.template is not None:
        reader = Reader(tokenizer, section.template, data.drop_last_step)
    return CausalLMTeacher(model, section.name, delimiters, name, reader)


OPEN: dict[str, Callable[[str, Any, LatentReasoner, DataSection], Teacher]] = {
    "own": open_own,
    "live": load_teacher,
}
"""Kind of a teacher -> what opens it: (short name, section, student, data section) -> teacher."""
