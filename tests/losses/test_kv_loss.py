from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kvdistill.kv import LayerKV, ModelKV, Rope
from kvdistill.losses.axis import CachedFrame
from kvdistill.losses.kv_loss import KVLoss
from pico_losses import compare

DISTANCES = ("mse", "l1", "smooth_l1", "cosine")
PLAIN = KVLoss(layer_std=False)


def layer(keys: Tensor, values: Tensor | None = None, mask: Tensor | None = None) -> LayerKV:
    mask = torch.ones(keys.shape[:3], dtype=torch.bool) if mask is None else mask
    return LayerKV(
        keys=keys,
        values=keys if values is None else values,
        mask=mask,
        positions=torch.arange(keys.shape[2]).expand(keys.shape[:3]),
    )


def model(*layers: LayerKV) -> ModelKV:
    return ModelKV(layers, tuple(range(len(layers))), "test")


def random(batch: int = 3, heads: int = 2, slots: int = 5, layers: int = 2, holes: bool = True) -> ModelKV:
    def one() -> LayerKV:
        mask = torch.rand(batch, heads, slots) < 0.7 if holes else None
        return layer(torch.randn(batch, heads, slots, 4), torch.randn(batch, heads, slots, 3), mask)

    return model(*(one() for _ in range(layers)))


def slow(loss: KVLoss, target: ModelKV, student: ModelKV) -> Tensor:
    """Number by number in float64, from the formula."""
    per_sample = []
    for b in range(len(target.layers[0].keys)):
        total = 0.0
        for theirs, ours in zip(target.layers, student.layers, strict=True):
            both = (theirs.mask & ours.mask)[b]
            for weight, k, s in (
                (loss.lambda_k, theirs.keys, ours.keys),
                (loss.lambda_v, theirs.values, ours.values),
            ):
                seen = k[b].double()[theirs.mask[b]]
                std = (
                    max(seen.std(correction=0).item() if len(seen) else 0.0, 1e-6) if loss.layer_std else 1.0
                )
                gaps = (k[b].double() - s[b].double())[both].flatten()
                small = gaps.abs() < loss.beta
                cosines = [
                    1 - float(x @ y / (x.norm() * y.norm()))
                    for x, y in zip(k[b].double()[both], s[b].double()[both], strict=True)
                ]
                kinds = {
                    "mse": gaps**2,
                    "l1": gaps.abs(),
                    "smooth_l1": torch.where(small, gaps**2 / (2 * loss.beta), gaps.abs() - loss.beta / 2),
                    "cosine": torch.tensor(cosines, dtype=torch.float64) * std,
                }
                each = kinds[loss.distance]
                size = k.shape[1] * k.shape[-1] if loss.reduction == "paper_sum" else 1
                if len(each):
                    total += 0.5 * weight * size * each.mean().item() / std / len(target.layers)
                    total += 0.5 * loss.cosine_weight * sum(cosines) / len(cosines) / len(target.layers)
        per_sample.append(total)
    return torch.tensor(per_sample, dtype=torch.float64)


def test_by_hand() -> None:
    """Keys off by 1 and 3 (mse 5, l1 2, smooth 1.5), values off by 2 everywhere (mse 4, l1 2, smooth 1.5)."""
    target = model(layer(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)))
    student = model(layer(torch.tensor([[[[1.0, -3.0]]]]), torch.full((1, 1, 1, 2), 2.0)))
    by_hand = {"mse": 4.5, "l1": 2.0, "smooth_l1": 1.5}
    for distance, expected in by_hand.items():
        assert compare(KVLoss(distance=distance, layer_std=False), target, student).loss.item() == expected
    parts = compare(replace(PLAIN, lambda_k=2.0, lambda_v=0.5), target, student)
    assert parts.loss.item() == 0.5 * (2 * 5 + 0.5 * 4)
    assert {name: value.item() for name, value in parts.metrics.items()} == {
        "kv": 6.0,
        "kv_k": 5.0,
        "kv_v": 4.0,
        "kv_layer0": 6.0,
    }


def test_standard_deviation_and_cosine_by_hand() -> None:
    """Target keys 1 and 5 (deviation 2), values 0 and 2 (deviation 1); the student is 0."""
    target = model(layer(torch.tensor([[[[1.0], [5.0]]]]), torch.tensor([[[[0.0], [2.0]]]])))
    student = model(layer(torch.zeros(1, 1, 2, 1)))
    assert compare(KVLoss(), target, student).loss.item() == pytest.approx(0.5 * (13 / 2 + 2 / 1))
    square = model(layer(torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 2.0]]]])))
    diagonal = model(layer(torch.tensor([[[[3.0, 3.0]]]]), torch.tensor([[[[0.0, -1.0]]]])))
    assert compare(KVLoss(distance="cosine"), square, diagonal).loss.item() == pytest.approx(
        0.5 * (1 - 0.5**0.5 + 2)
    )
    both = compare(replace(PLAIN, cosine_weight=10.0), square, diagonal)
    assert both.loss.item() == pytest.approx(0.5 * (6.5 + 4.5) + 10 * 0.5 * (1 - 0.5**0.5 + 2))


CHANGES = (
    {},
    {"layer_std": False, "lambda_k": 0.3},
    {"beta": 0.4, "cosine_weight": 0.7},
    {"reduction": "paper_sum"},
)


@pytest.mark.parametrize(
    ("distance", "changes"),
    [(d, c) for d in DISTANCES for c in CHANGES if d != "cosine" or "reduction" not in c],
)
def test_equals_the_slow_reference(distance: str, changes: dict) -> None:
    loss = KVLoss(**{"distance": distance, **changes})
    target, student = random(), random()
    assert torch.allclose(
        loss.per_sample(target, student)[0].double(), slow(loss, target, student), rtol=1e-5
    )


@pytest.mark.parametrize(
    "loss", [*(KVLoss(distance=d) for d in DISTANCES), KVLoss(axis="tokens")], ids=[*DISTANCES, "tokens"]
)
def test_a_sample_alone_equals_the_sample_in_a_padded_batch(loss: KVLoss) -> None:
    target, student = random(), random(holes=False)
    together = loss.per_sample(target, student)
    assert torch.allclose(compare(loss, target, student).loss, together[0].mean())
    for b in range(3):
        alone = loss.per_sample(padded(target, b, 0), padded(student, b, 0))
        assert torch.allclose(alone[:, 0], together[:, b], atol=1e-6)
        if loss.axis == "slots":
            wide = loss.per_sample(padded(target, b, 2), padded(student, b, 2))
        else:
            wide = loss.per_sample(padded(target, b, 4), padded(student, b, 1))
        assert torch.allclose(wide[:, 0], together[:, b], atol=1e-6)


def padded(kv: ModelKV, sample: int, extra: int) -> ModelKV:
    """One sample of a cache, with ``extra`` slots of NaN before its own."""

    def one(old: LayerKV) -> LayerKV:
        junk = [torch.full((1, x.shape[1], extra, x.shape[3]), float("nan")) for x in (old.keys, old.values)]
        mask = torch.cat(
            (torch.zeros(1, old.mask.shape[1], extra, dtype=torch.bool), old.mask[sample : sample + 1]), 2
        )
        keys, values = (
            torch.cat((j, x[sample : sample + 1]), 2)
            for j, x in zip(junk, (old.keys, old.values), strict=True)
        )
        return layer(keys, values, mask)

    return kv.map(tuple(one(old) for old in kv.layers))


def test_a_sample_without_a_slot_counts_zero_and_has_no_nan_gradient() -> None:
    mask = torch.tensor([[[False]], [[True]]])
    keys = torch.ones(2, 1, 1, 2, requires_grad=True)
    for distance in DISTANCES:
        student = model(layer(keys))
        loss = KVLoss(distance=distance, layer_std=False)
        target = model(layer(-torch.ones(2, 1, 1, 2), mask=mask))
        assert loss.per_sample(target, student)[:, 0].tolist() == [0, 0, 0]
        assert compare(loss, target, student).loss.item() == pytest.approx(
            {"mse": 2.0, "l1": 1.0, "smooth_l1": 0.75, "cosine": 1.0}[distance]
        )
        (grad,) = torch.autograd.grad(compare(loss, target, student).loss, keys)
        assert grad.isfinite().all() and not grad[0].any()


def test_paper_sum_is_heads_times_width_means() -> None:
    target, student = random(), random()
    mean, total = (
        PLAIN.per_sample(target, student),
        replace(PLAIN, reduction="paper_sum").per_sample(target, student),
    )
    assert torch.allclose(total[1], 2 * 4 * mean[1]) and torch.allclose(total[2], 2 * 3 * mean[2])
    filled, other = random(holes=False, layers=1), random(holes=False, layers=1)
    keys = (filled.layers[0].keys - other.layers[0].keys).square().sum((1, 2, 3)) / 5  # equation 7's 1/M
    assert torch.allclose(replace(PLAIN, reduction="paper_sum").per_sample(filled, other)[1], keys)


@pytest.mark.parametrize("distance", ["mse", "cosine"])
@pytest.mark.parametrize("convention", ["half_split", "interleaved"])
def test_both_turned_to_the_same_slots_equal_pre_rope(distance: str, convention: str) -> None:
    ropes = tuple(Rope(torch.rand(2), convention=convention) for _ in range(2))
    same = CachedFrame(ropes, torch.tensor([3, 9, 20]), torch.tensor([3, 9, 20]))
    target, student = random(), random()
    cached, plain = KVLoss(distance=distance, frame="as_cached"), KVLoss(distance=distance)
    assert torch.allclose(
        cached.per_sample(target, student, same), plain.per_sample(target, student), atol=1e-5
    )
    apart = replace(same, student_start=torch.tensor([4, 10, 21]))
    assert not torch.allclose(
        cached.per_sample(target, student, apart), plain.per_sample(target, student), atol=1e-2
    )


def test_as_cached_by_hand() -> None:
    """A half turn apart, a key is opposite to itself: gap 2 in one of two channels, mse 2; values do not
    turn.
    """
    rope = Rope(torch.tensor([torch.pi]))
    both = model(layer(torch.tensor([[[[1.0, 0.0]]]])))
    frame = CachedFrame((rope,), torch.tensor([7]), torch.tensor([4]))
    parts = compare(replace(PLAIN, frame="as_cached"), both, both, frame).metrics
    assert parts["kv_k"].item() == pytest.approx(2.0, abs=1e-5) and parts["kv_v"].item() == 0


def test_full_length_target_by_hand() -> None:
    """Tokens 0, 3, 0 through two slots at 0: mse 3; the lower bound is (1 + 4 + 1) / 3 = 2, by slots of 1."""
    loss = KVLoss(axis="tokens", layer_std=False)
    target = model(layer(torch.tensor([[[[0.0], [3.0], [0.0]]]])))
    parts = compare(loss, target, model(layer(torch.zeros(1, 1, 2, 1)))).metrics
    assert parts["kv"].item() == pytest.approx(3.0) and parts["kv_lower_bound"].item() == pytest.approx(2.0)
    best = compare(loss, target, model(layer(torch.ones(1, 1, 2, 1)))).metrics
    assert best["kv"].item() == pytest.approx(2.0)
    scaled = compare(KVLoss(axis="tokens"), target, model(layer(torch.ones(1, 1, 2, 1)))).metrics
    assert scaled["kv_lower_bound"].item() == pytest.approx(2.0 / 2**0.5)  # deviation of 0, 3, 0


def test_the_lower_bound_counts_the_layers_that_the_loss_counts() -> None:
    target, student = random(slots=9), random(slots=3)
    loss, second = KVLoss(axis="tokens"), torch.tensor([0.0, 1.0])
    alone = compare(loss, model(target.layers[1]), model(student.layers[1])).metrics
    weighted = compare(loss, target, student, layer_weights=second).metrics
    assert (
        weighted["kv_lower_bound"].item() == pytest.approx(alone["kv_lower_bound"].item())
        and alone["kv_lower_bound"].item() > 0
    )


def test_gradient_descent_reaches_the_lower_bound_and_not_less() -> None:
    target = random(slots=9)
    start = random(slots=3, holes=False)
    leaves = [x.clone().requires_grad_() for one in start.layers for x in (one.keys, one.values)]
    loss = KVLoss(axis="tokens")

    def step() -> Tensor:
        optimizer.zero_grad()
        value = compare(loss, target, model(*(layer(leaves[i], leaves[i + 1]) for i in (0, 2)))).loss
        value.backward()
        return value

    optimizer = torch.optim.LBFGS(leaves, max_iter=200, line_search_fn="strong_wolfe")
    optimizer.step(step)
    parts = compare(loss, target, model(*(layer(leaves[i], leaves[i + 1]) for i in (0, 2)))).metrics
    assert parts["kv"].item() == pytest.approx(parts["kv_lower_bound"].item(), rel=1e-3)
    assert parts["kv"].item() >= parts["kv_lower_bound"].item() - 1e-6


def test_few_tokens_have_a_lower_bound_of_0_and_leave_slots_free() -> None:
    keys = torch.zeros(1, 1, 4, 1, requires_grad=True)
    parts = compare(KVLoss(axis="tokens"), model(layer(torch.tensor([[[[1.0], [5.0]]]]))), model(layer(keys)))
    parts.loss.backward()
    assert parts.metrics["kv_lower_bound"].item() == 0
    assert keys.grad is not None and [bool(g) for g in keys.grad.flatten()] == [True, False, False, True]


def test_gradients_reach_the_target_only_through_what_learns() -> None:
    captured, student = random().detach(), random()
    keys = [one.keys.requires_grad_() for one in student.layers]
    compare(KVLoss(), captured, student).loss.backward()
    assert all(one.keys.grad is None and one.values.grad is None for one in captured.layers)
    assert all(key.grad is not None and key.grad.abs().sum() > 0 for key in keys)
    gain = torch.ones((), requires_grad=True)
    adapted = captured.map(tuple(one.replace(keys=gain * one.keys) for one in captured.layers))
    compare(KVLoss(), adapted, student.detach()).loss.backward()
    assert gain.grad is not None and gain.grad.abs() > 0


def test_layer_weights_choose_layers() -> None:
    target, student = random(layers=3), random(layers=3)
    apart = [PLAIN.per_sample(model(t), model(s)) for t, s in zip(target.layers, student.layers, strict=True)]
    weighted = PLAIN.per_sample(target, student, layer_weights=torch.tensor([1.0, 0.0, 3.0]))
    assert torch.allclose(weighted, 0.25 * apart[0] + 0.75 * apart[2])
    with pytest.raises(ValueError, match="layer weights sum to 0"):
        compare(PLAIN, target, student, layer_weights=torch.zeros(3))


@given(st.integers(0, 2**31), st.floats(0.1, 10.0))
def test_a_common_scale_leaves_the_cosine_and_scales_the_divided_mse_once(seed: int, scale: float) -> None:
    torch.manual_seed(seed)
    target, student = random(batch=1), random(batch=1)

    def times(kv: ModelKV) -> ModelKV:
        return kv.map(
            tuple(one.replace(keys=scale * one.keys, values=scale * one.values) for one in kv.layers)
        )

    for distance, power in (("mse", 1), ("l1", 0), ("cosine", 0)):
        loss = KVLoss(distance=distance)
        before, after = compare(loss, target, student).loss, compare(loss, times(target), times(student)).loss
        assert torch.allclose(after, before * scale**power, rtol=1e-3, atol=1e-5)


def test_wrong_settings_are_refused_in_words() -> None:
    for settings, words in (
        ({"lambda_k": -1.0}, "must not be negative"),
        ({"beta": 0.0}, "above 0"),
        ({"distance": "cosine", "reduction": "paper_sum"}, "Set reduction to 'mean'"),
        ({"axis": "tokens", "frame": "as_cached"}, "Set frame to 'pre_rope'"),
    ):
        with pytest.raises(ValueError, match=words):
            KVLoss(**settings)


def test_wrong_inputs_are_refused_in_words() -> None:
    target, student = random(), random()
    rotated = target.map(tuple(one.replace(rope=Rope(torch.ones(2))) for one in target.layers))
    with pytest.raises(ValueError, match=r"kv_loss \(target\): keys of layer 0 of test are rotated"):
        compare(KVLoss(), rotated, student)
    with pytest.raises(ValueError, match=r"kv_loss \(student\)"):
        compare(KVLoss(), target, rotated)
    with pytest.raises(ValueError, match="needs a CachedFrame"):
        compare(KVLoss(frame="as_cached"), target, student)
    with pytest.raises(ValueError, match="holds 1 rotations for 2 layers"):
        compare(
            KVLoss(frame="as_cached"),
            target,
            student,
            CachedFrame((None,), torch.zeros(3).long(), torch.zeros(3).long()),
        )
    with pytest.raises(ValueError, match="Compress to the student's slots"):
        compare(KVLoss(), random(slots=6), student)


def test_half_precision_is_summed_in_float32() -> None:
    target, student = (
        model(layer(torch.full((1, 1, 2, 2), x, dtype=torch.float16))) for x in (300.0, -300.0)
    )
    assert compare(PLAIN, target, student).loss.item() == 360000.0
