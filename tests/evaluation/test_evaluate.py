"""Accuracy, passes and tokens against counts by hand, on a student that has really learnt its task."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import pico_trained
from kvdistill.evaluation.evaluate import Evaluator, counting, decode, is_right, left_padded
from kvdistill.latent.decode import generate_ids
from kvdistill.latent.passes import PrefixCache
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.text import Encoded

ASK = Evaluator(batch_size=36, max_new_tokens=8, timed=0)


def with_answer(sample: Encoded, answer: str) -> Encoded:
    return replace(sample, example=replace(sample.example, answer=answer))


@pytest.mark.parametrize("reasoning", ["latent", "cot"])
def test_accuracy_and_interval_equal_counts_by_hand(
    model: LatentReasoner, samples: tuple[Encoded, ...], reasoning: str
) -> None:
    said = ASK.answers(model, samples, reasoning)  # pyright: ignore[reportArgumentType]
    names = [(sample.example.answer, sample.example.steps[0]) for sample in samples]
    assert said == [
        f"{second} {first} answer {first}" if reasoning == "cot" else first for first, second in names
    ]
    asked = [with_answer(sample, "Nobody") if index < 9 else sample for index, sample in enumerate(samples)]
    record, again = ASK.evaluate(model, asked, reasoning, "pairs")  # pyright: ignore[reportArgumentType]
    assert again == said
    assert (record.data_set, record.mode, record.num, record.correct, record.accuracy) == (
        "pairs",
        reasoning,
        36,
        27,
        0.75,
    )
    # z² = 3.841459, n = 36: centre (0.75 + z²/72) / (1 + z²/36) = 0.725895, half z / (1 + z²/36) ·
    # sqrt(0.1875/36 + z²/5184) = 0.136600
    assert (record.low, record.high) == pytest.approx((0.589295, 0.862495), abs=1e-5)
    assert ASK.accuracy(model, asked, reasoning) == 0.75  # pyright: ignore[reportArgumentType]


def test_all_right_and_all_wrong_are_shares_too(model: LatentReasoner, samples: tuple[Encoded, ...]) -> None:
    right, wrong = (
        ASK.accuracy(model, some, "latent")
        for some in (samples, [with_answer(sample, "Nobody") for sample in samples])
    )
    assert [right, wrong] == [1.0, 0.0]
    assert isinstance(right, float)
    assert isinstance(wrong, float)


def test_what_is_right(samples: tuple[Encoded, ...]) -> None:
    sample = with_answer(samples[0], "Ann")
    assert is_right("Ann", sample, "latent")
    assert is_right(" ann .", sample, "direct")
    assert not is_right("Bob Ann", sample, "latent")
    assert is_right("Bob Ann answer Ann", sample, "cot")
    assert not is_right("Ann", sample, "cot")
    assert not is_right("Bob Ann answer", sample, "cot")


# What it costs.


def test_passes_and_tokens_of_the_three_modes_by_hand(
    model: LatentReasoner, samples: tuple[Encoded, ...]
) -> None:
    # Questions of 2, 3 and 4 words, 3 on average; an answer is a name and the end, of which the end is never
    # read.
    asked = replace(ASK, timed=3)
    latent, _ = asked.evaluate(model, samples, "latent", "pairs")
    # One packed pass, two over the slots, the last of which reads <eot> and the prompt, one for the name.
    assert latent.sequential_passes_mean == 1 + 2 + 1
    # Question and <bot>; a slot a pass; <eot> and the prompt; the name.
    assert latent.tokens_mean == (3 + 1) + 2 * 1 + 2 + 1
    cot, _ = asked.evaluate(model, samples, "cot", "pairs")
    # Two names, <eot>, the prompt, a name, the end: a pass for each; all but the end are read, behind
    # question and <bot>.
    assert cot.sequential_passes_mean == 6
    assert cot.tokens_mean == (3 + 1) + 5
    direct, _ = asked.evaluate(model, samples, "direct", "pairs")
    generated = [answer_length(model, sample, "direct") for sample in samples[:3]]
    assert direct.sequential_passes_mean == pytest.approx(sum(generated) / 3)
    # Question, <bot>, <eot> and the prompt.
    assert direct.tokens_mean == pytest.approx(3 + 3 + sum(generated) / 3 - 1)


def answer_length(model: LatentReasoner, sample: Encoded, reasoning: str) -> int:
    return generate_ids(model, left_padded(model, [sample]), reasoning, 8).shape[1]


@pytest.mark.parametrize(
    ("slots", "passes", "packed", "width"), [(4, 1, 3, 4), (3, 3, 0, 1), (3, 0, 3, 0), (4, 2, 2, 3)]
)
def test_passes_and_tokens_follow_the_slots(slots: int, passes: int, packed: int, width: int) -> None:
    model = pico_trained.student(slots=slots, passes=passes)
    sample = pico_trained.samples(model)[0]
    record, _ = replace(ASK, timed=1).evaluate(model, [sample], "latent", "pairs")
    generated = answer_length(model, sample, "latent")
    assert record.sequential_passes_mean == 1 + passes + generated - 1
    # The packed pass holds question, <bot> and the placeholders; every other pass all slots that can still
    # change.
    assert record.tokens_mean == (2 + 1 + packed) + passes * width + 2 + generated - 1


def test_only_the_timed_questions_are_counted(model: LatentReasoner, samples: tuple[Encoded, ...]) -> None:
    untimed, _ = ASK.evaluate(model, samples, "latent", "pairs")
    assert (untimed.ms_batch1, untimed.ms_batch32) == (None, None)
    assert (untimed.sequential_passes_mean, untimed.tokens_mean) == (4, 8)  # those of the first question
    timed, _ = replace(ASK, timed=2).evaluate(model, samples[:3], "latent", "pairs")
    assert timed.tokens_mean == 8.5
    assert timed.ms_batch1 is not None
    assert timed.ms_batch32 is not None
    assert 0 < timed.ms_batch32 < timed.ms_batch1


def test_calls_are_counted_inside_the_block_only(model: LatentReasoner) -> None:
    ids = torch.tensor([[3, 4, 5]])
    with counting(model.body) as calls, torch.no_grad():
        model.body(input_ids=ids)
        model.body(inputs_embeds=model.embed(ids[:, :2]))
        model.body(ids[:, :1])
        with pytest.raises(
            TypeError, match="without inputs_embeds or input_ids, so its tokens cannot be counted"
        ):
            model.body()
    model.body(input_ids=ids)
    assert calls == [3, 2, 1]


# Batches and modes.


@pytest.mark.parametrize("reasoning", ["latent", "cot", "direct"])
@pytest.mark.parametrize("trained", [True, False])
def test_answers_do_not_depend_on_the_batch(model: LatentReasoner, reasoning: str, trained: bool) -> None:
    student = model if trained else pico_trained.wild()
    samples = pico_trained.samples(student)[:10]
    one, some, many = (
        replace(ASK, batch_size=size).answers(student, samples, reasoning) for size in (1, 4, 36)
    )
    assert one == some == many
    assert (trained and reasoning == "direct") or len(set(one)) > 1


def test_every_part_of_the_model_is_again_as_it_was() -> None:
    model = pico_trained.student().train()
    model.backbone.eval()
    before = {name: module.training for name, module in model.named_modules()}
    assert set(before.values()) == {True, False}
    ASK.evaluate(model, pico_trained.samples(model)[:2], "latent", "pairs")
    assert {name: module.training for name, module in model.named_modules()} == before


def test_dropout_is_off_while_answers_are_given() -> None:
    model = pico_trained.wild()

    class Noisy(nn.Module):
        def forward(self, hidden: Tensor) -> Tensor:
            return hidden + 100 * torch.randn_like(hidden) if self.training else hidden

    quiet = ASK.answers(model, pico_trained.samples(model), "latent")
    model.feedback = nn.Sequential(model.feedback, Noisy()).train()
    assert ASK.answers(model, pico_trained.samples(model), "latent") == quiet


def test_an_edit_sees_what_the_student_thought(model: LatentReasoner, samples: tuple[Encoded, ...]) -> None:
    seen = []

    def watch(past: PrefixCache) -> PrefixCache:
        seen.append(past.states.shape)
        return past

    assert replace(ASK, batch_size=20).accuracy(model, samples, "latent", watch) == 1.0
    assert seen == [(20, 2, 32), (16, 2, 32)]


def test_a_label_names_another_kind_of_chain(model: LatentReasoner, samples: tuple[Encoded, ...]) -> None:
    assert ASK.evaluate(model, samples[:2], "cot", "pairs", "cot_terse")[0].mode == "cot_terse"


# What is refused.


def test_an_empty_data_set_is_refused_in_words(model: LatentReasoner) -> None:
    with pytest.raises(
        ValueError,
        match=r"gsm\.jsonl holds no question: nothing to evaluate\. Check the file, the split and "
        r"max_length\.",
    ):
        ASK.evaluate(model, [], "latent", "gsm.jsonl")
    with pytest.raises(ValueError, match="The data set holds no question"):
        ASK.accuracy(model, [], "latent")


def test_a_student_without_its_tokenizer_is_refused_in_words(samples: tuple[Encoded, ...]) -> None:
    model = pico_trained.student()
    model.tokenizer = None
    for ask in (lambda: ASK.accuracy(model, samples, "latent"), lambda: decode(model, torch.tensor([[3]]))):
        with pytest.raises(
            ValueError, match=r"no tokenizer: load it from a folder that holds one, or set model\.tokenizer"
        ):
            ask()
