"""Calibration before the first step: planted teachers, their utility, and what takes no part in it."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import pico_trained
from kvdistill.align import CKA, Adapter, AdapterMethod, Ridge
from kvdistill.align.aligner import Aligner
from kvdistill.align.calibration import part_of
from kvdistill.align.layer_map import Ratio
from kvdistill.compress import StepEnd
from kvdistill.kv import TeacherCache, TwoModes
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.pipeline import Distillation
from kvdistill.records.calibration import CalibrationRecord
from kvdistill.run import calibration
from kvdistill.run.calibration import Calibrator
from kvdistill.run.gathering import chosen_samples
from kvdistill.target import NoControl, TargetBuilder
from kvdistill.target.lower import LowerBridge
from kvdistill.teacher import CausalLMTeacher
from kvdistill.text import Batch, Encoded
from kvdistill.training.ranks import Ranks


def step_of(student: LatentReasoner, *teachers: CausalLMTeacher, method: AdapterMethod | None = None) -> Any:
    """A step that lowers these teachers with adapters that are not fitted yet."""
    ours, aligners = student.geometry(), {}
    for teacher in teachers:
        theirs = teacher.geometry()
        adapter = Adapter(ours, theirs, Ratio().pair(ours, theirs), method or Ridge())
        aligners[teacher.name] = Aligner(adapter)
    builder = TargetBuilder(StepEnd(), NoControl(), student.config.slots)
    bridge = LowerBridge(builder, aligners, dict.fromkeys(aligners, 1.0), ours)
    return Distillation(student, teachers, bridge, pico_trained.OBJECTIVE)


def teacher_of(student: LatentReasoner, name: str = "copy", noise: float | None = None) -> CausalLMTeacher:
    """The student's backbone as a teacher; with ``noise`` all its weights are random, of this deviation."""
    model = deepcopy(student.backbone).requires_grad_(False)
    if noise is not None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=noise)
    return CausalLMTeacher(model, name, student.special[:2], name)


def calibrated(
    step: Distillation, samples: Sequence[Encoded], said: list[str] | None = None
) -> CalibrationRecord:
    say = (said if said is not None else []).append
    return Calibrator(step, {each.name: Ratio() for each in step.teachers}, Ranks(), say).run(
        chosen_samples(samples, 0)
    )


def utility(record: CalibrationRecord) -> dict[str, float]:
    assert record.targets is not None
    return {each.target: each.accuracy for each in record.targets}


@pytest.fixture(scope="module")
def student() -> LatentReasoner:
    """It answers right, and only from its slots."""
    return pico_trained.trained()


@pytest.fixture(scope="module")
def pairs(student: LatentReasoner) -> list[Encoded]:
    """All questions, several times: enough tokens to fit 32 inputs, and ids that fall in all three parts."""
    found = pico_trained.samples(student)
    return [replace(each, sample_id=f"{n}/{each.sample_id}") for n in range(4) for each in found]


def test_a_copy_is_found_and_is_worth_the_students_own_cache(student: Any, pairs: Any) -> None:
    said: list[str] = []
    step = step_of(student, teacher_of(student))
    record = calibrated(step, pairs, said)
    (found,) = record.teachers
    assert [each.teacher_layers for each in found.maps] == [[0], [0], [1], [1]]
    assert min(each.r2 for each in found.maps) > 0.999
    assert (found.teacher, found.source, found.weight, found.covered) == ("copy", "copy", 1.0, 1.0)
    # Two names and two parts of a chain each; no sample is left out.
    assert sum(found.tokens.values()) == sum(len(each.teacher_mode.cot.ids) for each in pairs)
    worth = utility(record)
    assert list(worth) == ["own cache", "fused", "other sample"]
    assert worth["fused"] == worth["own cache"] > 0.9
    assert worth["other sample"] < 0.5
    assert said == [f"teachers.copy: calibration on 512 samples at most, {found.memory / 2**20:.2g} MiB"]


def test_calibration_leaves_the_student_as_it_was(student: Any, pairs: Any) -> None:
    before = {name: value.clone() for name, value in student.state_dict().items()}
    step = step_of(student, teacher_of(student))
    step.train()
    state = torch.get_rng_state()
    calibrated(step, pairs[:72])
    assert step.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    assert all(parameter.grad is None for parameter in step.parameters())


def test_noise_in_the_teachers_weights_after_calibration_takes_the_target_to_chance(
    student: Any, pairs: Any
) -> None:
    """The adapters stay as fitted, so that the fused target can only be right through the teacher."""
    teacher = teacher_of(student)
    step = step_of(student, teacher)
    assert utility(calibrated(step, pairs))["fused"] > 0.9
    with torch.no_grad():
        for parameter in teacher.model.parameters():
            parameter.add_(torch.randn_like(parameter))
    kept = Calibrator(step, {"copy": Ratio()}, Ranks(), lambda _: None)
    targets = kept._targets()
    found = calibration.target_utility(student, pairs[:36], {"fused": targets["fused"]}, batch_of=kept._batch)
    # Chance is 1 in 6.
    assert found[0].accuracy < 0.45


def test_the_scale_is_the_students_own_deviation(student: Any, pairs: Any) -> None:
    step = step_of(student, teacher_of(student))
    record = calibrated(step, pairs)
    samples = chosen_samples(pairs, 0)
    kv = student(pico_trained.collate(samples, 0), "cot").kv
    for layer, scale in zip(kv.layers, record.scale or [], strict=True):
        for states, found in zip((layer.keys, layer.values), scale, strict=True):
            valid = states.transpose(1, 2)[layer.mask[:, 0]]
            assert found == pytest.approx(float(valid.std(correction=0)), rel=1e-4)


def test_random_teachers_are_reported_for_what_they_explain(student: Any, pairs: Any) -> None:
    """Each target by its teacher's name; layer 0 reads the tokens alone, which a random model keeps apart."""
    good, bad = teacher_of(student), teacher_of(student, "random", noise=0.02)
    record = calibrated(step_of(student, good, bad), pairs)
    assert list(utility(record)) == ["own cache", "fused", "copy", "random", "other sample"]
    fitted = {each.teacher: each for each in record.teachers}
    assert fitted["random"].mean_r2("values") < fitted["copy"].mean_r2("values")
    assert fitted["copy"].mean_r2("values") == pytest.approx(
        sum(each.r2 for each in fitted["copy"].maps if each.states == "values") / 2
    )


def test_two_halves_are_the_whole(student: Any, pairs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, one after the other: the sums of the first are added to those of the second."""
    sums: list[Tensor] = []

    def first(values: Tensor) -> Tensor:
        sums.append(values.clone())
        return values

    def second(values: Tensor) -> Tensor:
        return values + sums.pop(0)

    whole = step_of(student, teacher_of(student))
    calibrated(whole, pairs)
    halves = [step_of(student, teacher_of(student)) for _ in range(2)]
    records = []
    for rank, (step, total) in enumerate(zip(halves, (first, second), strict=True)):
        monkeypatch.setattr(Ranks, "sum", staticmethod(total))
        records.append(
            Calibrator(step, {"copy": Ratio()}, Ranks(rank, 2), lambda _: None).run(chosen_samples(pairs, 0))
        )
    assert not sums
    assert sum(records[1].teachers[0].tokens.values()) == sum(
        len(each.teacher_mode.cot.ids) for each in pairs
    )
    torch.testing.assert_close(halves[1].bridge.scale, whole.bridge.scale)
    cache = teacher_of(student).read(pico_trained.collate(pairs[:8], 0))
    one, other = (step.bridge.aligner("copy")(cache, None) for step in (whole, halves[1]))
    for ours, theirs in zip(one.layers, other.layers, strict=True):
        torch.testing.assert_close(theirs.keys, ours.keys, rtol=1e-3, atol=1e-3)


def test_too_little_text_names_the_teacher_and_the_tokens(student: Any, pairs: Any) -> None:
    with pytest.raises(
        ValueError,
        match=r"^teachers\.copy: calibration: the part of the samples to fit has \d+ tokens that the teacher "
        r"covers, and 33 are needed, about 52 in all three parts\. Give more or longer",
    ):
        calibrated(step_of(student, teacher_of(student)), pairs[:12])


class _Blind(CausalLMTeacher):
    """A teacher that has not read the first token of any chain of thought, and holds NaN there."""

    def cache(self, batch: Batch, outputs: TwoModes) -> TeacherCache:
        kv = self.read(batch)
        return TeacherCache(self.name, kv.map(tuple(_without_first(layer) for layer in kv.layers)))


def _without_first(layer: Any) -> Any:
    seen = layer.mask.clone()
    seen[:, :, 0] = False
    return layer.replace(mask=seen, keys=torch.where(seen[..., None], layer.keys, torch.nan))


def test_a_token_that_is_not_covered_takes_no_part(student: Any, pairs: Any) -> None:
    teacher = _Blind(deepcopy(student.backbone), "blind", student.special[:2], "blind")
    record = calibrated(step_of(student, teacher), pairs)
    (found,) = record.teachers
    total = sum(len(each.teacher_mode.cot.ids) for each in pairs)
    assert found.covered == pytest.approx(1 - len(pairs) / total)
    assert sum(found.tokens.values()) == total - len(pairs)
    assert min(each.r2 for each in found.maps) > 0.999


def test_one_sample_that_is_held_out_has_no_partner(student: Any, pairs: Any) -> None:
    reported = [each for each in pairs if part_of(each.sample_id) == "report"]
    record = calibrated(step_of(student, teacher_of(student)), [*_fitted(pairs), reported[0]])
    assert list(utility(record)) == ["own cache", "fused"]


def _fitted(pairs: list[Encoded]) -> list[Encoded]:
    return [each for each in pairs if part_of(each.sample_id) != "report"]


def test_a_measured_layer_map_finds_the_layers_of_a_copy(student: Any, pairs: Any) -> None:
    """Both layers are chosen for each; the layer's own twin, with a CKA of 1, has the larger share."""
    step = step_of(student, teacher_of(student))
    before = step.bridge.aligner("copy").adapter.layer_map
    record = Calibrator(step, {"copy": CKA()}, Ranks(), lambda _: None).run(chosen_samples(pairs, 0))
    found = step.bridge.aligner("copy").adapter.layer_map
    assert found != before
    for index in range(2):
        shares = {pair.teacher: pair.weight for pair in found.of(index)}
        assert max(shares, key=shares.__getitem__) == index
    assert record.teachers[0].steps == step.bridge.aligner("copy").describe().splitlines()
