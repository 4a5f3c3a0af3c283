"""What holds for every compressor: one matrix over the whole union."""

from dataclasses import fields, replace
from typing import Annotated, get_args

import pydantic
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kvdistill.compress import CompressorMethod, Full, FullResampled, RKVDecode, ScoreCompressor, StepEnd
from kvdistill.kv import LayerKV, Rope

CLASSES = get_args(CompressorMethod)


def every_method() -> list:
    """All methods, in both selections where there are two; a window that leaves room in a few slots."""
    plain = [kind(window=1) if kind is RKVDecode else kind() for kind in CLASSES]
    shared = [
        replace(method, selection="shared")
        for method in plain
        if isinstance(method, ScoreCompressor) and method.kind != "step_end"
    ]
    return plain + shared


def name_of(method) -> str:
    return f"{method.kind}-{getattr(method, 'selection', 'whole')}"


METHODS = pytest.mark.parametrize("method", every_method(), ids=name_of)
quick = settings(max_examples=settings().max_examples // 3)
"""Each case runs for every method, so a third of the examples goes a long way."""


def random_mask(shape: tuple[int, ...], share: float, seed: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) <= share


masks = st.builds(
    random_mask,
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(0, 9)),
    st.floats(0, 1),
    st.integers(0, 999),
)


def contiguous(lengths: list[int], slots: int, side: str) -> Tensor:
    time = torch.arange(slots)
    mask = torch.stack([time >= slots - n if side == "left" else time < n for n in lengths])
    return mask[:, None].expand(-1, 2, -1)


def same(one: LayerKV, other: LayerKV) -> bool:
    return all(
        getattr(one, field.name) is None
        if getattr(other, field.name) is None
        else torch.equal(getattr(one, field.name), getattr(other, field.name))
        for field in fields(LayerKV)
    )


def samples_of(layer: LayerKV, index: list[int]) -> LayerKV:
    names = [field.name for field in fields(LayerKV) if isinstance(getattr(layer, field.name), Tensor)]
    return layer.replace(**{name: getattr(layer, name)[index] for name in names})


def run(method, make_kv, layer: LayerKV, slots: int) -> LayerKV:
    return method.compress(make_kv(layer), slots).layers[0]


def skip_full(method, reason: str = "full keeps the tokens as they are: it chooses none") -> None:
    if isinstance(method, Full):
        pytest.skip(reason)


def test_the_kinds_tell_the_methods_apart() -> None:
    kinds = [kind().kind for kind in CLASSES]
    assert len(set(kinds)) == len(kinds) == 11
    adapter = pydantic.TypeAdapter(Annotated[CompressorMethod, pydantic.Field(discriminator="kind")])
    assert [type(adapter.validate_python({"kind": kind})) for kind in kinds] == list(CLASSES)
    with pytest.raises(pydantic.ValidationError, match="rkv2"):
        adapter.validate_python({"kind": "rkv2"})


@METHODS
@quick
@given(masks, st.integers(2, 6))
def test_any_mask(make_layer, make_kv, method, mask, slots) -> None:
    skip_full(method)
    layer = make_layer(mask)
    spoilt = layer.replace(
        keys=layer.keys.masked_fill(~mask[..., None], torch.nan),
        positions=layer.positions.masked_fill(~mask, -1),
    )
    out = run(method, make_kv, spoilt, slots)
    assert (
        out.keys.shape[:3]
        == out.values.shape[:3]
        == out.mask.shape
        == out.positions.shape
        == (*mask.shape[:2], slots)
    )
    assert out.keys.isfinite().all(), "padding is never kept"
    assert (
        not out.keys[~out.mask].any()
        and not out.values[~out.mask].any()
        and not out.positions[~out.mask].any()
    )
    later = (
        out.positions.diff(dim=-1) if isinstance(method, FullResampled) else out.positions.diff(dim=-1) - 1
    )
    assert (later[out.mask[..., 1:]] >= 0).all(), "in time order"
    assert not (out.mask[..., 1:] & ~out.mask[..., :-1]).any(), "spare slots come last"


@METHODS
@quick
@given(masks, st.integers(2, 6))
def test_as_many_as_there_are(make_layer, make_kv, method, mask, slots) -> None:
    skip_full(method)
    mask = mask[:, :1].expand(mask.shape)
    layer = make_layer(mask)
    number = (mask & layer.step_end if isinstance(method, StepEnd) else mask).sum(-1)
    kept = run(method, make_kv, layer, slots).mask.sum(-1)
    if isinstance(method, FullResampled):
        assert torch.equal(kept, torch.where(number > 0, slots, 0))
    else:
        assert torch.equal(kept, number.clamp_max(slots))


@METHODS
def test_kept_slots_are_tokens_unchanged(make_layer, make_kv, method) -> None:
    if isinstance(method, FullResampled):
        pytest.skip("full_resampled blends tokens: its own tests say into what")
    layer = make_layer(torch.ones(2, 2, 9, dtype=torch.bool), seed=1)
    out = run(method, make_kv, layer, 4)
    wide = out.positions[..., None]
    for name in ("keys", "values"):
        source, target = getattr(layer, name), getattr(out, name)
        assert torch.equal(source.gather(2, wide.expand_as(target))[out.mask], target[out.mask])


@METHODS
@quick
@given(st.lists(st.integers(0, 9), min_size=2, max_size=4), st.integers(0, 999), st.integers(2, 6))
def test_a_sample_alone_is_the_sample_in_a_batch(make_layer, make_kv, method, lengths, seed, slots) -> None:
    layer = make_layer(contiguous(lengths, 9, "right"), seed=seed)
    together = run(method, make_kv, layer, slots)
    for sample in range(len(lengths)):
        assert same(run(method, make_kv, samples_of(layer, [sample]), slots), samples_of(together, [sample]))


@METHODS
@quick
@given(st.permutations(range(4)), st.integers(0, 999), st.integers(2, 6))
def test_samples_may_change_places(make_layer, make_kv, method, order, seed, slots) -> None:
    layer = make_layer(random_mask((4, 2, 9), 0.8, seed), seed=seed)
    assert same(
        run(method, make_kv, samples_of(layer, list(order)), slots),
        samples_of(run(method, make_kv, layer, slots), list(order)),
    )


@METHODS
@quick
@given(st.lists(st.integers(0, 9), min_size=1, max_size=3), st.integers(0, 999), st.integers(2, 6))
def test_left_padding_is_right_padding(make_layer, make_kv, method, lengths, seed, slots) -> None:
    skip_full(method, "full keeps the padding where it is")
    right = make_layer(contiguous(lengths, 9, "right"), seed=seed)

    def shift(values: Tensor) -> Tensor:
        return torch.stack([row.roll(9 - n, dims=1) for row, n in zip(values, lengths, strict=True)])

    names = [field.name for field in fields(LayerKV) if isinstance(getattr(right, field.name), Tensor)]
    left = right.replace(**{name: shift(getattr(right, name)) for name in names})
    assert torch.equal(left.mask, contiguous(lengths, 9, "left"))
    assert same(run(method, make_kv, left, slots), run(method, make_kv, right, slots))


@METHODS
def test_padding_changes_nothing(make_layer, make_kv, method) -> None:
    skip_full(method, "full keeps the padding")
    layer = make_layer(contiguous([7], 12, "right"), seed=4)
    unpadded = layer.replace(
        **{
            name: getattr(layer, name)[:, :, :7]
            for name in ("keys", "values", "mask", "positions", "importance", "step_end")
        }
    )
    assert same(run(method, make_kv, layer, 3), run(method, make_kv, unpadded, 3))


@METHODS
def test_a_sample_without_tokens_gives_empty_slots(make_layer, make_kv, method) -> None:
    skip_full(method, "full keeps the empty sample as long as its batch")
    out = run(method, make_kv, make_layer(contiguous([0, 6], 6, "right")), 3)
    assert (
        not out.mask[0].any()
        and not out.keys[0].any()
        and not out.values[0].any()
        and not out.positions[0].any()
    )
    assert out.mask[1].any()


@METHODS
def test_gradients_reach_the_kept_tokens(make_layer, make_kv, method) -> None:
    layer = make_layer(torch.tensor([[[False, True, True, True, True]]]), seed=2, key_width=2, value_width=1)
    layer = layer.replace(step_end=torch.tensor([[[False, True, False, True, True]]]))

    def through(keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        out = run(method, make_kv, layer.replace(keys=keys, values=values), 3)
        return out.keys, out.values

    keys, values = layer.keys.clone().requires_grad_(), layer.values.clone().requires_grad_()
    assert torch.autograd.gradcheck(through, (keys, values))
    through(keys, values)[0].sum().backward()
    assert keys.grad is not None and keys.grad.any(), "something is kept, and its gradient is not zero"
    if not isinstance(method, Full):
        assert not keys.grad[~layer.mask].any(), "none reaches padding"


@METHODS
def test_heads_agree_when_shared(make_layer, make_kv, method) -> None:
    if not isinstance(method, ScoreCompressor):
        pytest.skip(f"{method.kind} has no scores to average")
    out = run(method, make_kv, make_layer(contiguous([30, 21], 30, "right"), seed=8), 5)
    agree = torch.equal(out.positions[:, 0], out.positions[:, 1])
    blind = method.kind in ("right_crop", "left_crop")
    assert agree == (method.selection == "shared" or blind)


@METHODS
def test_rotation_and_no_slots_are_refused(make_layer, make_kv, method) -> None:
    layer = make_layer(torch.ones(1, 1, 4, dtype=torch.bool))
    with pytest.raises(
        ValueError, match=f"{type(method).__name__}: keys of layer 0 of a tiny model are rotated"
    ):
        run(method, make_kv, layer.replace(rope=Rope(inv_freq=torch.ones(2))), 2)
    with pytest.raises(
        ValueError, match=f"{type(method).__name__}: the cache cannot be compressed to slots=0"
    ):
        run(method, make_kv, layer, 0)


@METHODS
def test_the_callers_cache_stays_as_it_is(make_layer, make_kv, method) -> None:
    layer = make_layer(random_mask((2, 2, 8), 0.7, 3), seed=3)
    names = ("keys", "values", "mask", "positions", "importance", "step_end")
    before = layer.replace(**{name: getattr(layer, name).clone() for name in names})
    kv = make_kv(layer, layer)
    out = method.compress(kv, 3)
    assert same(layer, before)
    assert (out.layer_ids, out.source, len(out.layers)) == (kv.layer_ids, kv.source, 2)
    assert same(out.layers[0], method.compress(kv, 3).layers[1]), "the same call gives the same slots"


@METHODS
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_width_of_numbers_is_kept(make_layer, make_kv, method, dtype) -> None:
    out = run(method, make_kv, make_layer(torch.ones(1, 2, 9, dtype=torch.bool), dtype=dtype), 4)
    assert out.keys.dtype == out.values.dtype == out.importance.dtype == dtype
