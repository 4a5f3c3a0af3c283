"""Cross-entropy: a mean within each sample, then over samples."""

import math
from dataclasses import replace

import pytest
import torch

from kvdistill.kv import LabelRows, TwoModes
from kvdistill.losses.cross_entropy import CrossEntropy, cross_entropy, nll_per_sample
from kvdistill.losses.inputs import LossInputs
from pico_losses import mode, rows


def test_cross_entropy_by_hand() -> None:
    """Sample 0: one row of probability ¾; sample 1: rows of ½ and ¼. A token mean would differ."""
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0], [0.0, math.log(3.0)]])
    labels = rows(logits, [0, 1, 0], [0, 1, 1])
    first, second = -math.log(3 / 4), (math.log(2) + math.log(4)) / 2
    assert nll_per_sample(labels, 2).tolist() == pytest.approx([first, second])
    assert cross_entropy(labels, 2).item() == pytest.approx((first + second) / 2)
    assert cross_entropy(labels, 2).item() != pytest.approx((first + 2 * second) / 3, rel=1e-3)
    assert nll_per_sample(labels, 3)[2].item() == 0  # a sample without a label


def test_cross_entropy_in_float64_and_of_each_sample_alone() -> None:
    logits, labels, sample = (
        torch.randn(9, 11),
        torch.randint(0, 11, (9,)),
        torch.tensor([2, 0, 1, 1, 0, 2, 2, 1, 2]),
    )
    together = nll_per_sample(LabelRows(logits, labels, sample, labels > 0), 3)
    for b in range(3):
        mine = sample == b
        expected = -logits[mine].double().log_softmax(-1).gather(1, labels[mine][:, None]).mean()
        assert together[b].item() == pytest.approx(expected.item(), rel=1e-5)
        alone = nll_per_sample(
            LabelRows(logits[mine], labels[mine], torch.zeros_like(labels[mine]), mine[mine]), 1
        )
        assert alone[0].item() == pytest.approx(together[b].item(), rel=1e-6)
    half = LabelRows(logits.bfloat16(), labels, sample, labels > 0)
    assert nll_per_sample(half, 3).dtype == torch.float32


def test_each_mode_is_logged_under_its_name() -> None:
    two = TwoModes(mode(), mode())
    for name, output in (("student", two.student), ("teacher", two.teacher)):
        found = CrossEntropy(mode=name)(LossInputs(two))
        assert found.loss == cross_entropy(output.rows, 2)
        assert found.metrics.keys() == {f"ce_{name}"}


def test_a_sample_without_a_chain_of_thought_has_no_loss_in_teacher_mode() -> None:
    two = TwoModes(mode(), mode())
    layers = tuple(
        layer.replace(mask=layer.mask & torch.tensor([True, False])[:, None, None])
        for layer in two.teacher.kv.layers
    )
    bare = replace(two, teacher=replace(two.teacher, kv=two.teacher.kv.map(layers)))
    first, second = nll_per_sample(two.teacher.rows, 2).tolist()
    assert second > 0
    assert CrossEntropy(mode="teacher")(LossInputs(bare)).loss.item() == pytest.approx(first / 2)
    assert CrossEntropy(mode="student")(LossInputs(bare)).loss == cross_entropy(two.student.rows, 2)
