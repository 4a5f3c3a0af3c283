"""Teachers: one file per kind, all with the protocol of ``base.py``."""

from kvdistill.teacher.base import Teacher
from kvdistill.teacher.causal_lm import CausalLMTeacher, require_vocabulary, tokenizer_difference
from kvdistill.teacher.self_distillation import OWN, SelfDistillation

__all__ = [
    "OWN",
    "CausalLMTeacher",
    "SelfDistillation",
    "Teacher",
    "require_vocabulary",
    "tokenizer_difference",
]
