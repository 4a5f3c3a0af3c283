import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kvdistill.kv import LabelRows, LayerKV, ModelKV, ModelOutput
from kvdistill.losses.attention_kl import AttentionKL
from pico_losses import compare


def cache(*importance: Tensor | None, mask: Tensor | None = None) -> ModelKV:
    shape = next((x.shape for x in importance if x is not None), torch.Size((1, 1, 2)))
    mask = torch.ones(shape, dtype=torch.bool) if mask is None else mask
    zero = torch.zeros(*shape, 1)
    layers = tuple(
        LayerKV(zero, zero, mask, torch.zeros(shape, dtype=torch.long), importance=x) for x in importance
    )
    return ModelKV(layers, tuple(range(len(layers))), "test")


def student(*attention: Tensor, slots: Tensor | None = None) -> ModelOutput:
    none = torch.zeros(0, dtype=torch.long)
    rows = LabelRows(logits=torch.zeros(0, 2), labels=none, sample=none, is_answer=none.bool())
    return ModelOutput(
        kv=cache(*attention, mask=slots),
        rows=rows,
        hidden=torch.zeros(len(attention[0]), 1, 1),
        attention=attention,
    )


def rows(*values: list[float]) -> Tensor:
    return torch.tensor([[list(v) for v in values]])


def test_by_hand() -> None:
    """Half and half against a quarter and three quarters: ½ ln 2 + ½ ln ⅔."""
    loss = compare(AttentionKL(), cache(rows([0.2, 0.2])), student(rows([0.25, 0.75])))
    assert loss.loss.item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert loss.metrics["attention_kl"].item() == loss.loss.item()


def test_spare_slots_say_nothing_by_hand() -> None:
    """Without the third slot the student's 0.1, 0.1 is half and half: nothing to learn, and no pull on the
    spare slot.
    """
    spare = torch.tensor([[[True, True, False]]])
    attention = rows([0.1, 0.1, 0.8]).requires_grad_()
    loss = compare(AttentionKL(), cache(rows([0.3, 0.3, 0.4]), mask=spare), student(attention))
    assert loss.loss.item() == pytest.approx(0, abs=1e-7)
    (grad,) = torch.autograd.grad(loss.loss, attention)
    assert grad[0, 0, 2].item() == 0
    other_side = compare(AttentionKL(), cache(rows([0.3, 0.3, 0.4])), student(attention, slots=spare))
    assert other_side.loss.item() == pytest.approx(0, abs=1e-7)


def test_heads_without_a_slot_are_left_out_of_the_mean() -> None:
    mask = torch.tensor([[[True, True], [False, False]]])
    loss = compare(
        AttentionKL(), cache(rows([1.0, 1.0], [1.0, 1.0]), mask=mask), student(rows([0.25, 0.75], [0.9, 0.1]))
    )
    assert loss.loss.item() == pytest.approx(0.5 * math.log(4 / 3))
    empty = compare(
        AttentionKL(),
        cache(rows([1.0, 1.0]), mask=torch.zeros(1, 1, 2, dtype=torch.bool)),
        student(rows([0.3, 0.7])),
    )
    assert empty.loss.item() == 0


def test_equals_a_float64_loop_and_each_sample_alone() -> None:
    mask = torch.rand(3, 2, 5) < 0.6
    importance, attention = (
        [torch.rand(3, 2, 5) for _ in range(2)],
        [torch.rand(3, 2, 5).softmax(-1) for _ in range(2)],
    )
    together = AttentionKL().per_sample(cache(*importance, mask=mask), student(*attention))
    for b in range(3):
        layers = []
        for imp, att in zip(importance, attention, strict=True):
            kls = []
            for h in range(2):
                p, q = imp[b, h][mask[b, h]].double(), att[b, h][mask[b, h]].double()
                if len(p):
                    kls.append(
                        sum(
                            float(x / p.sum() * torch.log((x / p.sum()) / (y / q.sum())))
                            for x, y in zip(p, q, strict=True)
                        )
                    )
            layers.append(sum(kls) / len(kls) if kls else 0.0)
        assert together[b].item() == pytest.approx(sum(layers) / 2, abs=1e-6)
        alone = AttentionKL().per_sample(
            cache(*(x[b : b + 1] for x in importance), mask=mask[b : b + 1]),
            student(*(x[b : b + 1] for x in attention)),
        )
        assert alone[0].item() == pytest.approx(together[b].item(), abs=1e-7)


weights = st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4)


@given(weights, weights)
def test_never_negative_and_gradients_finite(p: list[float], q: list[float]) -> None:
    importance, attention = rows(p).requires_grad_(), rows(q).requires_grad_()
    loss = compare(AttentionKL(), cache(importance), student(attention)).loss
    grads = torch.autograd.grad(loss, (importance, attention))
    assert all(grad.isfinite().all() for grad in grads)
    if sum(p) > 1e-3 and sum(q) > 1e-3:
        assert loss.item() >= -1e-5


def test_gradient_pulls_the_student_towards_the_teacher() -> None:
    scores = torch.zeros(1, 1, 3, requires_grad=True)
    compare(AttentionKL(), cache(rows([0.7, 0.2, 0.1])), student(scores.softmax(-1))).loss.backward()
    assert scores.grad is not None
    assert torch.allclose(
        scores.grad, torch.full((1, 1, 3), 1 / 3) - rows([0.7, 0.2, 0.1]), atol=1e-6
    )  # softmax - teacher


def test_what_is_missing_is_said() -> None:
    good = student(rows([0.5, 0.5]))
    with pytest.raises(ValueError, match="student's answer attention was not measured"):
        compare(AttentionKL(), cache(rows([1.0, 1.0])), replace(good, attention=None))
    with pytest.raises(ValueError, match="target from test has no importance"):
        compare(AttentionKL(), cache(None), good)
    with pytest.raises(ValueError, match=r"\(1, 1, 3\), the student's attention \(1, 1, 2\)"):
        compare(AttentionKL(), cache(rows([1.0, 1.0, 1.0])), good)
    with pytest.raises(ValueError, match="has 2 layers, the student 1 and attention for 1"):
        compare(AttentionKL(), cache(rows([1.0, 1.0]), rows([1.0, 1.0])), good)
