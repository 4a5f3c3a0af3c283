"""Other models beside the student, whose caches it learns from."""

from kvdistill.teacher.frozen import FrozenTeacher, require_same_tokenizer, require_vocabulary

__all__ = ["FrozenTeacher", "require_same_tokenizer", "require_vocabulary"]
