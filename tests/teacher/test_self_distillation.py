"""Self-distillation gives what the packed call has computed."""

import pico
from kvdistill.teacher import SelfDistillation


def test_the_cache_is_teacher_modes() -> None:
    model, batch = pico.reasoner("llama", slots=2, passes=1), pico.batch(pico.samples(2))
    outputs, teacher = model(batch), SelfDistillation(model.geometry)
    assert teacher.cache(batch, outputs).kv is outputs.teacher.kv
    assert teacher.geometry() is not None and len(teacher.geometry().layers) == len(outputs.teacher.kv.layers)
    assert not any(layer.keys.requires_grad for layer in outputs.teacher.kv.layers)
