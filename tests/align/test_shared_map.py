"""One map for all layers: what it reads, how its moments are pooled, and a planted one that is found."""

import pytest
import torch

from kvdistill.align.adapter_base import Block
from kvdistill.align.adapter_fitted import Learned, Ridge
from kvdistill.align.aligner import Aligner
from kvdistill.align.calibration import Calibration, part_of
from kvdistill.align.head_dim_adapter import Adapter
from kvdistill.align.head_norms import head_norms
from kvdistill.align.layer_map import LayerMap, LayerPair
from kvdistill.align.moments import FIELDS, Moments
from kvdistill.align.shared_map import over_layers, pooled, shared_block
from kvdistill.kv import Geometry, ModelKV
from pico_align import cache, flat, geometry, mapped

STUDENT, TEACHER = geometry(2, 2, 4, 3), geometry(3, 1, 5, 6)
MAP = LayerMap((LayerPair(0, 0, 1.0), LayerPair(1, 1, 0.25), LayerPair(1, 2, 0.75)))
READ = {0: {0: 1.0}, 1: {1: 0.25, 2: 0.75}}
SAMPLES = tuple(f"sample-{number}" for number in range(60))
ONE, TWO = Block((1,), (2,), (1.0,), 1, 1), Block((1, 1), (2, 2), (0.25, 0.75), 1, 1)


def test_it_reads_the_mean_of_the_layers() -> None:
    """A quarter of the first layer and three quarters of the second; the weights 8 and 4 of one layer."""
    assert over_layers(torch.tensor([[8.0, 4.0]]), TWO).tolist() == [[2, 1, 6, 3]]
    assert shared_block((ONE, TWO)) == ONE


def test_pooled_moments_by_hand() -> None:
    """Tokens (1, 2), and (0, 4, 4, 0) whose mean is (3, 1); targets 5 and 7."""
    first, second = Moments(2, 1), Moments(4, 1)
    first.add(torch.tensor([[1.0, 2.0]]), torch.tensor([[5.0]]))
    second.add(torch.tensor([[0.0, 4.0, 4.0, 0.0]]), torch.tensor([[7.0]]))
    found = pooled((first, second), (ONE, TWO))
    values = {name: getattr(found, name).tolist() for name in FIELDS}
    assert values == {
        "count": 2,
        "x": [4, 3],
        "y": [12],
        "xx": [[10, 5], [5, 5]],
        "xy": [[26], [17]],
        "yy": [74],
    }


def planted(per_layer: bool) -> tuple[ModelKV, ModelKV, dict[str, tuple[torch.Tensor, torch.Tensor]]]:
    """A teacher, a student whose layers are the same function of the mean of their teacher layers."""
    teacher = cache(TEACHER, len(SAMPLES), 8)
    maps = {
        "keys": (torch.randn(8, 5).double(), torch.randn(8).double()),
        "values": (torch.randn(6, 6).double(), torch.randn(6).double()),
    }

    def image(index: int, name: str, source: ModelKV) -> torch.Tensor:
        weight, bias = maps[name]
        mean = sum(share * flat(source, (layer,), name).double() for layer, share in READ[index].items())
        if per_layer and index == 1:
            weight = weight.flip(0)
        return mean @ weight.T + bias

    return teacher, mapped(teacher, STUDENT, image), maps


def test_a_planted_map_of_all_layers_is_found() -> None:
    teacher, student, maps = planted(per_layer=False)
    calibration = Calibration(STUDENT, TEACHER, MAP)
    calibration.add(teacher, student, SAMPLES)
    adapter, report = calibration.solve(Ridge(shared=True))
    assert len(adapter.keys) == len(adapter.values) == 1
    assert sorted(adapter.state_dict()) == [
        "keys.0.bias",
        "keys.0.weight",
        "values.0.bias",
        "values.0.weight",
    ]
    for name, (weight, bias) in maps.items():
        (linear,) = getattr(adapter, name)
        torch.testing.assert_close(linear.weight.double(), weight, rtol=0, atol=1e-5)
        torch.testing.assert_close(linear.bias.double(), bias, rtol=0, atol=1e-5)
    assert [each.r2 for each in report.maps] == pytest.approx([1] * 4, abs=1e-9)
    assert calibration.r2(adapter) == pytest.approx([1] * 4, abs=1e-9)
    moved = adapter.move(teacher)
    for ours, own in zip(moved.layers, student.layers, strict=True):
        torch.testing.assert_close(ours.keys.double(), own.keys, rtol=0, atol=1e-4)
        torch.testing.assert_close(ours.values.double(), own.values, rtol=0, atol=1e-4)


def test_one_map_does_not_fit_layers_that_differ() -> None:
    teacher, student, _ = planted(per_layer=True)
    calibration = Calibration(STUDENT, TEACHER, MAP)
    calibration.add(teacher, student, SAMPLES)
    apart, shared = (calibration.solve(Ridge(shared=shared))[1].mean_r2("keys") for shared in (False, True))
    assert apart > 0.999
    assert shared < 0.7


def test_less_text_is_needed() -> None:
    """Six inputs of one layer in place of twelve of two: seven tokens to fit, and not thirteen."""
    teacher, student, _ = planted(per_layer=False)
    ids = [
        name for part, count in (("fit", 8), ("choose", 2), ("report", 2)) for name in names_of(part, count)
    ]
    calibration = Calibration(STUDENT, TEACHER, MAP)
    calibration.add(first_tokens(teacher, len(ids)), first_tokens(student, len(ids)), ids)
    assert calibration.tokens() == {"fit": 8, "choose": 2, "report": 2}
    calibration.solve(Ridge(shared=True))
    with pytest.raises(ValueError, match="has 8 tokens that the teacher covers, and 13 are needed"):
        calibration.solve(Ridge())


def names_of(part: str, count: int) -> list[str]:
    """Samples of one part of the calibration."""
    return [name for name in SAMPLES if part_of(name) == part][:count]


def first_tokens(kv: ModelKV, samples: int) -> ModelKV:
    """The first token of some samples."""
    return kv.map(tuple(layer.map_slots(lambda tensor: tensor[:samples, :, :1]) for layer in kv.layers))


def test_a_trained_one_learns_from_every_layer() -> None:
    adapter = Adapter(STUDENT, TEACHER, MAP, Learned(initial="orthogonal", shared=True))
    moved = adapter.move(cache(TEACHER))
    assert len(list(adapter.parameters())) == 4
    gradients = []
    for layer in moved.layers:
        (gradient,) = torch.autograd.grad(layer.keys.sum(), [adapter.keys[0].weight], retain_graph=True)  # pyright: ignore
        gradients.append(float(gradient.abs().sum()))
    assert min(gradients) > 0


def test_it_is_described_and_drawn() -> None:
    adapter = Adapter(STUDENT, TEACHER, MAP, Ridge(shared=True))
    assert "heads: 1 x 5 -> 2 x 4, ridge, one map for all layers" in Aligner(adapter).describe().splitlines()
    with torch.no_grad():
        adapter.keys[0].weight.fill_(1.0)  # pyright: ignore
    # Four by five ones; the second student layer reads a quarter and three quarters.
    root = 20**0.5
    expected = [[root, 0, 0]] * 2 + [[0, root / 4, 3 * root / 4]] * 2
    torch.testing.assert_close(head_norms(adapter, "keys"), torch.tensor(expected))


def test_layers_of_unlike_shapes_are_refused() -> None:
    mixed = Geometry((*geometry(1, 1, 5, 6).layers, *geometry(2, 2, 5, 6).layers))
    with pytest.raises(
        ValueError, match=r"^shared: the teacher's layers differ in .* \(1 x 5, 2 x 5\), so one"
    ):
        Adapter(STUDENT, mixed, MAP, Ridge(shared=True))
    ours = Geometry((*geometry(1, 2, 4, 3).layers, *geometry(1, 2, 4, 5).layers))
    with pytest.raises(ValueError, match=r"^shared: the student's layers differ in .* \(2 x 3, 2 x 5\)"):
        Adapter(ours, TEACHER, MAP, Ridge(shared=True))
    assert len(Adapter(ours, mixed, MAP, Ridge()).keys) == 2
