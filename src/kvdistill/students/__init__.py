"""From a configuration to the models of a run: the student, and the separate teacher where there is one."""

from kvdistill.students.build import build_student, resumed_student, template_of
from kvdistill.students.load import load_backbone, load_tokenizer
from kvdistill.students.outside import outside_teacher

__all__ = ["build_student", "load_backbone", "load_tokenizer", "outside_teacher", "resumed_student", "template_of"]
