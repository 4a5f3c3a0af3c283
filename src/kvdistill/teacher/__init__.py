"""Other models beside the student, whose caches it learns from."""

from kvdistill.teacher.causal_lm import FrozenTeacher, require_same_tokenizer, require_vocabulary

__all__ = ["FrozenTeacher", "require_same_tokenizer", "require_vocabulary"]
