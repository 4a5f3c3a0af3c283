"""Planted maps are found, shuffled ones are not, and the parts are the samples'."""

import pytest
import torch

from kvdistill.align.adapter_fitted import Learned, Ridge
from kvdistill.align.adapter_fixed import GroupMean, Identity
from kvdistill.align.calibration import PARTS, Calibration, part_of
from kvdistill.align.head_dim_adapter import Adapter
from kvdistill.align.layer_map import LayerMap, LayerPair
from kvdistill.align.moments import FIELDS
from kvdistill.kv import ModelKV, Rope
from pico_align import cache, flat, geometry, mapped

STUDENT, TEACHER = geometry(2, 2, 4, 3), geometry(3, 1, 5, 6)
MAP = LayerMap((LayerPair(0, 0, 1.0), LayerPair(1, 1, 0.25), LayerPair(1, 2, 0.75)))
CHOSEN = ((0,), (1, 2))
SAMPLES = tuple(f"sample-{number}" for number in range(60))
MASK = torch.arange(8).expand(60, 8) < torch.tensor([8, 5, 7]).repeat(20)[:, None]


def planted() -> tuple[ModelKV, ModelKV, dict[tuple[int, str], tuple[torch.Tensor, torch.Tensor]]]:
    """A teacher, a student that is an affine function of it, and the functions."""
    teacher, maps = cache(TEACHER, len(SAMPLES), 8, MASK), {}

    def image(index: int, name: str, source: ModelKV) -> torch.Tensor:
        x = flat(source, CHOSEN[index], name)
        width = {"keys": 4, "values": 3}[name]
        maps[index, name] = torch.randn(2 * width, x.shape[-1]) / 3, torch.randn(2 * width)
        weight, bias = (each.double() for each in maps[index, name])
        return x.double() @ weight.T + bias

    return teacher, mapped(teacher, STUDENT, image), maps


def calibrated(teacher: ModelKV, student: ModelKV, ids: tuple[str, ...] = SAMPLES) -> Calibration:
    found = Calibration(STUDENT, TEACHER, MAP)
    found.add(teacher, student, ids)
    return found


def rows(kv: ModelKV, part: str) -> ModelKV:
    chosen = torch.tensor([part_of(sample) == part for sample in SAMPLES])
    return kv.map(tuple(layer.map_slots(lambda tensor: tensor[chosen]) for layer in kv.layers))


def test_a_planted_map_is_found() -> None:
    teacher, student, maps = planted()
    adapter, report = calibrated(teacher, student).solve(Ridge())
    for (index, name), (weight, bias) in maps.items():
        linear = getattr(adapter, name)[index]
        torch.testing.assert_close(linear.weight, weight, rtol=0, atol=1e-6)
        torch.testing.assert_close(linear.bias, bias, rtol=0, atol=1e-6)
    assert [each.r2 for each in report.maps] == pytest.approx([1] * 4, abs=1e-9)
    assert {each.penalty for each in report.maps} == {1e-8}
    assert [(each.layer, each.teacher_layers) for each in report.maps] == [
        (0, (0,)),
        (0, (0,)),
        (1, (1, 2)),
        (1, (1, 2)),
    ]
    moved = adapter.move(teacher)
    torch.testing.assert_close(
        moved.layers[1].values.double()[moved.layers[1].mask],
        student.layers[1].values[student.layers[1].mask],
        rtol=0,
        atol=1e-5,
    )


def test_another_samples_text_explains_nothing() -> None:
    teacher = cache(TEACHER, 400, 8)
    weight = torch.randn(5, 8) / 3, torch.randn(6, 6) / 3, torch.randn(10, 8) / 3, torch.randn(12, 6) / 3
    student = mapped(
        teacher, STUDENT, lambda i, name, kv: flat(kv, CHOSEN[i], name) @ weight[2 * i + (name == "values")]
    )
    ids = tuple(str(number) for number in range(400))
    shuffled = teacher.map(
        tuple(layer.map_slots(lambda tensor: tensor.roll(1, 0)) for layer in teacher.layers)
    )
    own, other = (calibrated(kv, student, ids).solve(Ridge())[1] for kv in (teacher, shuffled))
    assert min(each.r2 for each in own.maps) > 0.999
    assert max(each.r2 for each in other.maps) <= 0.05


def test_closed_form_is_ridge_and_r2_on_the_data() -> None:
    """Unrelated caches, one penalty: the map, its error and its R² from the tokens themselves."""
    teacher, student = cache(TEACHER, 60, 8, MASK), cache(STUDENT, 60, 8)
    adapter, report = calibrated(teacher, student).solve(Ridge(penalties=(0.5,)))
    x, y = (
        flat(rows(kv, "fit"), layers, "keys")[rows(teacher, "fit").layers[0].mask[:, 0]].double()
        for kv, layers in ((teacher, (1, 2)), (student, (1,)))
    )
    count, centered = len(x), x - x.mean(0)
    gram = centered.T @ centered / count
    inverse = torch.linalg.inv(gram + 0.5 * gram.diagonal().mean() * torch.eye(10).double())
    weight = (inverse @ (centered.T @ (y - y.mean(0)) / count)).T
    torch.testing.assert_close(adapter.keys[1].weight.double(), weight, rtol=0, atol=1e-6)
    mask = rows(teacher, "report").layers[0].mask[:, 0]
    own = flat(rows(student, "report"), (1,), "keys")[mask]
    error = (flat(adapter.move(rows(teacher, "report")), (1,), "keys")[mask] - own).square().sum()
    wanted = 1 - error / (own - own.mean(0)).square().sum()
    assert report.maps[2].r2 == pytest.approx(wanted.item(), abs=1e-5)


def test_two_processes_sum_to_one() -> None:
    teacher, student, _ = planted()
    noisy = student.map(tuple(layer.replace(keys=layer.keys + 1.0) for layer in student.layers))
    noisy.layers[0].keys.add_(torch.randn_like(noisy.layers[0].keys))
    halves = []
    for part in (slice(0, 25), slice(25, 60)):
        cut = [
            kv.map(tuple(layer.map_slots(lambda tensor, part=part: tensor[part]) for layer in kv.layers))
            for kv in (teacher, noisy)
        ]
        halves.append(calibrated(*cut, SAMPLES[part]))
    # A stand-in for the second process: its tensors, in the order in which they are summed.
    sent: list[torch.Tensor] = []
    halves[1].all_reduce(lambda tensor: sent.append(tensor) or tensor)
    halves[0].all_reduce(lambda tensor: tensor + sent.pop(0))
    whole = calibrated(teacher, noisy)
    assert halves[0].tokens() == whole.tokens()
    (one, first), (other, second) = (found.solve(Ridge()) for found in (halves[0], whole))
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name], rtol=0, atol=1e-6)
    assert [each.r2 for each in first.maps] == pytest.approx([each.r2 for each in second.maps])
    for a, b in zip(halves[0].student_std(), whole.student_std(), strict=True):
        torch.testing.assert_close(a, b)


def test_parts_are_a_hash_of_the_sample() -> None:
    found = [part_of(str(number)) for number in range(5000)]
    shares = [found.count(part) / 5000 for part in PARTS]
    assert shares == pytest.approx([0.64, 0.16, 0.2], abs=0.02)
    assert found[:6] == [part_of(str(number)) for number in range(6)]


def test_uncovered_tokens_and_padding_are_left_out() -> None:
    teacher, student, _ = planted()
    for kv in (teacher, student):
        for layer in kv.layers:
            layer.keys.masked_fill_(~layer.mask[..., None], torch.nan)
            layer.values.masked_fill_(~layer.mask[..., None], torch.nan)
    found = calibrated(teacher, student)
    assert sum(found.tokens().values()) == MASK.sum().item()
    assert min(each.r2 for each in found.solve(Ridge())[1].maps) > 0.999


def test_memory_is_known_beforehand() -> None:
    found = Calibration(STUDENT, TEACHER, MAP)
    held = [getattr(moments, name).nbytes for moments in found._all() for name in FIELDS]
    assert Calibration.bytes_needed(STUDENT, TEACHER, MAP) == sum(held)


def test_the_students_std_is_about_one_mean() -> None:
    teacher, student, _ = planted()
    keys, values = calibrated(teacher, student).student_std()
    for index, layer in enumerate(student.layers):
        assert keys[index].item() == pytest.approx(layer.keys[layer.mask].std(correction=0).item())
        assert values[index].item() == pytest.approx(layer.values[layer.mask].std(correction=0).item())


def test_too_little_text_is_refused_with_the_number() -> None:
    teacher, student, _ = planted()
    few = [
        kv.map(tuple(x.map_slots(lambda tensor: tensor[:2]) for x in kv.layers)) for kv in (teacher, student)
    ]
    ids = [
        next(s for s in SAMPLES if part_of(s) == "fit"),
        next(s for s in SAMPLES if part_of(s) == "choose"),
    ]
    with pytest.raises(ValueError, match=r"to fit has 8 tokens .* and 13 are needed, about 20 in all"):
        calibrated(*few, tuple(ids)).solve(Ridge())
    square = geometry(1, 1, 2, 2)
    empty = Calibration(square, square, LayerMap((LayerPair(0, 0, 1.0),)))
    with pytest.raises(ValueError, match="to fit has 0 tokens .* and 2 are needed"):
        empty.solve(GroupMean())


def test_maps_without_a_fit_are_reported_too() -> None:
    """The cache onto itself: identity and group mean of equal heads are exact, an orthogonal start is not."""
    shape, pairs = geometry(1, 2, 4, 4), LayerMap((LayerPair(0, 0, 1.0),))
    kv = cache(shape, 60, 8)
    found = Calibration(shape, shape, pairs)
    found.add(kv, kv, SAMPLES)
    for method in (Identity(), GroupMean()):
        assert [each.r2 for each in found.solve(method)[1].maps] == pytest.approx([1, 1])
        assert found.solve(method)[1].maps[0].penalty is None
    assert found.solve(Learned(initial="orthogonal"))[1].maps[0].r2 < 0.9
    adapter, report = found.solve(Learned())
    assert report.maps[0].r2 == pytest.approx(1)
    assert all(tensor.requires_grad for tensor in adapter.parameters())


def test_constant_states_have_nothing_to_explain() -> None:
    shape, pairs = geometry(1, 1, 2, 2), LayerMap((LayerPair(0, 0, 1.0),))
    kv = cache(shape, 60, 8)
    constant = mapped(kv, shape, lambda _, __, source: torch.ones(60, 8, 2))
    found = Calibration(shape, shape, pairs)
    found.add(kv, constant, SAMPLES)
    assert [each.r2 for each in found.solve(Ridge())[1].maps] == [0, 0]


def test_fitted_maps_survive_a_checkpoint() -> None:
    teacher, student, _ = planted()
    adapter, _ = calibrated(teacher, student).solve(Ridge())
    other = Adapter(STUDENT, TEACHER, MAP, Ridge())
    other.load_state_dict(adapter.state_dict())
    assert torch.equal(other.move(teacher).layers[1].keys, adapter.move(teacher).layers[1].keys)


def test_rotated_keys_are_refused() -> None:
    teacher, student, _ = planted()
    rotated = student.map(tuple(layer.replace(rope=Rope(torch.ones(2))) for layer in student.layers))
    with pytest.raises(ValueError, match="align/calibration: keys of layer 0 of a student are rotated"):
        calibrated(teacher, rotated)


def test_overflow_is_refused_by_name() -> None:
    teacher, student, _ = planted()
    index = [part_of(sample) for sample in SAMPLES].index("fit")
    teacher.layers[2].values[index, 0, 0, 0] = torch.inf
    with pytest.raises(ValueError, match=r"values of the teacher's cache for student layer 1 are not finite"):
        calibrated(teacher, student).solve(Ridge())
