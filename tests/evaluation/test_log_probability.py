"""The right answer's log-probability against a slow sum in float64, token by token on unpadded samples."""

import math
from dataclasses import replace

import pytest
import torch

import pico
import pico_slow
import pico_trained
from kvdistill.capture.position_limit import BeyondLimitError
from kvdistill.evaluation.evaluate import Evaluator, left_padded
from kvdistill.evaluation.log_probability import log_probabilities, with_nats
from kvdistill.latent.decode import Reasoning
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.records.schema import EvaluationRecord
from kvdistill.text import Encoded

MODES: tuple[Reasoning, ...] = ("latent", "cot", "direct")
Row = dict[str, tuple[int, ...]]


def slow(model: LatentReasoner, row: Row, reasoning: Reasoning) -> float:
    """Log-probability of one sample's answer: the softmax of every step written out in float64."""
    bot, eot = [model.special.bot], [model.special.eot]
    if model.config.delimiters != "both":
        bot, eot = [], []
    tail = [*row["prompt"], *row["answer"]]
    if reasoning == "latent":
        text = torch.cat(
            (pico_slow.thought(model, row), model.embed(torch.tensor([[model.special.eot, *tail]]))), 1
        )
    else:
        chain = row["cot"] if reasoning == "cot" else ()
        text = model.embed(torch.tensor([[*row["question"], *row["cue"], *bot, *chain, *eot, *tail]]))
    logits, _, _ = pico_slow.plain(model, text)
    assert logits.dtype == torch.float64
    first = text.shape[1] - len(row["answer"])
    total = 0.0
    for place, token in enumerate(row["answer"]):
        scores = logits[first + place - 1].tolist()
        total += scores[token] - math.log(math.fsum(map(math.exp, scores)))
    return total


@pytest.mark.parametrize("reasoning", MODES)
@pytest.mark.parametrize(
    ("name", "slots", "passes", "delimiters"),
    [
        ("llama", 4, 2, "both"),
        ("llama", 3, 0, "both"),
        ("gpt2", 3, 3, "student"),
        ("gemma3", 4, 1, "student"),
    ],
)
@torch.no_grad()
def test_it_equals_a_slow_sum_whatever_the_side_of_the_padding(
    name: str, slots: int, passes: int, delimiters: str, reasoning: Reasoning
) -> None:
    model = pico.spread_out(pico.reasoner(name, slots=slots, passes=passes, delimiters=delimiters))
    rows = pico.cued(4)
    found = [
        log_probabilities(model, pico.batch(rows, side, extra), reasoning)
        for side, extra in (("right", 0), ("left", 0), ("right", 3), ("left", 3))
    ]
    expected = [slow(model.double(), row, reasoning) for row in rows]
    assert len({round(value, 3) for value in expected}) == 4
    for values in found:
        assert values.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_the_modes_read_different_contexts() -> None:
    model, batch = (
        pico.spread_out(pico.reasoner(slots=3, passes=3, delimiters="both")),
        pico.batch(pico.cued()),
    )
    latent, cot, direct = (log_probabilities(model, batch, mode) for mode in MODES)
    assert not torch.isclose(latent, direct).any() and not torch.isclose(cot, direct).any()
    # The gold chain of thought is part of the context of cot alone.
    other = pico.batch(tuple({**row, "cot": row["cot"][::-1]} for row in pico.cued()))
    assert not torch.isclose(log_probabilities(model, other, "cot"), cot).any()
    assert torch.equal(log_probabilities(model, other, "direct"), direct)
    assert torch.equal(log_probabilities(model, other, "latent"), latent)


def test_no_gradient_and_no_random_number_is_used() -> None:
    model, batch = pico.reasoner(slots=3, passes=2), pico.batch(pico.cued())
    state = torch.get_rng_state()
    assert not any(log_probabilities(model, batch, mode).requires_grad for mode in MODES)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_text_beyond_the_limit_of_the_model_has_no_value() -> None:
    model = pico.reasoner("gpt2", slots=3, passes=2)
    long = tuple({**row, "cot": row["cot"] * 20} for row in pico.cued())
    with pytest.raises(BeyondLimitError, match="has learned positions for"):
        log_probabilities(model, pico.batch(long), "cot")
    assert log_probabilities(model, pico.batch(long), "direct").shape == (3,)


# Of a student that has learnt its task.


def test_a_student_that_answers_right_is_sure_of_it(
    model: LatentReasoner, samples: tuple[Encoded, ...]
) -> None:
    ask = Evaluator(batch_size=7, max_new_tokens=8, timed=0)
    values = ask.log_probabilities(model, samples, "latent")
    assert values is not None and len(values) == 36
    # Every answer is the likeliest text, so each of its two tokens is the likeliest.
    assert -2 * math.log(pico_trained.student().config.backbone.vocab_size) < min(values) <= max(values) <= 0
    alone = log_probabilities(model, left_padded(model, [samples[9]]), "latent")
    assert values[9] == pytest.approx(float(alone), abs=1e-5)
    record, _ = ask.evaluate(model, samples, "latent", "pairs")
    assert record.nats == pytest.approx(sum(values) / 36)
    assert record.nats_low is not None and record.nats_high is not None
    assert record.nats_low < record.nats < record.nats_high  # pyright: ignore[reportOptionalOperand]


def test_without_a_gold_chain_or_beyond_the_limit_there_is_no_value(
    model: LatentReasoner, samples: tuple[Encoded, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Evaluator(batch_size=36, timed=0)
    bare = [samples[0], replace(samples[1], example=replace(samples[1].example, steps=()))]
    assert ask.log_probabilities(model, bare, "cot") is None
    assert ask.log_probabilities(model, bare, "direct") is not None

    def refuse(*_: object) -> None:
        raise BeyondLimitError("too long")

    monkeypatch.setattr("kvdistill.evaluation.evaluate.log_probabilities", refuse)
    assert ask.log_probabilities(model, samples, "latent") is None
    record, _ = replace(ask, max_new_tokens=8).evaluate(model, samples[:2], "latent", "pairs")
    assert record.nats is None and record.accuracy == 1.0


def test_a_wrong_answer_costs_more(model: LatentReasoner, samples: tuple[Encoded, ...]) -> None:
    ask = Evaluator(batch_size=36, timed=0)
    right, other = samples[0], samples[8]
    wrong = replace(
        right,
        student_mode=replace(right.student_mode, answer=other.student_mode.answer),
        teacher_mode=replace(right.teacher_mode, answer=other.teacher_mode.answer),
    )
    values = ask.log_probabilities(model, [right, wrong], "latent")
    assert values is not None and values[1] < values[0] - 1


def test_the_record_holds_mean_and_interval_by_hand() -> None:
    record = EvaluationRecord(
        data_set="t",
        mode="cot",
        num=3,
        correct=1,
        sequential_passes_mean=8.0,
        tokens_mean=1.0,
        ms_batch1=None,
        ms_batch32=None,
    )
    assert with_nats(record, None) == record
    one = with_nats(record, [-0.5])
    assert (one.nats, one.nats_low, one.nats_high) == (-0.5, None, None)
    # mean -2, sd 1 of three values: -2 ± 1.959964 · 1 / √3
    three = with_nats(record, [-1.0, -2.0, -3.0])
    assert (three.nats, three.nats_low, three.nats_high) == pytest.approx((-2, -3.1315857, -0.8684143))
