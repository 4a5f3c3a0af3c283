"""The answer's attention to the chain of thought against float64 and the model's eager weights."""

import math

import pytest
import torch
import transformers as tf
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import pico
import pico_slow
from kvdistill.capture.attention import CapturedAttention, capture_attention
from kvdistill.capture.extract import AnswerRows, Columns, extract
from kvdistill.capture.importance import answer_attention
from kvdistill.capture.rotation import geometry, measure

COT = slice(6, 18)
ROWS = slice(19, 23)
"""Columns of 24: question 0-5, chain of thought 6-17, prompt 18-19, answer 20-23; the rows are those that
predict the answer.
"""
PADS = torch.tensor([0, 4, 9])
IDS = torch.randint(3, 60, (3, 24), generator=torch.Generator().manual_seed(2))
MASK = torch.arange(24)[None] >= PADS[:, None]
POSITIONS = (MASK.long().cumsum(-1) - 1).clamp_min(0)
ANSWER = torch.ones(3, 4, dtype=torch.bool)
ANSWER[1, 3] = False
INPUTS = {"input_ids": IDS, "attention_mask": MASK.long(), "position_ids": POSITIONS}


def measured_importance(model: tf.PreTrainedModel) -> list[Tensor]:
    columns = torch.arange(24)[ROWS].expand(3, -1)
    rows = AnswerRows(columns, ANSWER, POSITIONS[:, ROWS])
    layers = measure(model)
    with torch.no_grad(), capture_attention(model) as call:
        model(**INPUTS, use_cache=False, kv_call=call)
    text = Columns(COT.start, COT.stop, MASK[:, COT], POSITIONS[:, COT])
    return [layer.importance for layer in extract(call, geometry(layers), text, rows, "a pico model").layers]


def slow_importance(model: tf.PreTrainedModel, layer_id: int, layer: pico_slow.Projected) -> Tensor:
    """In float64 from the model's own projections, for each sample with its padding between question and
    answer as it is.
    """
    slow = torch.zeros(3, layer.keys.shape[1], COT.stop - COT.start, dtype=torch.float64)
    for sample in range(3):
        rotary = (
            None if layer.rotary is None else tuple(part[sample % len(part)][None] for part in layer.rotary)
        )
        own = [states[sample : sample + 1] for states in (layer.query, layer.keys, layer.values)]
        columns = [column for column in range(COT.start, COT.stop) if MASK[sample, column]]
        rows = [row for place, row in enumerate(range(ROWS.start, ROWS.stop)) if ANSWER[sample, place]]
        one = pico_slow.Projected(layer.module, *own, rotary)
        slow[sample][:, MASK[sample, COT]] = pico_slow.attended(model.config, layer_id, one, columns, rows)
    return slow


@pytest.mark.parametrize("name", list(pico.CAPTURED))
def test_importance_equals_float64_from_the_projections(name: str) -> None:
    model = pico.backbone(name)
    with torch.no_grad():
        _, layers = pico_slow.projected(model, **INPUTS)
    for layer_id, importance in enumerate(measured_importance(model)):
        torch.testing.assert_close(
            importance.double(), slow_importance(model, layer_id, layers[layer_id]), rtol=1e-4, atol=1e-6
        )
        torch.testing.assert_close(importance.sum(-1), torch.ones(importance.shape[:2]))
        assert not importance.masked_select(~MASK[:, None, COT]).any()


@pytest.mark.parametrize("name", ["gpt2", "opt", "gpt_neox"])
def test_with_one_query_a_head_it_is_the_eager_weights_again_normalised(name: str) -> None:
    model = pico.backbone(name, attention="eager")
    with torch.no_grad():
        attentions = model(**INPUTS, use_cache=False, output_attentions=True).attentions
    for weights, importance in zip(attentions, measured_importance(model), strict=True):
        seen = weights[:, :, ROWS, COT].double()
        rows = seen / seen.sum(-1, keepdim=True) * ANSWER[:, None, :, None]
        torch.testing.assert_close(
            importance.double(), rows.sum(2) / ANSWER.sum(-1)[:, None, None], rtol=1e-4, atol=1e-6
        )


def mistral(window: int) -> tf.PreTrainedModel:
    config = pico.CONFIGS["mistral"]()
    config.sliding_window = window
    return pico.from_config(config)


def test_rows_that_see_nothing_are_left_out() -> None:
    """A window of 3: the row at column 19 sees column 17, those after it see no chain of thought."""
    for importance in measured_importance(mistral(3)):
        expected = torch.zeros(12)
        expected[-1] = 1.0
        assert torch.equal(importance, expected.expand_as(importance))


def test_where_no_row_sees_anything_it_is_even() -> None:
    """A window of 2 ends at the prompt; the samples have 12, 12 and 9 tokens of chain of thought."""
    for importance in measured_importance(mistral(2)):
        assert importance[0, 0].tolist() == pytest.approx([1 / 12] * 12)
        assert importance[2, 1].tolist() == pytest.approx([0.0] * 3 + [1 / 9] * 9)


def seen_with(query: Tensor, scaling: float = 1.0, softcap: float | None = None) -> CapturedAttention:
    return CapturedAttention(nn.Identity(), query, query, query, scaling, softcap, None)


def test_by_hand() -> None:
    """Two queries share a head; logits (0, ln 3) and (ln 2, 0) have maxima (ln 2, ln 3), so weights 2/5 and
    3/5.
    """
    query = torch.tensor([[[[0.0, math.log(3)]], [[math.log(2), 0.0]]]])
    keys = torch.eye(2).view(1, 1, 2, 2)
    visible = torch.ones(1, 1, 2, dtype=torch.bool)
    assert answer_attention(seen_with(query), query, keys, visible).flatten().tolist() == pytest.approx(
        [0.4, 0.6]
    )


def test_soft_cap_and_scaling_by_hand() -> None:
    """Logits 4 and 0, scaled to 2 and 0, capped at 1: tanh 2 = 0.9640 and 0, so the first weighs 0.7239."""
    query = torch.tensor([[[[4.0, 0.0]]]])
    keys = torch.eye(2).view(1, 1, 2, 2)
    visible = torch.ones(1, 1, 2, dtype=torch.bool)
    weights = answer_attention(seen_with(query, 0.5, 1.0), query, keys, visible)
    assert weights.flatten().tolist() == pytest.approx([0.7239, 0.2761], abs=1e-4)


def test_mean_over_rows_by_hand() -> None:
    """Row 1 sees one slot, row 2 both evenly, row 3 none: (1 + 1/2) / 2 and (0 + 1/2) / 2."""
    query, keys = torch.zeros(1, 1, 3, 2), torch.ones(1, 1, 2, 2)
    visible = torch.tensor([[[True, False], [True, True], [False, False]]])
    assert answer_attention(seen_with(query), query, keys, visible).flatten().tolist() == [0.75, 0.25]
    assert not answer_attention(seen_with(query), query, keys, torch.zeros_like(visible)).any()


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 6), st.integers(1, 3))
def test_a_distribution_over_what_can_be_seen(seed: int, rows: int, slots: int, group: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(2, 2 * group, rows, 4, generator=generator) * 30
    keys = torch.randn(2, 2, slots, 4, generator=generator)
    visible = torch.rand(2, rows, slots, generator=generator) < 0.6
    weights = answer_attention(seen_with(query), query, keys, visible)
    torch.testing.assert_close(weights.sum(-1), visible.any((1, 2)).float()[:, None].expand(-1, 2))
    assert (weights >= 0).all()
    assert not weights.masked_select(~visible.any(1)[:, None]).any()
