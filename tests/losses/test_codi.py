from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kvdistill.kv import LabelRows, ModelOutput
from kvdistill.losses.codi import CODILoss, codi_supported
from pico_losses import cache, compare


def output(hidden: Tensor) -> ModelOutput:
    none = torch.zeros(0, dtype=torch.long)
    rows = LabelRows(logits=torch.zeros(0, 2), labels=none, sample=none, is_answer=none.bool())
    return ModelOutput(kv=cache(len(hidden)), rows=rows, hidden=hidden)


def test_by_hand() -> None:
    """Layer 0: teacher 1, 5 (deviation 2), gaps 1, 3; layer 1: teacher 0, 2 (deviation 1), gaps 0, 0.5."""
    teacher = output(torch.tensor([[[1.0, 5.0], [0.0, 2.0]]]))
    student = output(torch.tensor([[[2.0, 2.0], [0.0, 2.5]]]))
    smooth, l1, mse = (0.5 + 2.5) / 2, (1 + 3) / 2, (1 + 9) / 2
    assert compare(CODILoss(), teacher, student).loss.item() == pytest.approx((smooth / 2 + 0.0625) / 2)
    assert compare(CODILoss(distance="l1"), teacher, student).loss.item() == pytest.approx(
        (l1 / 2 + 0.25) / 2
    )
    assert compare(CODILoss(distance="mse", layer_std=False), teacher, student).loss.item() == pytest.approx(
        (mse + 0.125) / 2
    )


@pytest.mark.parametrize("distance", ["smooth_l1", "l1", "mse"])
def test_equals_a_float64_loop_and_each_sample_alone(distance: str) -> None:
    teacher, student = torch.randn(4, 3, 8), 3 * torch.randn(4, 3, 8)
    loss = CODILoss(distance=distance)
    together = loss.per_sample(output(teacher), output(student))
    for b in range(4):
        total = 0.0
        for t, s in zip(teacher[b].double(), student[b].double(), strict=True):
            gap = (t - s).abs()
            each = {"mse": gap**2, "l1": gap, "smooth_l1": torch.where(gap < 1, gap**2 / 2, gap - 0.5)}[
                distance
            ]
            total += float(each.mean() / (t - t.mean()).square().mean().sqrt()) / 3
        assert together[b].item() == pytest.approx(total, rel=1e-5)
        alone = loss.per_sample(output(teacher[b : b + 1]), output(student[b : b + 1]))
        assert torch.equal(alone[0], together[b])
    assert compare(loss, output(teacher), output(student)).loss.item() == pytest.approx(
        together.mean().item()
    )


def test_constant_teacher_state_meets_the_floor() -> None:
    loss = compare(CODILoss(distance="l1"), output(torch.ones(1, 1, 4)), output(torch.ones(1, 1, 4) + 1e-3))
    assert loss.loss.item() == pytest.approx(1e3, rel=1e-3)


def test_gradient_reaches_the_student_alone() -> None:
    teacher, student = torch.randn(2, 2, 4, requires_grad=True), torch.randn(2, 2, 4, requires_grad=True)
    result = compare(CODILoss(), output(teacher), output(student))
    result.loss.backward()
    assert teacher.grad is None
    assert student.grad is not None and student.grad.abs().sum() > 0
    assert not result.metrics["codi"].requires_grad


def test_other_widths_are_left_out_and_said() -> None:
    teacher, student = output(torch.ones(1, 2, 4)), output(torch.zeros(1, 2, 3))
    assert not codi_supported(teacher, student) and codi_supported(student, student)
    result = compare(CODILoss(), teacher, student)
    assert result.loss.item() == 0 and {k: v.item() for k, v in result.metrics.items()} == {"codi_skipped": 1}


def test_beta_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        CODILoss(beta=0.0)


def test_a_sample_without_a_chain_of_thought_has_no_loss() -> None:
    teacher, student = output(torch.randn(2, 3, 8)), output(torch.randn(2, 3, 8))
    layers = tuple(
        layer.replace(mask=layer.mask & torch.tensor([True, False])[:, None, None])
        for layer in teacher.kv.layers
    )
    bare = replace(teacher, kv=teacher.kv.map(layers))
    first, second = CODILoss().per_sample(teacher, student).tolist()
    assert second > 0
    assert CODILoss().per_sample(bare, student).tolist() == [first, 0.0]
