import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kvdistill.kv import LabelRows, LayerKV, ModelKV, ModelOutput, TwoModes
from kvdistill.losses.kv_loss import KVLoss
from kvdistill.losses.total import (
    Objective,
    auto_weight,
    cross_entropy,
    gradient_norm,
    nll_per_sample,
    reference_norm,
)


def cache(batch: int = 2, slots: int = 3, grad: bool = False) -> ModelKV:
    def layer() -> LayerKV:
        keys, values = (
            torch.randn(batch, 2, slots, 4, requires_grad=grad),
            torch.randn(batch, 2, slots, 5, requires_grad=grad),
        )
        positions = torch.arange(slots).expand(batch, 2, slots)
        return LayerKV(
            keys,
            values,
            torch.ones(batch, 2, slots, dtype=torch.bool),
            positions,
            importance=torch.rand(batch, 2, slots),
        )

    return ModelKV((layer(), layer()), (0, 1), "test")


def rows(logits: Tensor, labels: list[int], sample: list[int]) -> LabelRows:
    return LabelRows(
        logits, torch.tensor(labels), torch.tensor(sample), torch.ones(len(labels), dtype=torch.bool)
    )


def mode(batch: int = 2, grad: bool = False) -> ModelOutput:
    labels = rows(torch.randn(5, 7), [0, 1, 2, 3, 4], [0, 0, 1, 1, 1] if batch == 2 else [0] * 5)
    attention = tuple(torch.rand(batch, 2, 3).softmax(-1) for _ in range(2))
    return ModelOutput(
        kv=cache(batch, grad=grad), rows=labels, hidden=torch.randn(batch, 3, 6), attention=attention
    )


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


def test_the_sum_is_the_weighted_sum_of_its_metrics() -> None:
    two, target = TwoModes(teacher=mode(), student=mode()), cache()
    objective = Objective(
        ce_student_weight=0.5, ce_teacher_weight=2.0, codi_weight=10.0, kv_weight=3.0, attention_weight=0.25
    )
    result = objective.compare(two, target)
    m = {name: value.item() for name, value in result.metrics.items()}
    assert set(m) == {"ce_student", "ce_teacher", "codi", "kv", "kv_k", "kv_v", "attention_kl"}
    expected = (
        0.5 * m["ce_student"] + 2 * m["ce_teacher"] + 10 * m["codi"] + 3 * m["kv"] + 0.25 * m["attention_kl"]
    )
    assert result.loss.item() == pytest.approx(expected, rel=1e-5)
    assert m["kv"] == pytest.approx(objective.kv.compare(target, two.student.kv).loss.item())
    assert not any(value.requires_grad for value in result.metrics.values())


def test_defaults_are_those_of_the_paper() -> None:
    objective = Objective()
    weights = (
        objective.ce_student_weight,
        objective.ce_teacher_weight,
        objective.codi_weight,
        objective.kv_weight,
    )
    assert weights == (1, 1, 10, 1) and objective.attention_weight == 0


def test_terms_of_weight_zero_are_not_computed() -> None:
    """Each term that does not count is given what it cannot work on."""
    two = TwoModes(teacher=mode(), student=replace(mode(), attention=None))
    only_ce = Objective(codi_weight=0.0, kv_weight=0.0, ce_teacher_weight=0.0)
    broken = replace(
        two.teacher, rows=rows(torch.zeros(1, 7), [99], [0]), hidden=torch.full((2, 3, 6), float("nan"))
    )
    result = only_ce.compare(TwoModes(teacher=broken, student=two.student), None)
    assert result.loss.isfinite() and set(result.metrics) == {"ce_student"}
    assert set(Objective(kv_weight=0.0).compare(two, None).metrics) == {"ce_student", "ce_teacher", "codi"}
    assert "kv_floor" in Objective(kv=KVLoss(geometry="tokens")).compare(two, cache(slots=9)).metrics


def test_a_batch_is_the_mean_of_its_samples() -> None:
    two, target, objective = TwoModes(mode(), mode()), cache(), Objective(attention_weight=1.0)
    alone = [
        objective.compare(TwoModes(pick(two.teacher, b), pick(two.student, b)), pick_kv(target, b)).loss
        for b in range(2)
    ]
    assert torch.allclose(torch.stack(alone).mean(), objective.compare(two, target).loss, atol=1e-5)


def pick_kv(kv: ModelKV, b: int) -> ModelKV:
    one = slice(b, b + 1)
    return kv.map(
        tuple(
            LayerKV(x.keys[one], x.values[one], x.mask[one], x.positions[one], None, x.importance[one])
            for x in kv.layers
        )
    )


def pick(output: ModelOutput, b: int) -> ModelOutput:
    r, one = output.rows, slice(b, b + 1)
    mine = r.sample == b
    labels = LabelRows(r.logits[mine], r.labels[mine], torch.zeros_like(r.sample[mine]), r.is_answer[mine])
    return ModelOutput(
        pick_kv(output.kv, b), labels, output.hidden[one], tuple(x[one] for x in output.attention or ())
    )


def test_other_hidden_widths_are_left_out_and_said() -> None:
    two = TwoModes(teacher=replace(mode(), hidden=torch.zeros(2, 3, 9)), student=mode())
    metrics = Objective().compare(two, cache()).metrics
    assert metrics["codi_skipped"].item() == 1 and "codi" not in metrics


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
        norm = gradient_norm(KVLoss(layer_std=False).compare(target, student).loss, student)
        assert norm == pytest.approx(reference_norm(student), rel=1e-5)
    by_hand = math.sqrt(2 * (1 / (2 * 3 * 4) + 1 / (2 * 3 * 5)) / 4) / 2
    assert reference_norm(cache(4)) == pytest.approx(by_hand)


def test_auto_weights_make_methods_pull_equally_hard() -> None:
    student = cache(grad=True)
    methods = {
        "slots": (KVLoss(), cache()),
        "tokens": (KVLoss(geometry="tokens", distance="smooth_l1"), cache(slots=11)),
        "paper_sum": (KVLoss(reduction="paper_sum", layer_std=False), cache()),
    }
    reference, two = reference_norm(student), TwoModes(mode(), replace(mode(), kv=student))
    raw, norms = [], []
    for method, target in methods.values():
        raw.append(gradient_norm(method.compare(target, student).loss, student))
        resolved = Objective(
            kv=method,
            kv_weight=auto_weight(raw[-1], reference),
            codi_weight=0.0,
            ce_student_weight=0.0,
            ce_teacher_weight=0.0,
        )
        norms.append(gradient_norm(resolved.compare(two, target).loss, student))
    assert norms == pytest.approx([reference] * 3, rel=1e-5)
    assert max(raw) > 2 * min(raw)  # they did not before


def test_the_target_is_not_detached_where_something_learns() -> None:
    gain, two, captured = torch.ones((), requires_grad=True), TwoModes(mode(), mode(grad=True)), cache()
    adapted = captured.map(tuple(x.replace(values=gain * x.values) for x in captured.layers))
    Objective().compare(two, adapted).loss.backward()
    assert gain.grad is not None and gain.grad.abs() > 0
    assert all(x.keys.grad is None and x.values.grad is None for x in captured.layers)
    assert all(x.keys.grad is not None for x in two.student.kv.layers)


def test_what_is_missing_or_meaningless_is_said() -> None:
    two = TwoModes(mode(), mode())
    with pytest.raises(ValueError, match=r"kv_weight is still 'auto'.*auto_weight"):
        Objective(kv_weight="auto").compare(two, cache())
    with pytest.raises(ValueError, match="need a target cache"):
        Objective().compare(two, None)
    with pytest.raises(ValueError, match="nothing to learn"):
        Objective(ce_student_weight=0.0, ce_teacher_weight=0.0, codi_weight=0.0, kv_weight=0.0).compare(
            two, None
        )
    with pytest.raises(ValueError, match=r"codi_weight is -1\.0"):
        Objective(codi_weight=-1.0)
    with pytest.raises(ValueError, match="kv_weight is nan"):
        Objective(kv_weight=math.nan)
    with pytest.raises(ValueError, match=r"kv\.geometry 'tokens'"):
        Objective(attention_weight=1.0, kv=KVLoss(geometry="tokens"))
    with pytest.raises(ValueError, match="does not depend on the student's cache"):
        gradient_norm(torch.ones((), requires_grad=True) * 2, cache(grad=True))
    with pytest.raises(ValueError, match="does not depend on the student's cache"):
        gradient_norm(torch.ones(()), cache())
    for norm in (0.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="gradient norm"):
            auto_weight(norm, 1.0)
