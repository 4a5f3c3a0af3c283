import math
from dataclasses import replace

import pytest
import torch

from kvdistill.kv import LabelRows, LayerKV, ModelKV, ModelOutput, TwoModes
from kvdistill.losses.auto_weight import auto_weight, gradient_norm
from kvdistill.losses.kv_loss import KVLoss
from kvdistill.losses.objective import Objective
from pico_losses import cache, compare, mode, rows


def test_the_sum_is_the_weighted_sum_of_its_metrics() -> None:
    two, target = TwoModes(teacher=mode(), student=mode()), cache()
    objective = Objective(
        ce_student_weight=0.5, ce_teacher_weight=2.0, codi_weight=10.0, kv_weight=3.0, attention_weight=0.25
    )
    result = compare(objective, two, target)
    m = {name: value.item() for name, value in result.metrics.items()}
    layers = {f"kv_layer{place}" for place in range(len(target.layers))}
    assert set(m) == {"ce_student", "ce_teacher", "codi", "kv", "kv_k", "kv_v", "attention_kl"} | layers
    expected = (
        0.5 * m["ce_student"] + 2 * m["ce_teacher"] + 10 * m["codi"] + 3 * m["kv"] + 0.25 * m["attention_kl"]
    )
    assert result.loss.item() == pytest.approx(expected, rel=1e-5)
    assert m["kv"] == pytest.approx(compare(objective.kv, target, two.student.kv).loss.item())
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
    result = compare(only_ce, TwoModes(teacher=broken, student=two.student), None)
    assert result.loss.isfinite() and set(result.metrics) == {"ce_student"}
    assert set(compare(Objective(kv_weight=0.0), two, None).metrics) == {"ce_student", "ce_teacher", "codi"}
    assert "kv_lower_bound" in compare(Objective(kv=KVLoss(axis="tokens")), two, cache(slots=9)).metrics


def test_a_batch_is_the_mean_of_its_samples() -> None:
    two, target, objective = TwoModes(mode(), mode()), cache(), Objective(attention_weight=1.0)
    alone = [
        compare(objective, TwoModes(pick(two.teacher, b), pick(two.student, b)), pick_kv(target, b)).loss
        for b in range(2)
    ]
    assert torch.allclose(torch.stack(alone).mean(), compare(objective, two, target).loss, atol=1e-5)


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
    metrics = compare(Objective(), two, cache()).metrics
    assert metrics["codi_skipped"].item() == 1 and "codi" not in metrics


def test_the_target_is_not_detached_where_something_learns() -> None:
    gain, two, captured = torch.ones((), requires_grad=True), TwoModes(mode(), mode(grad=True)), cache()
    adapted = captured.map(tuple(x.replace(values=gain * x.values) for x in captured.layers))
    compare(Objective(), two, adapted).loss.backward()
    assert gain.grad is not None and gain.grad.abs() > 0
    assert all(x.keys.grad is None and x.values.grad is None for x in captured.layers)
    assert all(x.keys.grad is not None for x in two.student.kv.layers)


def test_what_is_missing_or_meaningless_is_said() -> None:
    two = TwoModes(mode(), mode())
    with pytest.raises(ValueError, match=r"kv_weight is still 'auto'.*auto_weight"):
        compare(Objective(kv_weight="auto"), two, cache())
    with pytest.raises(ValueError, match="there is no target cache"):
        compare(Objective(), two, None)
    with pytest.raises(ValueError, match="nothing to learn"):
        compare(
            Objective(ce_student_weight=0.0, ce_teacher_weight=0.0, codi_weight=0.0, kv_weight=0.0), two, None
        )
    with pytest.raises(ValueError, match=r"codi_weight is -1\.0"):
        Objective(codi_weight=-1.0)
    with pytest.raises(ValueError, match="kv_weight is nan"):
        Objective(kv_weight=math.nan)
    with pytest.raises(ValueError, match=r"kv\.axis 'tokens'"):
        Objective(attention_weight=1.0, kv=KVLoss(axis="tokens"))
    with pytest.raises(ValueError, match="does not depend on the student's cache"):
        gradient_norm(torch.ones((), requires_grad=True) * 2, cache(grad=True))
    with pytest.raises(ValueError, match="does not depend on the student's cache"):
        gradient_norm(torch.ones(()), cache())
    for norm in (0.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="gradient norm"):
            auto_weight(norm, 1.0)
