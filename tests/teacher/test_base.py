"""Every kind of teacher keeps the protocol."""

import pico
from kvdistill.teacher import CausalLMTeacher, SelfDistillation, Teacher


def test_every_kind_is_a_teacher_with_a_fingerprint() -> None:
    frozen = CausalLMTeacher(pico.backbone("llama"), "somewhere", name="big")
    again = CausalLMTeacher(pico.backbone("llama"), "elsewhere")
    own = SelfDistillation(frozen.geometry)
    for teacher in (frozen, own):
        assert isinstance(teacher, Teacher)
    assert (frozen.name, again.name, own.name) == ("big", "teacher", "own")
    assert frozen.fingerprint() == again.fingerprint() != own.fingerprint()
    assert frozen.fingerprint() != CausalLMTeacher(pico.backbone("llama", seed=3), "x").fingerprint()
