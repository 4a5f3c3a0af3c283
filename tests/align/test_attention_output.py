"""Attention output and its cosine by hand."""

import math

import pytest
import torch

from kvdistill.align.attention_output import (
    AnswerQueries,
    LayerQueries,
    attention_output,
    attention_output_cosine,
)
from kvdistill.kv import LayerKV, ModelKV, Rope

TURN = Rope(torch.tensor([math.pi / 2]))
"""A quarter turn per position."""


def cache(
    keys: list, values: list, mask: list[bool] | None = None, positions: list[int] | None = None
) -> ModelKV:
    """One layer, one head: keys and values of T slots."""
    count = len(keys)
    layer = LayerKV(
        keys=torch.tensor(keys, dtype=torch.float32)[None, None],
        values=torch.tensor(values, dtype=torch.float32)[None, None],
        mask=torch.tensor(mask or [True] * count)[None, None],
        positions=torch.tensor(positions or list(range(count)))[None, None],
    )
    return ModelKV((layer,), (0,), "a cache by hand")


def asked(query: list, positions: list[int], start: int = 0, **settings: object) -> AnswerQueries:
    """Queries of one head, (A, K), or of several, (Q, A, K)."""
    rows = torch.tensor(query, dtype=torch.float32)
    rows = rows[None] if rows.ndim == 3 else rows[None, None]
    layer = LayerQueries(rows, **({"scaling": 1.0} | settings))
    mask = torch.ones(1, len(positions), dtype=torch.bool)
    return AnswerQueries((layer,), (0,), mask, torch.tensor([positions]), torch.tensor([start]))


LOG3 = math.log(3)


def test_one_row_by_hand() -> None:
    """Logits log 3 and 0 are weights 3/4 and 1/4."""
    found = attention_output(
        asked([[1.0, 0.0]], [5]), 0, cache([[LOG3, 0], [0, 1]], [[4, 0], [0, 4]]).layers[0]
    )
    torch.testing.assert_close(found, torch.tensor([[[[3.0, 1.0]]]]))
    # Twice the scaling: weights 9/10 and 1/10.
    found = attention_output(
        asked([[1.0, 0.0]], [5], scaling=2.0), 0, cache([[LOG3, 0], [0, 1]], [[10, 0], [0, 10]]).layers[0]
    )
    torch.testing.assert_close(found, torch.tensor([[[[9.0, 1.0]]]]))


def test_the_softcap_by_hand() -> None:
    """A logit far above the cap log 3 is the cap itself."""
    found = attention_output(
        asked([[1.0, 0.0]], [5], softcap=LOG3), 0, cache([[99, 0], [0, 1]], [[4, 0], [0, 4]]).layers[0]
    )
    torch.testing.assert_close(found, torch.tensor([[[[3.0, 1.0]]]]))


def test_keys_are_rotated_to_the_positions_of_their_tokens() -> None:
    """The chain begins at position 2. Tokens 0 and 3 are at 2 and 5: half a turn, and a quarter turn."""
    keys, values = [[-LOG3, 0], [LOG3, 0]], [[4, 0], [0, 4]]
    # Half a turn makes (-log 3, 0) to (log 3, 0), a quarter turn (log 3, 0) to (0, log 3).
    layer = cache(keys, values, positions=[0, 3]).layers[0]
    found = attention_output(asked([[1.0, 0.0]], [9], start=2, rope=TURN), 0, layer)
    torch.testing.assert_close(found, torch.tensor([[[[3.0, 1.0]]]]))


def test_masked_later_and_distant_slots_are_not_seen() -> None:
    keys, values = [[0, 0]] * 3, [[1, 0], [0, 1], [5, 5]]
    nan = float("nan")
    row = [[1.0, 0.0]]

    def read(queries: AnswerQueries, kv: ModelKV) -> list[float]:
        return attention_output(queries, 0, kv.layers[0])[0, 0, 0].tolist()

    assert read(asked(row, [1]), cache(keys, values)) == [0.5, 0.5]
    assert read(asked(row, [2], window=2), cache(keys, [*values[:2], [0, 3]])) == [0.0, 2.0]
    assert read(asked(row, [9], window=2), cache(keys, values)) == [0.0, 0.0]
    hidden = cache(keys, [*values[:2], [nan, nan]], [True, True, False])
    assert read(asked(row, [9]), hidden) == [0.5, 0.5]


def test_the_cosine_by_hand() -> None:
    queries = asked([[0.0, 0.0]], [9])
    own = cache([[1, 0], [0, 1]], [[1, 0], [1, 0]])
    for values, expected in (
        ([[2, 0], [4, 0]], 1.0),  # the scale does not count
        ([[0, 1], [0, 3]], 0.0),
        ([[-1, 0], [-1, 0]], -1.0),
        ([[3, 4], [3, 4]], 0.6),
    ):
        found = attention_output_cosine(queries, cache([[1, 0], [0, 1]], values), own)
        torch.testing.assert_close(found, torch.tensor([[expected]]))
    assert attention_output_cosine(queries, own, own).tolist() == [[1.0]]
    nothing = cache([[1, 0], [0, 1]], [[1, 0], [1, 0]], [False, False])
    assert attention_output_cosine(queries, nothing, own).tolist() == [[0.0]]
    assert attention_output_cosine(queries, own, nothing).isnan().all()


def test_it_is_the_mean_over_query_heads_and_valid_rows() -> None:
    """Two query heads of one key head; row 0 sees one token, row 1 sees both, row 2 is padding."""
    own = cache([[0, 0], [0, 0]], [[1, 0], [0, 1]])
    target = cache([[0, 0], [0, 0]], [[0, 1], [0, 1]])
    queries = asked([[[1.0, 0], [1, 0], [1, 0]]] * 2, [0, 1, 2])
    queries.mask[0, 2] = False
    # Row 0: (1, 0) and (0, 1), cosine 0. Row 1: (1/2, 1/2) and (0, 1), cosine 1/√2.
    found = attention_output_cosine(queries, target, own)
    torch.testing.assert_close(found, torch.tensor([[math.sqrt(0.5) / 2]]))


def test_caches_that_cannot_be_read_are_refused() -> None:
    own = cache([[1, 0]], [[1, 0]])
    other = ModelKV(own.layers, (1,), "a teacher")
    with pytest.raises(ValueError, match=r"a teacher holds layers \(1,\).*Align the cache"):
        attention_output_cosine(asked([[1.0, 0.0]], [9]), other, own)
    turned = own.map((own.layers[0].replace(rope=TURN),))
    with pytest.raises(ValueError, match=r"attention_output_cosine: keys of layer 0 .* are rotated"):
        attention_output_cosine(asked([[1.0, 0.0]], [9]), turned, own)
