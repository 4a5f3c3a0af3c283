"""Accuracy, forward passes, tokens and latency of (model, data set, reasoning mode) triples."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import mean

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from kvdistill.capture.attention import evaluating
from kvdistill.capture.position_limit import BeyondLimitError
from kvdistill.console.progress import Progress
from kvdistill.data.collate import collate
from kvdistill.evaluation.answers import canonical, extract, same
from kvdistill.evaluation.depth import count_by_depth
from kvdistill.evaluation.log_probability import log_probabilities, with_nats
from kvdistill.latent.decode import Reasoning, generate_ids
from kvdistill.latent.passes import PrefixCache
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.records.schema import EvaluationRecord, Mode
from kvdistill.text import Batch, Encoded


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Settings of generation and of the cost measurement; evaluates a model on a data set."""

    batch_size: int = 32
    """Questions per batch for accuracy; latency has batch sizes of its own."""
    max_new_tokens: int = 256
    """Upper limit of tokens per answer, its chain of thought included."""
    timed: int = 32
    """Questions that passes, tokens and latency at batch size 1 are measured on; 0 leaves out latency and
    counts passes and tokens on the first question alone.
    """
    progress: bool = False
    """Whether a progress bar is shown."""
    purpose: str = ""
    """Label of the progress bar: what the answers are for, where it is not accuracy."""

    def answers(
        self,
        model: LatentReasoner,
        samples: Sequence[Encoded],
        reasoning: Reasoning,
        edit: Callable[[PrefixCache], PrefixCache] = lambda past: past,
    ) -> list[str]:
        """Generate an answer to each question.

        Args:
            model: A student with a tokenizer.
            samples: N questions.
            reasoning: ``latent``, ``cot`` or ``direct``.
            edit: Changes the cache of question and latent slots before answers are decoded (``latent`` only).

        Returns:
            N texts in the order of the questions, without special tokens.
        """
        said: list[str] = []
        starts = range(0, len(samples), self.batch_size)
        with evaluating(model), self._progress(len(samples), reasoning) as progress:
            for start in starts:
                batch = left_padded(model, samples[start : start + self.batch_size])
                said += decode(model, generate_ids(model, batch, reasoning, self.max_new_tokens, edit))
                progress.advance(len(batch))
        return said

    def _progress(self, questions: int, reasoning: Reasoning, purpose: str = "") -> Progress:
        about = ", ".join(filter(None, (reasoning, self.purpose, purpose)))
        return Progress(questions, about, "question", self.progress)

    def accuracy(
        self,
        model: LatentReasoner,
        samples: Sequence[Encoded],
        reasoning: Reasoning,
        edit: Callable[[PrefixCache], PrefixCache] = lambda past: past,
    ) -> float:
        """Share of questions answered correctly, 0 to 1.

        Args:
            model: A student with a tokenizer.
            samples: N questions.
            reasoning: ``latent``, ``cot`` or ``direct``.
            edit: Changes the cache of question and latent slots before answers are decoded.

        Raises:
            ValueError: if there is no question.
        """
        _require_questions(samples, "The data set")
        return count_right(self.answers(model, samples, reasoning, edit), samples, reasoning) / len(samples)

    def log_probabilities(
        self, model: LatentReasoner, samples: Sequence[Encoded], reasoning: Reasoning
    ) -> list[float] | None:
        """Log-probability of the right answer of each question; see ``log_probability.log_probabilities``.

        Args:
            model: A student with a tokenizer.
            samples: N questions.
            reasoning: ``latent``, ``cot`` (which reads the gold chain of thought) or ``direct``.

        Returns:
            N values in nats, in the order of the questions; None where a text is longer than the model reads,
            or ``cot`` finds no gold chain of thought.
        """
        if reasoning == "cot" and not all(sample.example.steps for sample in samples):
            return None
        found: list[float] = []
        with evaluating(model):
            for start in range(0, len(samples), self.batch_size):
                batch = left_padded(model, samples[start : start + self.batch_size])
                try:
                    found += log_probabilities(model, batch, reasoning).tolist()
                except BeyondLimitError:
                    return None
        return found

    def evaluate(
        self,
        model: LatentReasoner,
        samples: Sequence[Encoded],
        reasoning: Reasoning,
        data_set: str,
        label: Mode | None = None,
    ) -> tuple[EvaluationRecord, list[str]]:
        """Measure accuracy, log-probability, passes, tokens and latency on a data set.

        Args:
            model: A student with a tokenizer.
            samples: N questions.
            reasoning: ``latent``, ``cot`` or ``direct``.
            data_set: Name of the data set in the record.
            label: Name of the mode in the record; by default ``reasoning``.

        Returns:
            The record (means per question, milliseconds per question) and the N answers.

        Raises:
            ValueError: if there is no question.
        """
        _require_questions(samples, data_set)
        said = self.answers(model, samples, reasoning)
        right = judged(said, samples, reasoning)
        passes, tokens, ms_one = self._one_by_one(model, samples[: max(self.timed, 1)], reasoning)
        ms_batch1, ms_batch32 = None, None
        if self.timed:
            ms_batch1, ms_batch32 = ms_one, self._side_by_side(model, samples, reasoning)
        record = EvaluationRecord(
            data_set=data_set,
            mode=label or reasoning,
            num=len(samples),
            correct=sum(right),
            sequential_passes_mean=passes,
            tokens_mean=tokens,
            ms_batch1=ms_batch1,
            ms_batch32=ms_batch32,
            chance=chance_of(samples),
            by_depth=count_by_depth(right, samples),
        )
        return with_nats(record, self.log_probabilities(model, samples, reasoning)), said

    def _one_by_one(
        self, model: LatentReasoner, samples: Sequence[Encoded], reasoning: Reasoning
    ) -> tuple[float, float, float]:
        """Mean passes, tokens and milliseconds per question at batch size 1, counted at the body's calls."""
        milliseconds = []
        shown = self._progress(len(samples), reasoning, "timed one by one")
        with evaluating(model), counting(model.body) as calls, shown as progress:
            for sample in samples:
                batch = left_padded(model, [sample])
                milliseconds.append(
                    _timed(lambda batch=batch: generate_ids(model, batch, reasoning, self.max_new_tokens))
                )
                progress.advance()
        return len(calls) / len(samples), sum(calls) / len(samples), mean(milliseconds)

    def _side_by_side(self, model: LatentReasoner, samples: Sequence[Encoded], reasoning: Reasoning) -> float:
        # Always 32 questions, repeated where there are fewer, so that latencies are comparable.
        asked = [samples[index % len(samples)] for index in range(32)]
        batch = left_padded(model, asked)
        with evaluating(model):
            return _timed(lambda: generate_ids(model, batch, reasoning, self.max_new_tokens)) / len(asked)


def is_right(said: str, sample: Encoded, reasoning: Reasoning) -> bool:
    """Whether a generated text answers a question correctly.

    Args:
        said: The text; after a chain of thought (``cot``) only what follows the answer prompt counts.
        sample: The question with its reference.
        reasoning: ``latent``, ``cot`` or ``direct``.
    """
    answer: str | None = said
    if reasoning == "cot":
        answer = extract(said, sample.teacher_mode.prompt.text)
    return answer is not None and same(answer, sample.example.answer)


def judged(said: Sequence[str], samples: Sequence[Encoded], reasoning: Reasoning) -> list[bool]:
    """Whether each question is answered correctly; ``said`` holds one generated text per sample."""
    return [is_right(text, sample, reasoning) for text, sample in zip(said, samples, strict=True)]


def count_right(said: Sequence[str], samples: Sequence[Encoded], reasoning: Reasoning) -> int:
    """Number of questions answered correctly; ``said`` holds one generated text per sample."""
    return sum(judged(said, samples, reasoning))


def chance_of(samples: Sequence[Encoded]) -> float:
    """Chance level: accuracy (0 to 1) of answering every question with the most frequent reference."""
    wanted = Counter(canonical(sample.example.answer) or sample.example.answer for sample in samples)
    return max(wanted.values()) / len(samples)


def left_padded(model: LatentReasoner, samples: Sequence[Encoded]) -> Batch:
    """Collate samples with left padding, as ``generate_ids`` takes them, on the model's device.

    Raises:
        ValueError: if the model has no tokenizer.
    """
    pad_id: int = _tokenizer(model).pad_token_id  # pyright: ignore[reportAssignmentType]
    return collate(samples, pad_id, padding_side="left").to(model.device)


def decode(model: LatentReasoner, ids: Int[Tensor, "B A"], skip_special_tokens: bool = True) -> list[str]:
    """Decode token ids (B, A) to B stripped texts.

    Raises:
        ValueError: if the model has no tokenizer.
    """
    return [
        text.strip() for text in _tokenizer(model).batch_decode(ids, skip_special_tokens=skip_special_tokens)
    ]


def _tokenizer(model: LatentReasoner) -> PreTrainedTokenizerBase:
    if model.tokenizer is None:
        raise ValueError(
            "This student has no tokenizer: load it from a folder that holds one, or set model.tokenizer."
        )
    return model.tokenizer


def _require_questions(samples: Sequence[Encoded], data_set: str) -> None:
    if not samples:
        raise ValueError(
            f"{data_set} holds no question: nothing to evaluate. Check the file, the split and max_length."
        )


@contextmanager
def counting(body: nn.Module) -> Iterator[list[int]]:
    """Count the forward passes of ``body`` inside the block.

    Args:
        body: The backbone without its head.

    Yields:
        A list that gets one entry per forward pass: the number of columns (tokens or slots) that it read.
    """
    calls: list[int] = []

    def count(module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        # GPT-2 passes input_ids to its body as a positional argument.
        for value in (kwargs.get("inputs_embeds"), kwargs.get("input_ids"), *args[:1]):
            if isinstance(value, Tensor):
                calls.append(value.shape[1])
                return
        raise TypeError(
            "The body was called without inputs_embeds or input_ids, so its tokens cannot be counted."
        )

    handle = body.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def _timed(work: Callable[[], object]) -> float:
    """Milliseconds that ``work`` takes, its GPU kernels included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)
