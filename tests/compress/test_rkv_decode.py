"""The decode-time R-KV against a slow account of the authors' selection."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kvdistill.compress.rkv_decode import ROWS, RKVDecode, pool_neighbours
from kvdistill.kv import LayerKV


def selection_by_rows(keys: Tensor, attention: Tensor, budget: int, method: RKVDecode) -> list[int]:
    """One head: the whole table of cosines, token by token. ``attention`` covers the tokens before the
    window.
    """
    number, old = len(keys), len(keys) - method.window
    if number <= budget:
        return list(range(number))
    unit = keys / (keys.norm(dim=-1, keepdim=True) + 1e-8)
    table = unit @ unit.T
    for row in range(number):
        table[row, row] = 0.0
        alike = [column for column in range(number) if table[row, column] > method.threshold]
        table[row, alike[-1] if alike else 0] = 0.0
    redundancy = torch.softmax(table.sum(dim=0) / number, dim=0)
    reach = method.pool // 2
    pooled = torch.stack([attention[max(0, i - reach) : i + reach + 1].max() for i in range(old)])
    score = method.importance_weight * pooled - (1.0 - method.importance_weight) * redundancy[:old]
    return sorted(score.argsort(descending=True, stable=True)[: budget - method.window].tolist()) + list(
        range(old, number)
    )


def window_attention(queries: Tensor, layer: LayerKV, window: int) -> Tensor:
    """What the last queries attend to before the window, the largest of a group of query heads taken before
    the softmax.
    """
    heads, slots, width = layer.keys.shape[1:]
    grouped = queries.unflatten(1, (heads, -1))
    logits = (grouped @ layer.keys[:, :, None].mT / width**0.5).amax(dim=2)[..., : slots - window]
    return logits.softmax(dim=-1).mean(dim=-2)


def five_keys(make_layer, importance: list[float]) -> LayerKV:
    layer = make_layer(torch.ones(1, 1, 5, dtype=torch.bool), key_width=3)
    keys = torch.tensor([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]], dtype=torch.float64)
    return layer.replace(keys=keys[None, None], importance=torch.tensor([[importance]], dtype=torch.float64))


def test_by_hand(make_layer, kept) -> None:
    """Tokens 0, 1 and 4 are alike: struck out are (0, 4), (1, 4) and (4, 1), so the columns sum to 2, 1, 0,
    0, 0.
    """
    method = RKVDecode(window=1, pool=1)
    layer = five_keys(make_layer, [0.0, 0.0, 0.0, 0.0, 1.0])
    assert method.redundancy(layer)[0, 0].tolist() == pytest.approx(
        [0.261118, 0.213785, 0.175033, 0.175033, 0.175033], abs=1e-6
    )
    assert kept(method, layer, 3) == [2, 3, 4]
    assert kept(method, five_keys(make_layer, [0.0, 0.5, 0.0, 0.0, 0.5]), 3) == [1, 2, 4], (
        "0.05 lifts token 1 from -0.1924 to -0.1424"
    )


def test_the_window_lifts_no_neighbour_by_hand(make_layer, kept) -> None:
    layer = five_keys(make_layer, [0.0, 0.0, 0.0, 0.0, 1.0])
    assert kept(RKVDecode(window=1, pool=3), layer, 2) == [2, 4], (
        "token 3 stays level with token 2, though its neighbour has all"
    )


def test_padding_changes_no_score(make_layer) -> None:
    mask = torch.tensor([[[False, True, True, False, True, True, True, False]]])
    layer, valid = make_layer(mask), mask[0, 0]
    names = ("keys", "values", "mask", "positions", "importance", "step_end")
    packed = layer.replace(**{name: getattr(layer, name)[:, :, valid] for name in names})
    method = RKVDecode(window=2, pool=3)
    assert torch.allclose(method.score(layer)[mask], method.score(packed).flatten())
    assert method.redundancy(layer).sum().item() == pytest.approx(1.0)


def test_pooling_by_hand() -> None:
    values = torch.tensor([[[5.0, 1.0, 9.0, 7.0, 3.0, 0.0]]])
    where = torch.tensor([[[True, True, False, True, True, True]]])
    assert pool_neighbours(values, where, 3).tolist() == [[[5.0, 7.0, 0.0, 7.0, 7.0, 3.0]]], (
        "the gap closes, its 9 is nobody's neighbour"
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("slots", "spread"), [(20, 0.0), (20, 1.0), (20, 3.0), (2 * ROWS + 5, 0.5)])
def test_equals_the_published_selection(make_layer, kept, slots, spread, dtype) -> None:
    """On the same scores: a window of queries in groups. ``spread`` sets how many keys are alike."""
    method = RKVDecode()
    layer = make_layer(torch.ones(2, 2, slots, dtype=torch.bool), seed=slots, dtype=dtype, key_width=8)
    layer = layer.replace(keys=layer.keys + spread)
    queries = torch.randn(
        2, 4, method.window, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    ).to(dtype)
    attention = window_attention(queries, layer, method.window)
    layer = layer.replace(importance=torch.nn.functional.pad(attention, (0, method.window)))
    for sample, head in ((0, 0), (0, 1), (1, 0), (1, 1)):
        wanted = selection_by_rows(
            layer.keys[sample, head].double(), attention[sample, head].double(), 16, method
        )
        assert kept(method, layer, 16, sample, head) == wanted


methods = st.builds(
    RKVDecode,
    importance_weight=st.sampled_from([0.1, 0.9]),
    window=st.integers(1, 4),
    pool=st.sampled_from([1, 3, 7]),
    threshold=st.just(0.3),
)


@given(methods, st.integers(0, 10_000), st.integers(1, 25), st.integers(5, 12))
def test_equals_it_between_padding(make_layer, kept, method, seed, slots, budget) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(1, 1, slots, generator=generator) <= torch.rand(1, generator=generator)
    layer = make_layer(mask, seed=seed)
    valid = mask[0, 0].nonzero()[:, 0]
    attention = layer.importance[0, 0, valid][: max(len(valid) - method.window, 0)]
    chosen = selection_by_rows(layer.keys[0, 0, valid], attention, budget, method)
    assert kept(method, layer, budget) == valid[chosen].tolist()


def test_lambda_and_threshold_change_the_choice(make_layer, kept) -> None:
    layer = make_layer(torch.ones(1, 1, 60, dtype=torch.bool), seed=5)
    choices = [
        kept(RKVDecode(window=2, **change), layer, 12)
        for change in ({}, {"importance_weight": 1.0}, {"threshold": 0.99})
    ]
    assert len(set(map(tuple, choices))) == 3


def test_no_room_beside_the_window_is_refused(make_layer, make_kv) -> None:
    kv = make_kv(make_layer(torch.ones(1, 1, 20, dtype=torch.bool)))
    with pytest.raises(
        ValueError, match=r"RKVDecode: a window of 8 fills slots=8. Set window below the number of slots."
    ):
        RKVDecode().compress(kv, 8)
    with pytest.raises(ValueError, match="RKVDecode: the cache cannot be compressed to slots=0"):
        RKVDecode().compress(kv, 0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"importance_weight": 2.0}, "importance_weight .* is 2.0. Set it between 0 and 1"),
        ({"window": 0}, "window is 0 and pool 7. Set both to 1 or more, and pool to an odd number"),
        ({"pool": 4}, "window is 8 and pool 4. Set both to 1 or more, and pool to an odd number"),
        ({"threshold": -0.5}, "threshold is -0.5. It is a cosine: set it between 0 and 1"),
    ],
)
def test_impossible_settings_are_refused(settings, words) -> None:
    with pytest.raises(ValueError, match=words):
        RKVDecode(**settings)
