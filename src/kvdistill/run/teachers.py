"""A separate frozen teacher beside the student: loaded, compared with the student, and joined to it by a
projector.
"""

from kvdistill.align.projector import Projector
from kvdistill.config import RunConfig
from kvdistill.latent.reasoner import SPECIAL_TOKENS, LatentReasoner
from kvdistill.pipeline import OutsideTeacher
from kvdistill.run.pretrained import is_student, open_tokenizer, options_of, pretrained
from kvdistill.teacher.causal_lm import FrozenTeacher, require_same_tokenizer, require_vocabulary


def outside_teacher(config: RunConfig, student: LatentReasoner) -> OutsideTeacher | None:
    """The separate frozen teacher that the configuration names, with the projector up to it; None without
    one, or without a KV loss.

    Raises:
        ValueError: in words, if it is not there, cannot be captured, or reads other tokens than the student.
    """
    section = config.teacher
    if section is None or not config.reads_teacher:
        return None
    if is_student(section.name):
        saved = LatentReasoner.from_pretrained(section.name, **options_of(section))
        tokenizer, model, special = saved.tokenizer, saved.backbone, saved.special
        delimiters = (special.bot, special.eot) if saved.config.delimiters == "both" else None
    else:
        model, delimiters = pretrained("teacher", section, options_of(section)), None
        tokenizer = open_tokenizer("teacher.name", section.name, section.trust_remote_code)
    if tokenizer is None or student.tokenizer is None:
        raise ValueError(
            f"teacher.name: {section.name} was saved without its tokenizer, so nobody knows whether it "
            "reads the same tokens."
        )
    require_same_tokenizer(student.tokenizer, tokenizer, section.name, SPECIAL_TOKENS.values())
    read = [
        number
        for token, number in student.tokenizer.get_vocab().items()
        if token not in SPECIAL_TOKENS.values()
    ]
    require_vocabulary(model, read, section.name)
    teacher = FrozenTeacher(model, section.name, delimiters)
    ours, theirs = student.geometry(), teacher.geometry()
    return OutsideTeacher(teacher, Projector(ours, theirs, section.layers.pair(ours, theirs)))
