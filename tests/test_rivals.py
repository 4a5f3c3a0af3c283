"""Other latent methods in the same step: LOTUS, MUX, and their combination with a KV target."""

import pytest
import torch

import pico
from kvdistill.compress import StepEnd
from kvdistill.losses import Mux, StepCE, WeightedLoss
from pico_steps import SLOTS, Seen, distillation, on, rows, student

ONLY_KV = {"ce_student_weight": 0.0, "ce_teacher_weight": 0.0, "codi_weight": 0.0}
LOTUS = {"layout": "blocks", "feedback": "add", "passes": 3}
RIVALS = {
    "lotus": (LOTUS, StepCE(block=2)),
    "lotus_previous": (LOTUS, StepCE(block=2, at="previous")),
    "step_ce": ({}, StepCE(keep="last")),
    "mux": ({"passes": SLOTS}, Mux()),
    "mux_blocks": (LOTUS, Mux(spans="random", at="slot")),
}


@pytest.mark.parametrize("kv_weight", [0.0, 1.0])
@pytest.mark.parametrize("rival", RIVALS)
def test_every_rival_trains_alone_and_beside_the_kv_loss(rival: str, kv_weight: float) -> None:
    """LOTUS's blocks with a KV target are one of the combinations."""
    latent, term = RIVALS[rival]
    model, batch = student(**latent), pico.batch(rows())
    extra = (WeightedLoss(weight=0.5, loss=term),)
    with_term, without = (
        distillation(model, kv_weight=kv_weight, extra=terms)(batch, 0, 0.0) for terms in (extra, ())
    )
    name = term.kind
    if rival != "mux_blocks":  # whose cuts are drawn
        assert torch.allclose(with_term.loss, without.loss + 0.5 * with_term.metrics[name], atol=1e-6)
    assert float(with_term.metrics[name]) > 0
    assert ("kv" in with_term.metrics) == (kv_weight > 0)
    only = {"kv_weight": 0.0, **ONLY_KV} | ({} if kv_weight == 0 else {"kv_weight": kv_weight})
    distillation(model, extra=extra, **only)(batch, 0, 0.0).loss.backward()
    reached = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert {name for name, _ in model.named_parameters() if "layers.0." in name} <= reached
    assert ("feedback.up.weight" in reached) == ("feedback" not in latent)


def test_a_kv_target_pulls_at_every_slot_of_every_block() -> None:
    """LOTUS's blocks with a KV target: all M slots of the last pass are compared, layer by layer."""
    model, batch = student(**LOTUS), pico.batch(rows())
    seen = Seen(model, batch)
    loss = on(seen, distillation(model, StepEnd(), **ONLY_KV))(batch, 0, 0.0).loss
    values = [layer.values for layer in seen.two.student.kv.layers]
    target = StepEnd().compress(seen.two.teacher.kv, SLOTS)
    for grad, layer in zip(torch.autograd.grad(loss, values), target.layers, strict=True):
        assert torch.equal(grad.abs().sum(-1) > 0, layer.mask)


@pytest.mark.parametrize("rival", ["lotus", "lotus_previous", "step_ce", "mux"])
def test_a_rivals_loss_of_a_sample_does_not_depend_on_its_neighbours(rival: str) -> None:
    latent, term = RIVALS[rival]
    model = student(**latent)
    step = distillation(model, extra=(WeightedLoss(weight=1.0, loss=term),))
    alone = [step(pico.batch((row,)), 0, 0.0).metrics[term.kind] for row in rows()]
    together = step(pico.batch(rows(), "left", extra=3), 0, 0.0).metrics[term.kind]
    assert torch.allclose(together, torch.stack(alone).mean(), atol=1e-5)
