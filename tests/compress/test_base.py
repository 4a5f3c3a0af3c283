"""Choosing by score, and taking the chosen slots."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

from kvdistill.compress.base import ScoreCompressor, gather_kept, keep_best, pad_slots, valid_first
from kvdistill.kv import LayerKV, Rope


@dataclass(frozen=True, kw_only=True)
class ByImportance(ScoreCompressor):
    """A method for the tests: the importance is the score."""

    def score(self, layer: LayerKV) -> Float[Tensor, "B H T"]:
        assert layer.importance is not None
        return layer.importance


def scored(make_layer, rows: list[list[float]]) -> LayerKV:
    scores = torch.tensor([rows])
    return make_layer(torch.ones(scores.shape, dtype=torch.bool), dtype=torch.float32).replace(
        importance=scores
    )


def test_the_best_in_time_order_by_hand(make_layer, kept) -> None:
    layer = scored(make_layer, [[0.1, 0.9, 0.2, 0.8]])
    assert kept(ByImportance(), layer, 2) == [1, 3]
    assert kept(ByImportance(), layer, 3) == [1, 2, 3]


def test_equal_scores_go_to_the_earlier_slot(make_layer, kept) -> None:
    layer = scored(make_layer, [[0.5, 0.7, 0.5, 0.5, 0.7]])
    assert kept(ByImportance(), layer, 3) == [0, 1, 4]
    assert kept(ByImportance(), layer, 4) == [0, 1, 2, 4]


def test_never_a_minus_infinity(make_layer, make_kv) -> None:
    layer = scored(make_layer, [[-torch.inf, 0.7, -torch.inf, 0.1]])
    out = ByImportance().compress(make_kv(layer), 3).layers[0]
    assert out.mask.tolist() == [[[True, True, False]]]
    assert out.positions.tolist() == [[[1, 3, 0]]]
    assert not out.keys[0, 0, 2].any() and not out.values[0, 0, 2].any() and out.importance[0, 0, 2] == 0


def test_per_head_and_shared_by_hand(make_layer, kept) -> None:
    layer = scored(make_layer, [[0.9, 0.0, 0.4], [0.0, 0.8, 0.7]])
    assert [kept(ByImportance(), layer, 1, head=head) for head in (0, 1)] == [[0], [1]]
    shared = ByImportance(selection="shared")
    assert [kept(shared, layer, 1, head=head) for head in (0, 1)] == [[2], [2]], "means are 0.45, 0.4, 0.55"


def test_shared_never_keeps_what_one_head_bars(make_layer, kept) -> None:
    layer = scored(make_layer, [[0.9, 0.1, 0.2], [-torch.inf, 0.1, 0.2]])
    assert kept(ByImportance(selection="shared"), layer, 2) == [1, 2]
    layer = scored(make_layer, [[torch.inf, 0.1], [-torch.inf, 0.1]])
    assert kept(ByImportance(selection="shared"), layer, 1) == [1], (
        "an infinite pair has no mean, and is barred"
    )


def test_everything_of_a_token_moves_along(make_layer, make_kv) -> None:
    layer = make_layer(torch.ones(2, 2, 6, dtype=torch.bool), seed=3)
    out = ByImportance().compress(make_kv(layer), 3).layers[0]
    for sample, head, slot in torch.cartesian_prod(
        torch.arange(2), torch.arange(2), torch.arange(3)
    ).tolist():
        token = out.positions[sample, head, slot].item()
        for name in ("keys", "values", "importance", "step_end"):
            assert torch.equal(
                getattr(out, name)[sample, head, slot], getattr(layer, name)[sample, head, token]
            )


def test_a_short_cache_is_filled_up(make_layer) -> None:
    layer = make_layer(torch.ones(1, 1, 2, dtype=torch.bool))
    padded = pad_slots(layer, 4)
    assert padded.mask.tolist() == [[[True, True, False, False]]]
    assert {
        getattr(padded, name).shape[2] for name in ("keys", "values", "positions", "importance", "step_end")
    } == {4}
    assert pad_slots(layer, 2) is layer


def test_a_cache_without_any_slot_gives_empty_slots(make_layer, make_kv) -> None:
    out = ByImportance().compress(make_kv(make_layer(torch.ones(1, 1, 0, dtype=torch.bool))), 2).layers[0]
    assert out.mask.tolist() == [[[False, False]]] and out.keys.shape == (1, 1, 2, 4)


def test_valid_first_by_hand() -> None:
    assert valid_first(torch.tensor([[[False, True, False, True]]])).tolist() == [[[1, 3, 0, 2]]]


def test_gather_keeps_absent_fields_absent(make_layer) -> None:
    layer = make_layer(torch.ones(1, 1, 3, dtype=torch.bool)).replace(importance=None, step_end=None)
    out = gather_kept(layer, torch.tensor([[[True, False, True]]]), 2)
    assert out.importance is None and out.step_end is None and out.positions.tolist() == [[[0, 2]]]


@given(
    st.lists(st.sampled_from([-torch.inf, 0.0, 1.0, 2.0, 3.5, torch.inf]), min_size=1, max_size=12),
    st.integers(1, 14),
)
def test_keep_best_is_a_stable_sort(values, slots) -> None:
    keep = keep_best(torch.tensor([[values]]), slots)[0, 0]
    best = sorted((i for i, value in enumerate(values) if value > -torch.inf), key=lambda i: -values[i])[
        :slots
    ]
    assert keep.nonzero()[:, 0].tolist() == sorted(best)


def test_rotated_keys_are_refused(make_layer, make_kv) -> None:
    layer = make_layer(torch.ones(1, 1, 3, dtype=torch.bool)).replace(rope=Rope(inv_freq=torch.ones(2)))
    with pytest.raises(
        ValueError, match=r"ByImportance: keys of layer 0 of a tiny model are rotated. Un-rotate them first"
    ):
        ByImportance().compress(make_kv(layer), 2)


@pytest.mark.parametrize("slots", [0, -3])
def test_too_few_slots_are_refused(make_layer, make_kv, slots) -> None:
    with pytest.raises(
        ValueError,
        match=f"ByImportance: the cache cannot be compressed to slots={slots}. Give the student at least one",
    ):
        ByImportance().compress(make_kv(make_layer(torch.ones(1, 1, 3, dtype=torch.bool))), slots)


def test_a_score_that_is_no_number_is_refused(make_layer, make_kv) -> None:
    layer = scored(make_layer, [[0.1, torch.nan, 0.3]])
    with pytest.raises(
        ValueError, match=r"ByImportance: a score is not a number, .* the cache of a tiny model is not finite"
    ):
        ByImportance().compress(make_kv(layer), 2)
    hidden = layer.replace(mask=torch.tensor([[[True, False, True]]]))
    assert ByImportance().compress(make_kv(hidden), 2).layers[0].positions.tolist() == [[[0, 2]]], (
        "padding may hold anything"
    )


def test_an_unknown_selection_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"ByImportance: selection is 'each'. Set it to 'per_head' or 'shared'."
    ):
        ByImportance(selection="each")  # pyright: ignore[reportArgumentType]
