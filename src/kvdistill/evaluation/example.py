"""The example of a report: one question, what its latent slots decode to, and each mode's answer."""

from collections.abc import Sequence

import torch

from kvdistill.capture.attention import evaluating
from kvdistill.evaluation.answers import extract, same
from kvdistill.evaluation.evaluate import Evaluator, decode, is_right, left_padded
from kvdistill.evaluation.probes import result_of
from kvdistill.latent.decode import Reasoning
from kvdistill.latent.passes import encode_latents
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.records.example import ExampleAnswer, ExampleRecord, SlotReading
from kvdistill.text import Encoded

RULE = "the first question of the test set that takes the most reasoning steps"
"""How the question is selected, independently of the answers; shown in the report."""


def chosen(samples: Sequence[Encoded]) -> int:
    """Index of the question that is shown, selected by ``RULE``.

    Raises:
        ValueError: if there is no question.
    """
    if not samples:
        raise ValueError("The test set holds no question to show.")
    # Where the depth is known it counts first: padded traces all have the same number of steps.
    sizes = [(sample.example.depth or 0, len(sample.example.steps)) for sample in samples]
    return sizes.index(max(sizes))


def example_of(
    model: LatentReasoner, sample: Encoded, task: str, data_set: str, words: int = 3
) -> ExampleRecord:
    """Decode the latent slots of one question with the language-model head.

    A slot's words are the most probable tokens at the hidden state that its input was computed from.

    Args:
        model: A student with a tokenizer.
        sample: The question, with its chain of thought.
        task: Name of the task in the record.
        data_set: Name of the data set in the record.
        words: Number of tokens per slot, most probable first.

    Returns:
        The record; its list of answers is empty.

    Raises:
        ValueError: if the model has no tokenizer.

    Source: decoding latents with the language-model head: KaVa, https://arxiv.org/abs/2510.02312, section 4.
    """
    slots = _read_slots(model, sample, words)
    steps = list(sample.example.steps)
    results = [result_of(step) for step in steps]
    return ExampleRecord(
        task=task,
        rule=RULE,
        data_set=data_set,
        sample_id=sample.sample_id,
        question=sample.example.question,
        steps=steps,
        results=results,
        answer=sample.example.answer,
        slots=slots,
        # Slot i is compared with the result of step i; slots or steps left over are not compared.
        matches=[same(slot.words[0], result) for slot, result in zip(slots, results, strict=False)],
        answers=[],
    )


def answer_of(
    model: LatentReasoner, sample: Encoded, reasoning: Reasoning, evaluator: Evaluator, method: str
) -> ExampleAnswer:
    """Generate the answer in one reasoning mode; ``method`` is its name in the record."""
    (text,) = evaluator.answers(model, [sample], reasoning)
    answer = text
    if reasoning == "cot":
        answer = extract(text, sample.teacher_mode.prompt.text) or ""
    return ExampleAnswer(method=method, text=text, answer=answer, right=is_right(text, sample, reasoning))


@torch.no_grad()
def _read_slots(model: LatentReasoner, sample: Encoded, words: int) -> list[SlotReading]:
    with evaluating(model):
        states = encode_latents(model, left_padded(model, [sample]).student_mode).states[0]  # n D
        logits = model.head(states).float()
        shares, ids = logits.softmax(-1).topk(min(words, logits.shape[-1]))
    return [
        SlotReading(
            words=decode(model, token_ids[:, None], skip_special_tokens=False),
            probabilities=probabilities.tolist(),
        )
        for token_ids, probabilities in zip(ids, shares, strict=True)
    ]
