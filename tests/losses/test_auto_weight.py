"""The weight that makes KV losses of unlike methods begin with equal gradients."""

import math
from dataclasses import replace

import pytest
import torch

from kvdistill.kv import LayerKV, ModelKV, TwoModes
from kvdistill.losses.auto_weight import auto_weight, gradient_norm, reference_norm
from kvdistill.losses.kv_loss import KVLoss
from kvdistill.losses.objective import Objective
from pico_losses import cache, compare, mode


def test_gradient_norm_by_hand() -> None:
    keys, values = torch.zeros(1, 1, 1, 2, requires_grad=True), torch.zeros(1, 1, 1, 1, requires_grad=True)
    kv = ModelKV(
        (
            LayerKV(
                keys, values, torch.ones(1, 1, 1, dtype=torch.bool), torch.zeros(1, 1, 1, dtype=torch.long)
            ),
        ),
        (0,),
        "test",
    )
    loss = 3 * keys[..., 0].sum() + 4 * values.sum()
    assert gradient_norm(loss, kv) == pytest.approx(5.0)
    assert (
        gradient_norm(loss, kv) == pytest.approx(5.0) and keys.grad is None
    )  # the graph is kept, nothing is accumulated


def test_reference_norm_is_that_of_unit_errors() -> None:
    for batch in (1, 4):
        student = cache(batch, grad=True)
        target = student.detach().map(
            tuple(x.replace(keys=x.keys.detach() + 1, values=x.values.detach() - 1) for x in student.layers)
        )
        norm = gradient_norm(compare(KVLoss(layer_std=False), target, student).loss, student)
        assert norm == pytest.approx(reference_norm(student), rel=1e-5)
    by_hand = math.sqrt(2 * (1 / (2 * 3 * 4) + 1 / (2 * 3 * 5)) / 4) / 2
    assert reference_norm(cache(4)) == pytest.approx(by_hand)


def test_auto_weights_make_methods_pull_equally_hard() -> None:
    student = cache(grad=True)
    methods = {
        "slots": (KVLoss(), cache()),
        "tokens": (KVLoss(axis="tokens", distance="smooth_l1"), cache(slots=11)),
        "paper_sum": (KVLoss(reduction="paper_sum", layer_std=False), cache()),
    }
    reference, two = reference_norm(student), TwoModes(mode(), replace(mode(), kv=student))
    raw, norms = [], []
    for method, target in methods.values():
        raw.append(gradient_norm(compare(method, target, student).loss, student))
        resolved = Objective(
            kv=method,
            kv_weight=auto_weight(raw[-1], reference),
            codi_weight=0.0,
            ce_student_weight=0.0,
            ce_teacher_weight=0.0,
        )
        norms.append(gradient_norm(compare(resolved, two, target).loss, student))
    assert norms == pytest.approx([reference] * 3, rel=1e-5)
    assert max(raw) > 2 * min(raw)  # they did not before
