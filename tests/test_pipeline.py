"""The step as a whole: the sum of its losses, every compressor under every control in every frame, and what
it carries.
"""

from dataclasses import replace
from typing import Any, get_args

import pytest
import torch

import pico
from kvdistill.capture.pieces import teacher_pieces
from kvdistill.capture.sequence import Sequence
from kvdistill.compress import RKV, CompressorMethod, Full, RightCrop, RKVDecode, StepEnd, Uniform
from kvdistill.kv import LossOutput
from kvdistill.latent.layout import question_pieces
from kvdistill.latent.passes import encode_latents, forward_pass
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.losses import CODILoss, KVLoss, Objective, cross_entropy, gradient_norm, reference_norm
from kvdistill.pipeline import Distillation, StepSettings, frame_of
from kvdistill.target import (
    Control,
    MeanTarget,
    NoControl,
    OtherSample,
    SameBridge,
    TargetBuilder,
    TargetMean,
    check_settings,
)
from kvdistill.teacher import SelfDistillation
from kvdistill.text import Batch
from kvdistill.training_step import FineTuning
from pico_losses import compare
from pico_steps import SLOTS, Seen, distillation, kv_gradients, lifted, on, rows, student

METHODS = [kind(window=1) if kind is RKVDecode else kind() for kind in get_args(CompressorMethod)]
ONLY_KV = {"ce_student_weight": 0.0, "ce_teacher_weight": 0.0, "codi_weight": 0.0}
CONTROLS = [kind() for kind in get_args(Control)]


def test_the_loss_is_the_sum_of_its_terms() -> None:
    model, batch = student(), pico.batch(rows())
    kv = KVLoss(distance="smooth_l1", layer_std=False)
    settings = {"ce_student_weight": 0.5, "codi_weight": 7.0, "kv_weight": 3.0, "kv": kv}
    output = distillation(model, RKV(importance_weight=0.3), **settings)(batch, 0, 0.0)
    two = model(batch)
    target = RKV(importance_weight=0.3).compress(two.teacher.kv, SLOTS)
    terms = {
        "ce_student": cross_entropy(two.student.rows, 3),
        "ce_teacher": cross_entropy(two.teacher.rows, 3),
        "codi": compare(CODILoss(), two.teacher, two.student).loss,
        "kv": compare(KVLoss(distance="smooth_l1", layer_std=False), target, two.student.kv).loss,
    }
    weights = {"ce_student": 0.5, "ce_teacher": 1.0, "codi": 7.0, "kv": 3.0}
    by_hand = sum(weights[name] * term for name, term in terms.items())
    assert torch.allclose(output.loss, torch.as_tensor(by_hand), atol=1e-6)
    for name, term in terms.items():
        assert torch.allclose(output.metrics[name], term, atol=1e-6), name
        assert not output.metrics[name].requires_grad


def test_without_kv_and_attention_no_target_is_built() -> None:
    """E1: even a compressor that could not work is not asked."""
    model, batch = student(), pico.batch(rows())
    read = batch.teacher_mode
    without = replace(batch, teacher_mode=replace(read, step_end=torch.zeros_like(read.step_end)))
    output = distillation(model, StepEnd(), kv_weight=0.0)(without, 0, 0.0)
    assert set(output.metrics) == {"ce_student", "ce_teacher", "codi"}


@pytest.fixture(scope="module")
def shared_student() -> tuple[LatentReasoner, Batch, Seen]:
    model, batch = student(), pico.batch(rows(4))
    return model, batch, Seen(model, batch)


@pytest.mark.parametrize("frame", ["pre_rope", "as_cached"])
@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.kind)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.kind)
def test_every_compressor_under_every_control_in_every_frame(shared_student, method, control, frame) -> None:
    model, batch, seen = shared_student
    if isinstance(method, Full) and frame == "as_cached":
        with pytest.raises(ValueError, match="rotated keys cannot be interpolated"):
            distillation(model, method, control=control, kv=KVLoss(frame=frame))
        pytest.skip(
            "full reads between slots, and what is between two rotated keys is no key: refused in words"
        )
    if isinstance(method, Full) and isinstance(control, MeanTarget):
        with pytest.raises(ValueError, match="Compress to a fixed number of slots"):
            check_settings(method, control, SLOTS, 4)
        pytest.skip(
            "full keeps as many slots as there are tokens, so there is no mean of a slot over batches: "
            "refused in words"
        )
    step = on(seen, distillation(model, method, control=control, kv=KVLoss(frame=frame)))
    output = step(batch, 0, 0.0)
    assert torch.isfinite(output.loss)
    assert float(output.metrics["kv"]) > 0
    assert all(pull > 0 for pull in kv_gradients(output.loss, seen.two.student.kv))
    assert ("kv_lower_bound" in output.metrics) == isinstance(method, Full)
    assert ("distinctness_max" in output.metrics) == isinstance(method, RKV)
    assert (step.bridge.means()["own"] is not None) == isinstance(control, MeanTarget)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.kind)
def test_settings_that_contradict_each_other_are_refused_before_anything_is_loaded(method) -> None:
    check_settings(method, NoControl(), SLOTS, 1)
    check_settings(method, OtherSample(), SLOTS, 2)
    with pytest.raises(ValueError, match="a batch of one has no other sample"):
        check_settings(method, OtherSample(), SLOTS, 1)


@pytest.mark.parametrize("delimiters", ["student", "both"])
@pytest.mark.parametrize("name", ["llama", "llama_yarn", "glm"])
def test_the_cached_frame_is_where_the_keys_stand_in_the_caches(name: str, delimiters: Any) -> None:
    """Both sides turned by the frame equal the keys that the attention saw, cues and delimiters counted."""
    model, batch = student(name, delimiters=delimiters), pico.batch(rows())
    two = model(batch)
    frame = frame_of(distillation(model, kv=KVLoss(frame="as_cached")), batch)
    both = delimiters == "both"
    pieces = question_pieces(batch.student_mode, model.special, 2) + teacher_pieces(
        batch.teacher_mode, model.special[:2] if both else None
    )
    packed = forward_pass(model, Sequence(pieces, offset=torch.zeros(3, dtype=torch.long)), None, None)
    start, stop = packed.sequence.span("cot", "teacher")
    thought = encode_latents(model, batch.student_mode).prefix
    for index in range(3):
        theirs, ours = frame.turn(index, two.teacher.kv.layers[index], two.student.kv.layers[index])
        cached = packed.call.seen[index].keys[:, :, start:stop]
        there = theirs.mask[..., None]
        assert torch.allclose(theirs.keys * there, cached * there, atol=1e-5)
        assert torch.allclose(ours.keys, torch.cat(thought[index][0], 2)[:, :, -SLOTS:], atol=1e-5)


def test_full_reads_the_student_at_the_tokens_and_logs_the_lower_bound() -> None:
    model, batch = student(), pico.batch(rows())
    step = distillation(model, Full())
    assert step.objective.kv.axis == "tokens"
    output = step(batch, 0, 0.0)
    assert 0 < float(output.metrics["kv_lower_bound"]) < float(output.metrics["kv"])
    with pytest.raises(ValueError, match=r"target\.method rkv keeps no more tokens than there are slots"):
        distillation(model, RKV(), kv=KVLoss(axis="tokens"))


def test_auto_is_found_once_and_makes_methods_pull_equally() -> None:
    model, batch = student(), pico.batch(rows())
    seen = Seen(model, batch)
    pulls = []
    for method in (RKV(), RightCrop(), Full()):
        step = on(seen, distillation(model, method, kv_weight="auto", **ONLY_KV))
        output = step(batch, 0, 0.0)
        pulls.append(gradient_norm(output.loss, seen.two.student.kv))
        assert step.objective.kv_weight == "auto", "what was configured stays"
        first = step.auto_weight
        assert float(output.metrics["kv_weight"]) == pytest.approx(first)
        assert torch.allclose(output.loss, first * output.metrics["kv"])
        step.student = model
        step(pico.batch(rows(2)), 1, 0.5)
        assert step.auto_weight == first
    assert pulls == pytest.approx([reference_norm(seen.two.student.kv)] * 3, rel=1e-5)


@pytest.mark.parametrize("cut", [1, 2])
def test_auto_is_the_same_however_the_first_samples_are_dealt_out(cut: int) -> None:
    model, samples = student(), rows(4)
    model.register_forward_pre_hook(lambda *_: torch.rand(1) and None)  # draws, as dropout does
    whole, parts = (distillation(model, Uniform(), kv_weight="auto") for _ in range(2))
    whole(pico.batch(samples), 0, 0.0)
    state = torch.get_rng_state()
    parts.prepare([pico.batch(samples[:cut]), pico.batch(samples[cut:])])
    assert torch.equal(torch.get_rng_state(), state)
    assert parts.auto_weight == pytest.approx(whole.auto_weight, rel=1e-5)


def test_auto_waits_for_a_sample_with_a_chain_of_thought() -> None:
    """A sample without one counts neither in the weight nor in the losses that need one."""
    model, samples = student(), rows(3)
    bare = [{**sample, "cot": ()} for sample in samples]
    step, full = (distillation(model, Uniform(), kv_weight="auto") for _ in range(2))
    output = step(pico.batch(bare), 0, 0.0)
    assert step.auto_weight is None
    assert not step.prepared
    assert torch.allclose(output.loss, output.metrics["ce_student"])
    step(pico.batch([*samples, bare[0]]), 1, 0.0)
    full(pico.batch(samples), 0, 0.0)
    assert step.auto_weight == pytest.approx(full.auto_weight, rel=1e-5)
    assert step.prepared
    assert distillation(model, Uniform(), kv_weight=1.0).prepared


def test_the_mean_target_is_carried_from_batch_to_batch() -> None:
    model, batches = student(), [pico.batch(rows(2)), pico.batch(rows(3)[1:])]
    step = distillation(model, Uniform(), control=MeanTarget(), kv_weight="auto")
    for number, batch in enumerate(batches):
        output = step(batch, number, 0.0)
    kept = [Uniform().compress(model(batch).teacher.kv, SLOTS) for batch in batches]
    mean = TargetMean.over(kept[1], TargetMean.over(kept[0]))
    carried = step.bridge.means()["own"]
    assert carried is not None
    assert torch.allclose(carried.layers[2].keys, mean.layers[2].keys, atol=1e-6)
    by_hand = torch.cat([each.layers[0].values for each in kept]).mean(0)
    assert torch.allclose(carried.layers[0].values, by_hand, atol=1e-6)
    loss = compare(KVLoss(), mean.spread(kept[1]), model(batches[1]).student.kv).loss
    assert torch.allclose(output.metrics["kv"], loss, atol=1e-6)


def test_a_control_draws_other_partners_each_step() -> None:
    model, batch = student(), pico.batch(rows(4))
    build = TargetBuilder(Uniform(), OtherSample(), SLOTS)
    kept = Uniform().compress(model(batch).teacher.kv, SLOTS)
    drawn = [build(model(batch).teacher.kv, batch.cot_id, draw).layers[0].keys for draw in range(8)]
    assert any(not torch.equal(drawn[0], other) for other in drawn[1:])
    for keys in drawn:
        assert not any(torch.equal(keys[i], kept.layers[0].keys[i]) for i in range(4))


def test_annealing_begins_with_the_lowest_third_of_the_layers() -> None:
    model, batch = student(), pico.batch(rows())
    seen = Seen(model, batch)
    step = on(seen, distillation(model, step=StepSettings(anneal_layers=0.5), **ONLY_KV))

    def pulls(progress: float) -> list[float]:
        return kv_gradients(step(batch, 0, progress).loss, seen.two.student.kv)

    assert [pull > 0 for pull in pulls(0.49)] == [True, False, False]
    plain = kv_gradients(on(seen, distillation(model, **ONLY_KV))(batch, 0, 0.9).loss, seen.two.student.kv)
    assert pulls(0.5) == pytest.approx(plain)


def test_attention_is_measured_where_a_loss_needs_it() -> None:
    model, batch = student(), pico.batch(rows())
    output = distillation(model, attention_weight=1.0)(batch, 0, 0.0)
    assert float(output.metrics["attention_kl"]) > 0
    seen = Seen(model, batch)
    with pytest.raises(ValueError, match="the student's answer attention was not measured"):
        on(seen, distillation(model, attention_weight=1.0))(batch, 0, 0.0)


def test_rkv_gets_over_a_batch_without_chains_of_thought() -> None:
    model, batch = student(), pico.batch(tuple(row | {"cot": ()} for row in rows(2)))
    output = distillation(model)(batch, 0, 0.0)
    assert float(output.metrics["kv"]) == 0.0
    output.loss.backward()
    assert all(
        parameter.grad is None or torch.isfinite(parameter.grad).all() for parameter in model.parameters()
    )


def test_the_cot_step_is_teacher_modes_cross_entropy() -> None:
    model, batch = student(), pico.batch(rows())
    output, labels = FineTuning(model)(batch, 0, 0.0), model(batch).teacher.rows
    nll = torch.nn.functional.cross_entropy(labels.logits, labels.labels, reduction="none")
    by_hand = torch.stack([nll[labels.sample == sample].mean() for sample in range(3)]).mean()
    assert torch.allclose(output.loss, by_hand, atol=1e-6)
    assert torch.equal(output.metrics["ce_teacher"], output.loss.detach())
    direct = FineTuning(model)(pico.batch(tuple(row | {"cot": ()} for row in rows())), 0, 0.0)
    assert not torch.allclose(direct.loss, output.loss)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("method", [RKV(), Full(), StepEnd()], ids=lambda method: method.kind)
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_samples_loss_does_not_depend_on_its_neighbours(name: str, method: Any, side: str) -> None:
    """Every term of a padded batch is the mean of what its samples have alone."""
    model = student(name)
    step = distillation(model, method, attention_weight=float(not method.keeps_tokens))
    alone: list[LossOutput] = [step(pico.batch((row,)), 0, 0.0) for row in rows()]
    for chosen in ((0, 1, 2), (2, 0), (1, 2)):
        batch = pico.batch(tuple(rows()[i] for i in chosen), side, extra=3)
        together = step(batch, 0, 0.0)
        assert torch.allclose(together.loss, torch.stack([alone[i].loss for i in chosen]).mean(), atol=1e-5)
        for term in ("ce_student", "ce_teacher", "codi", "kv"):
            expected = torch.stack([alone[i].metrics[term] for i in chosen]).mean()
            assert torch.allclose(together.metrics[term], expected, atol=1e-5), term


# A separate teacher, distributed runs, checkpoints.


def test_the_target_is_the_separate_teachers_cache_and_the_student_is_lifted_to_it() -> None:
    model, batch = student(), pico.batch(rows())
    step = lifted(model, **ONLY_KV)
    two, projector = model(batch), step.bridge.projector("teacher")
    target = RKV().compress(step.teachers[0].cache(batch, two).kv, SLOTS)
    by_hand = compare(
        KVLoss(), projector.select(target), projector.move(two.student.kv), None, projector.weights()
    )
    assert torch.allclose(step(batch, 0, 0.0).loss, by_hand.loss)


def test_frozen_teachers_are_outside_the_module_tree_and_the_projector_is_inside() -> None:
    step = lifted(student())
    names = {name for name, _ in step.named_parameters()}
    assert any(name.startswith("bridge.projectors.teacher.keys.0") for name in names)
    assert {name.split(".")[0] for name in names} == {"student", "bridge"}
    assert step.config is step.student.config, "Trainer reads the student's configuration"


def test_with_a_separate_teacher_auto_pulls_as_hard_and_annealing_begins_below() -> None:
    model, batch = student(), pico.batch(rows())
    seen = Seen(model, batch)
    settings = StepSettings(anneal_layers=0.5)
    step = on(seen, lifted(model, step=settings, kv_weight="auto", **ONLY_KV))
    pulls = kv_gradients(step(batch, 0, 0.1).loss, seen.two.student.kv)
    assert [pull > 0 for pull in pulls] == [True, False, False]
    norm = gradient_norm(step(batch, 0, 0.6).loss, seen.two.student.kv)
    assert norm == pytest.approx(reference_norm(seen.two.student.kv), rel=1e-5)


def test_two_teachers_give_two_pairs_whose_losses_are_summed() -> None:
    model, batch = student(), pico.batch(rows())
    one = distillation(model, **ONLY_KV)
    builders = {name: TargetBuilder(RKV(), NoControl(), SLOTS) for name in ("a", "b")}
    teachers = [SelfDistillation(model.geometry, name) for name in builders]
    two = Distillation(model, teachers, SameBridge(builders), Objective(**ONLY_KV))
    single, double = one(batch, 0, 0.0), two(batch, 0, 0.0)
    assert torch.allclose(double.loss, 2 * single.loss)
    assert {"a_importance_max", "b_importance_max"} <= double.metrics.keys()


@pytest.mark.parametrize("first", [1, 2, 3])
@pytest.mark.parametrize(
    "settings", [{"kv_weight": "auto"}, {"control": MeanTarget()}], ids=["auto", "mean_target"]
)
def test_what_is_measured_over_a_batch_is_measured_over_all_processes(
    first: int, settings: dict[str, Any]
) -> None:
    """Two processes with a share of each batch, against one with all of it; what a process sums does not
    depend on the sum.
    """
    model = student()
    whole, *halves = (distillation(model, Uniform(), **settings) for _ in range(3))

    def sum_with(step: Distillation, all_reduce_sum: Any) -> Distillation:
        step.settings = replace(step.settings, all_reduce_sum=all_reduce_sum)
        step.bridge.builders["own"].all_reduce_sum = all_reduce_sum
        return step

    for number in range(2):
        samples = tuple(row | {"cot": row["cot"][number:]} for row in rows(4))
        whole(pico.batch(samples), number, 0.0)
        parts, sent = (samples[:first], samples[first:]), ([], [])
        for part, values in zip(parts, sent, strict=True):
            probe = distillation(model, Uniform(), **settings)
            probe.load_state(halves[0].state())
            sum_with(probe, lambda value, values=values: values.append(value) or value)
            probe(pico.batch(part), number, 0.0)
        for half, part, others in zip(halves, parts, reversed(sent), strict=True):
            sum_with(half, lambda value, others=others: value + others.pop(0))
            half(pico.batch(part), number, 0.0)
    for half in halves:
        torch.testing.assert_close(half.state(), whole.state(), rtol=1e-5, atol=1e-6)
    assert whole.state()


def test_a_step_resumes_from_its_state() -> None:
    model, batches = student(), [pico.batch(rows(2)), pico.batch(rows(3)[1:])]
    settings = {"control": MeanTarget(), "kv_weight": "auto"}
    begun, later = (lifted(model, Uniform(), **settings) for _ in range(2))
    begun(batches[0], 0, 0.0)
    torch.nn.init.normal_(begun.bridge.projector("teacher").keys[0].weight)
    later.load_state({name: value.clone() for name, value in begun.state().items()})
    expected = {"weight", "teacher/mean/0.keys", "teacher/mean/4.count", "teacher/projector/keys.0.weight"}
    assert expected <= later.state().keys()
    assert torch.equal(later(batches[1], 1, 0.5).loss, begun(batches[1], 1, 0.5).loss)
    state = begun.state()
    later.load_state({name: value for name, value in state.items() if "projector/" in name})
    assert (later.auto_weight, later.bridge.means()) == (None, {"teacher": None})


def test_a_step_resumes_from_a_checkpoint_that_did_not_name_its_teacher() -> None:
    model, batch = student(), pico.batch(rows(2))
    begun, later = (lifted(model, Uniform(), control=MeanTarget()) for _ in range(2))
    begun(batch, 0, 0.0)
    torch.nn.init.normal_(begun.bridge.projector("teacher").keys[0].weight)
    later.load_state({name.removeprefix("teacher/"): value for name, value in begun.state().items()})
    torch.testing.assert_close(later.state(), begun.state())
