"""Chains of thought that a teacher writes itself: sampled, and kept where their answer is right."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path

from kvdistill.config import Sampling
from kvdistill.console.progress import Progress
from kvdistill.data.gsm8k import MARKER
from kvdistill.data.keys import by_key, question_key
from kvdistill.evaluation.answers import extract, same
from kvdistill.records.traces import (
    REPORT,
    SAMPLES,
    WHENCE,
    QuestionTraces,
    SamplesReport,
    Trace,
    TracesHeader,
    read_samples,
    trace_row,
    traces_log,
)
from kvdistill.run.writing import SampleTokens, WritingTeacher
from kvdistill.text import Example

HOPELESS = 128
"""Questions after which a teacher without a single right chain is refused."""


def sample_chains(
    teacher: WritingTeacher,
    examples: Sequence[Example],
    folder: Path,
    settings: Sampling,
    say: Callable[[str], None],
) -> SamplesReport:
    """Sample chains of thought for questions, and write ``samples.jsonl`` and ``samples.json``.

    An interrupted call is continued by the same call. Questions with equal text and answer are asked once.

    Args:
        teacher: the teacher.
        examples: the questions with their answers; their chains are only compared with.
        folder: where the files are written; made where missing.
        settings: how many chains are drawn, and how.
        say: prints a line.

    Returns:
        The report.

    Raises:
        ValueError: if the folder holds chains of another teacher, other questions or settings, or the teacher
            is never right.
    """
    began = time.monotonic()
    asked = by_key(examples)
    header = _header(teacher, asked, settings)
    found = _begun(folder, header, say)
    left = [key for key in asked if key not in found]
    log, per_batch = traces_log(folder / SAMPLES), max(1, settings.batch_size // settings.num_samples)
    with Progress(len(asked), f"chains of {teacher.name}", "question", shown=True) as progress:
        progress.advance(len(found))
        for start in range(0, len(left), per_batch):
            if is_hopeless(found, len(asked)):
                break
            keys = left[start : start + per_batch]
            rows = _sampled(teacher, [asked[key] for key in keys], settings)
            log.append(trace_row(row) for row in rows)
            found |= {row.key: row for row in rows}
            progress.advance(len(keys))
    report = _report(teacher.name, asked, found, settings, time.monotonic() - began)
    report.write(folder / REPORT)
    if is_hopeless(found, len(asked)):
        raise ValueError(
            f"The teacher {teacher.name} is never right: 0 of {report.sampled} chains for {report.questions} "
            "questions end in the right answer. Look at what it writes (its template and cue may be unlike "
            "those it was trained with; max_new_tokens may be too few), or choose another teacher."
        )
    return report


def kept_chain(text: str, prompt: str, wanted: str) -> Trace | None:
    """A generated text as a chain of thought, if its answer is right.

    Args:
        text: what the teacher wrote behind the question.
        prompt: the answer prompt of its template.
        wanted: the reference answer.

    Returns:
        One step per line before the answer's marker; None where there is no answer or a wrong one. A teacher
        whose tokenizer drops line breaks writes chains of a single step.
    """
    answer = extract(text, prompt)
    if answer is None or not same(answer, wanted):
        return None
    marker = next(mark for mark in (MARKER, prompt) if mark in text)
    lines = text.partition(marker)[0].split("\n")
    return Trace(tuple(line.strip() for line in lines if line.strip()), answer)


def is_hopeless(found: Mapping[str, QuestionTraces], questions: int) -> bool:
    """Whether a teacher has not been right once.

    Args:
        found: the questions asked so far.
        questions: number of all questions.

    Returns:
        False while fewer than ``HOPELESS`` questions, or all there are, have been asked.
    """
    if len(found) < min(HOPELESS, questions):
        return False
    return not any(row.right for row in found.values())


def _sampled(
    teacher: WritingTeacher, examples: Sequence[Example], settings: Sampling
) -> list[QuestionTraces]:
    """All chains of some questions, in one call of ``generate``."""
    samples = teacher.encode(examples)
    number = settings.num_samples
    rows = [(sample, draw) for sample in samples for draw in range(number)]
    seeds = [f"{settings.seed}/{question_key(sample.example)}/{draw}" for sample, draw in rows]
    draw = SampleTokens(seeds, settings.temperature, settings.top_p)
    texts = teacher.write([sample for sample, _ in rows], draw, settings.max_new_tokens)
    found = []
    for place, sample in enumerate(samples):
        written = texts[place * number : (place + 1) * number]
        prompt, wanted = sample.teacher_mode.prompt.text, sample.example.answer
        kept = [chain for text in written if (chain := kept_chain(text, prompt, wanted)) is not None]
        # Distinct by their steps, in the order in which they were drawn.
        distinct = {chain.steps: chain for chain in reversed(kept)}
        traces = tuple(chain for chain in kept if distinct[chain.steps] is chain)
        key = question_key(sample.example)
        found.append(QuestionTraces(key, sample.sample_id, traces, number, len(kept)))
    return found


def _header(teacher: WritingTeacher, asked: dict[str, Example], settings: Sampling) -> TracesHeader:
    data = blake2b("".join(asked).encode(), digest_size=16).hexdigest()
    return TracesHeader(
        teacher=teacher.name,
        source=teacher.source,
        revision=teacher.revision,
        weights=teacher.weights,
        tokenizer=teacher.reading,
        data=data,
        questions=len(asked),
        settings=settings.identity,
    )


def _begun(folder: Path, header: TracesHeader, say: Callable[[str], None]) -> dict[str, QuestionTraces]:
    """The questions that an earlier call has asked; begins the file where there is none."""
    log = traces_log(folder / SAMPLES)
    differing = [part for part in log.resume(asdict(header), say) if part not in WHENCE]
    if differing:
        # The header's settings are the options of [sampling].
        other = ", ".join(part.replace("settings.", "sampling.") for part in differing)
        raise ValueError(
            f"{folder} holds chains with other {other}. Choose another folder, or remove this one."
        )
    _, found = read_samples(log.path)
    if found:
        say(f"{len(found)} of {header.questions} questions are in {log.path} already.")
    return found


def _report(
    name: str,
    asked: dict[str, Example],
    found: dict[str, QuestionTraces],
    settings: Sampling,
    seconds: float,
) -> SamplesReport:
    rows = list(found.values())
    sampled, right = sum(row.sampled for row in rows), sum(row.right for row in rows)
    kept = [(row.key, trace) for row in rows for trace in row.traces]
    gold = sum(_words(trace.steps) == _words(asked[key].steps) for key, trace in kept)
    return SamplesReport(
        teacher=name,
        questions=len(rows),
        sampled=sampled,
        share_with_two_right=sum(len(row.traces) >= 2 for row in rows) / len(rows),
        share_with_none=sum(not row.traces for row in rows) / len(rows),
        right_share=right / sampled,
        distinct_share=len(kept) / max(right, 1),
        gold_overlap=gold / max(len(kept), 1),
        seconds=seconds,
        min_right=settings.min_right,
        too_few=[row.sample_id for row in rows if len(row.traces) < settings.min_right],
    )


def _words(steps: Sequence[str]) -> list[str]:
    """The words of a chain, since a tokenizer may drop the line breaks between its steps."""
    return " ".join(steps).split()
