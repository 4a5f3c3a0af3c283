"""The projector by hand, its gradients in float64, and the loss that it stands in."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kvdistill.align.layer_map import LayerMap, LayerPair, Ratio
from kvdistill.align.projector import Projector
from kvdistill.kv import Geometry, LayerGeometry, LayerKV, ModelKV, Rope, full_mask
from kvdistill.losses import KVLoss
from pico_losses import compare


def geometry(num_layers: int, heads: int, key_width: int, value_width: int) -> Geometry:
    return Geometry(
        (LayerGeometry(heads, key_width, value_width, rope=None, positional="rotary"),) * num_layers
    )


def cache(shape: Geometry, slots: int = 5, learns: bool = False) -> ModelKV:
    layers = []
    for layer in shape.layers:
        keys, values = (
            torch.randn(2, layer.heads, slots, width) for width in (layer.key_width, layer.value_width)
        )
        mask = full_mask(keys)
        layers.append(
            LayerKV(
                keys.requires_grad_(learns),
                values.requires_grad_(learns),
                mask,
                torch.arange(slots).expand(mask.shape),
            )
        )
    return ModelKV(tuple(layers), tuple(range(len(layers))), "a cache")


STUDENT, TEACHER = geometry(2, 2, 4, 6), geometry(4, 3, 8, 5)
MAP = LayerMap((LayerPair(0, 0, 1.0), LayerPair(1, 2, 0.25), LayerPair(1, 3, 0.75)))


def test_by_hand() -> None:
    """One pair: two heads of width 1 go to one head of width 2 by (1 2; 3 4), slot by slot."""
    projector = Projector(geometry(1, 2, 1, 1), geometry(1, 1, 2, 1), LayerMap((LayerPair(0, 0, 1.0),)))
    with torch.no_grad():
        projector.keys[0].weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        projector.values[0].weight.copy_(torch.tensor([[1.0, -1.0]]))
    states = torch.tensor([[[[1.0], [2.0]], [[10.0], [20.0]]]])
    moved = projector.move(
        ModelKV(
            (LayerKV(states, states, full_mask(states), torch.tensor([[[0, 1]] * 2])),), (0,), "two heads"
        )
    )
    assert moved.layers[0].keys.tolist() == [[[[21.0, 43.0], [42.0, 86.0]]]]
    assert moved.layers[0].values.tolist() == [[[[-9.0], [-18.0]]]]
    assert moved.layers[0].positions.tolist() == [[[0, 1]]]
    assert moved.layers[0].mask.all()


def test_entries_and_weights_by_hand() -> None:
    projector = Projector(STUDENT, TEACHER, MAP)
    moved, target = projector.move(cache(STUDENT)), cache(TEACHER)
    chosen = projector.select(target)
    assert moved.layer_ids == chosen.layer_ids == (0, 2, 3)
    assert [
        layer.keys is target.layers[index].keys for layer, index in zip(chosen.layers, (0, 2, 3), strict=True)
    ] == [True] * 3
    for ours, theirs in zip(moved.layers, chosen.layers, strict=True):
        assert (
            (ours.keys.shape, ours.values.shape)
            == (theirs.keys.shape, theirs.values.shape)
            == ((2, 3, 5, 8), (2, 3, 5, 5))
        )
        assert ours.mask.shape == ours.positions.shape == (2, 3, 5)
    assert projector.weights().tolist() == [1.0, 0.25, 0.75]
    assert projector.weights(torch.tensor([1.0, 0.0])).tolist() == [1.0, 0.0, 0.0]


def test_layers_without_attention_are_skipped_on_both_sides() -> None:
    """Pairs count attention layers: student layers 1 and 3 with teacher layers 2 and 5 of their models."""
    shape = geometry(2, 1, 2, 2)
    student, teacher = Geometry(shape.layers, (1, 3)), Geometry(shape.layers, (2, 5))
    projector = Projector(student, teacher, LayerMap((LayerPair(0, 0, 1.0), LayerPair(1, 1, 1.0))))
    own, target = replace(cache(shape), layer_ids=(1, 3)), replace(cache(shape), layer_ids=(2, 5))
    moved, chosen = projector.move(own), projector.select(target)
    assert moved.layer_ids == chosen.layer_ids == (2, 5)
    # Both sides have one geometry, so the maps are the identity.
    assert torch.equal(moved.layers[1].keys, own.layers[1].keys)
    assert chosen.layers[1].keys is target.layers[1].keys
    assert projector.weights(torch.tensor([1.0, 3.0])).tolist() == [1.0, 3.0]


def test_the_loss_of_a_student_layer_is_the_mean_over_its_pairs() -> None:
    """Student layers count alike, whatever the number of their pairs."""
    projector, loss = Projector(STUDENT, TEACHER, MAP), KVLoss()
    moved, chosen = projector.move(cache(STUDENT)), projector.select(cache(TEACHER))
    one, two, three = (compare(loss, chosen, moved, layer_weights=alone).loss for alone in torch.eye(3))
    whole = compare(loss, chosen, moved, layer_weights=projector.weights()).loss
    torch.testing.assert_close(whole, (one + 0.25 * two + 0.75 * three) / 2)
    first = compare(loss, chosen, moved, layer_weights=projector.weights(torch.tensor([1.0, 0.0]))).loss
    torch.testing.assert_close(first, one)


def test_equal_geometry_starts_at_the_identity() -> None:
    student = cache(STUDENT)
    moved = Projector(STUDENT, STUDENT, Ratio().pair(STUDENT, STUDENT)).move(student)
    for ours, theirs in zip(student.layers, moved.layers, strict=True):
        assert torch.equal(ours.keys, theirs.keys)
        assert torch.equal(ours.values, theirs.values)


@pytest.mark.parametrize("teacher", [TEACHER, geometry(4, 1, 3, 7), geometry(4, 4, 2, 3)])
def test_unlike_geometry_starts_orthogonal_and_keeps_the_mean_square(teacher: Geometry) -> None:
    """Also where heads x width agrees and the heads do not (4 x 2 against 2 x 4): nothing says which head
    answers to which.
    """
    projector = Projector(STUDENT, teacher, MAP)
    for linear in (*projector.keys, *projector.values):
        rows, columns = linear.weight.shape
        gain = max(1.0, rows / columns)
        gram = linear.weight.T @ linear.weight if rows >= columns else linear.weight @ linear.weight.T
        torch.testing.assert_close(gram, torch.eye(min(rows, columns)) * gain, rtol=1e-4, atol=1e-5)
        states = torch.randn(20_000, columns)
        assert linear(states).square().mean().item() == pytest.approx(1.0, abs=0.05)


def test_the_start_is_the_seeds_and_takes_no_numbers() -> None:
    before = torch.get_rng_state()
    first = Projector(STUDENT, TEACHER, MAP)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.keys[1].weight, Projector(STUDENT, TEACHER, MAP).keys[1].weight)
    torch.manual_seed(1)
    assert not torch.equal(first.keys[1].weight, Projector(STUDENT, TEACHER, MAP).keys[1].weight)


def test_names_of_the_weights() -> None:
    names = [f"{part}.{index}.weight" for part in ("keys", "values") for index in range(3)]
    assert list(Projector(STUDENT, TEACHER, MAP).state_dict()) == names


class Moving(torch.nn.Module):
    """What ``functional_call`` can call with other weights."""

    def __init__(self, projector: Projector) -> None:
        super().__init__()
        self.projector = projector

    def forward(self, student: ModelKV) -> ModelKV:
        return self.projector.move(student)


def test_gradients_in_float64() -> None:
    """By keys and values of a student layer that two pairs read, and by a map of each kind."""
    ours, theirs = geometry(2, 2, 2, 1), geometry(4, 1, 3, 2)
    projector, student, target = Projector(ours, theirs, MAP), cache(ours, slots=2), cache(theirs, slots=2)

    def loss(keys: Tensor, values: Tensor, *weights: Tensor) -> Tensor:
        read = student.map((student.layers[0], student.layers[1].replace(keys=keys, values=values)))
        swapped = dict(zip(("projector.keys.1.weight", "projector.values.2.weight"), weights, strict=True))
        moved = torch.func.functional_call(Moving(projector), swapped, (read,))
        return compare(KVLoss(), projector.select(target), moved, layer_weights=projector.weights()).loss

    inputs = (
        student.layers[1].keys,
        student.layers[1].values,
        projector.keys[1].weight,
        projector.values[2].weight,
    )
    projector.double()
    assert torch.autograd.gradcheck(loss, [states.detach().double().requires_grad_() for states in inputs])


def test_gradients_reach_projector_and_student_and_not_the_target() -> None:
    projector, student, target = Projector(STUDENT, TEACHER, MAP), cache(STUDENT, learns=True), cache(TEACHER)
    compare(
        KVLoss(), projector.select(target), projector.move(student), layer_weights=projector.weights()
    ).loss.backward()
    for learns in (
        *projector.parameters(),
        *(x for layer in student.layers for x in (layer.keys, layer.values)),
    ):
        assert learns.grad is not None
        assert learns.grad.norm() > 0
    assert all(x.grad is None for layer in target.layers for x in (layer.keys, layer.values))


def test_padding_is_read_as_nothing() -> None:
    """Not a number in a masked slot reaches neither the other slots nor a gradient."""
    projector, student, target = Projector(STUDENT, TEACHER, MAP), cache(STUDENT), cache(TEACHER)
    clean = [layer.keys[:, :, :4] for layer in projector.move(student).layers]
    for layer in student.layers:
        layer.keys[:, :, 4], layer.values[:, :, 4] = torch.nan, torch.nan
    masked = student.map(
        tuple(layer.replace(mask=torch.arange(5).expand(layer.mask.shape) < 4) for layer in student.layers)
    )
    moved = projector.move(masked)
    assert all(
        torch.equal(layer.keys[:, :, :4], keys) for layer, keys in zip(moved.layers, clean, strict=True)
    )
    assert not moved.layers[0].mask[..., 4].any()
    compare(KVLoss(), projector.select(target), moved).loss.backward()
    assert all(weight.grad.isfinite().all() for weight in projector.parameters())


def test_half_precision_is_projected_in_the_projectors_own() -> None:
    student = cache(STUDENT)
    half = student.map(
        tuple(
            layer.replace(keys=layer.keys.bfloat16(), values=layer.values.bfloat16())
            for layer in student.layers
        )
    )
    assert Projector(STUDENT, TEACHER, MAP).move(half).layers[0].keys.dtype == torch.float32


@pytest.mark.parametrize("field", ["mask", "positions"])
def test_heads_that_keep_unlike_tokens_are_refused(field: str) -> None:
    student = cache(STUDENT)
    layer = student.layers[1]
    other = getattr(layer, field).clone()
    other[1, 1, 2] = 0
    unlike = student.map((student.layers[0], layer.replace(**{field: other})))
    with pytest.raises(
        ValueError, match=r"the heads of layer 1 of a cache keep unlike tokens.*selection 'shared'\)\."
    ):
        Projector(STUDENT, TEACHER, MAP).move(unlike)


def test_rotated_keys_are_refused() -> None:
    student = cache(STUDENT)
    rotated = student.map(tuple(layer.replace(rope=Rope(torch.ones(2))) for layer in student.layers))
    with pytest.raises(ValueError, match="align/projector: keys of layer 0 of a cache are rotated"):
        Projector(STUDENT, TEACHER, MAP).move(rotated)
