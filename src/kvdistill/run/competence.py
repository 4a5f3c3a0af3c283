"""How good each teacher is at each question: likelihoods and rightness, measured once before training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from kvdistill.console.progress import Progress
from kvdistill.data.collate import pad
from kvdistill.data.keys import by_key, question_key
from kvdistill.models.checkpoint_integrity import same_weights
from kvdistill.ops import to_float32
from kvdistill.records.competence import (
    COMPETENCE,
    MADE_BY,
    CompetenceTable,
    Figures,
    competence_row,
    read_table,
)
from kvdistill.records.row_log import RowLog
from kvdistill.records.traces import QuestionTraces, read_complete
from kvdistill.run.writers import Writers
from kvdistill.run.writing import WritingTeacher
from kvdistill.text import Encoded, Example, Segment


@dataclass(frozen=True)
class Measured:
    """Token ids of one text, of which some are scored."""

    ids: list[int]
    scored: list[bool]
    """True at the tokens whose log-probability counts: those that cover characters."""
    characters: int
    """Number of characters that they cover."""


def measure_competence(
    teachers: Writers,
    examples: Sequence[Example],
    traces: Mapping[str, Mapping[str, QuestionTraces]],
    folder: Path,
    say: Callable[[str], None],
    batch_size: int = 32,
) -> CompetenceTable:
    """Measure all teachers on all questions, and write ``competence.jsonl``.

    An interrupted call is continued by the same call. One teacher is in memory at a time.

    Args:
        teachers: the teachers, each with its tokenizer.
        examples: training and validation questions; equal ones are measured once.
        traces: by teacher, the chains that it has sampled, by question; their share of right ones is the
            figure ``right``.
        folder: where the table is written; made where missing.
        say: prints a line.
        batch_size: questions per forward pass; does not change the result.

    Returns:
        The table.

    Raises:
        ValueError: if the folder holds figures of other teachers or questions.

    Source: ours.
    """
    asked = by_key(examples)
    known = {name: teachers.fingerprints(name) for name in teachers}
    header = {
        "teachers": {name: each.weights for name, each in known.items()},
        "tokenizers": {name: each.reading for name, each in known.items()},
        "data": _data_fingerprint(asked),
        "traces": {name: _traces_fingerprint(found) for name, found in traces.items()},
        "questions": len(asked),
    }
    log = RowLog(folder / COMPETENCE, MADE_BY)
    table = _begun(log, header, say)
    for name in teachers:
        left = [key for key in asked if name not in table.figures.get(key, {})]
        with Progress(len(asked), f"competence of {name}", "question") as progress:
            progress.advance(len(asked) - len(left))
            for start in range(0, len(left), batch_size):
                keys = left[start : start + batch_size]
                # Not kept in a variable: the teacher has to be gone when the next is loaded.
                found = figures_of(teachers.open(name), [asked[key] for key in keys], traces.get(name, {}))
                log.append(competence_row(key, name, each) for key, each in zip(keys, found, strict=True))
                progress.advance(len(keys))
    return CompetenceTable.read(log.path)


def own_chains(weights: str, path: Path) -> dict[str, QuestionTraces] | None:
    """The chains that a teacher has sampled, for its share of right ones.

    Args:
        weights: fingerprint of the teacher's weights.
        path: the file of chains, or its folder.

    Returns:
        Chains by question; None where a model with other weights wrote them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged or incomplete.
    """
    header, found = read_complete(path)
    if not same_weights(header.weights, weights):
        return None
    return found


def figures_of(
    teacher: WritingTeacher, examples: Sequence[Example], traces: Mapping[str, QuestionTraces]
) -> list[Figures]:
    """A teacher's figures for some questions.

    Args:
        teacher: the teacher.
        examples: the questions, with chains of thought where the data has them.
        traces: the chains that it has sampled, by question.

    Returns:
        One entry per question. ``cot_nats`` is of the chain given the question, ``answer_nats`` of the answer
        given the question alone; both are per character.
    """
    samples = teacher.encode(examples)
    chains = nats_per_character(teacher, [of_chain(teacher, sample) for sample in samples])
    answers = nats_per_character(teacher, [of_answer(teacher, sample) for sample in samples])
    found = []
    for sample, chain, answer in zip(samples, chains, answers, strict=True):
        drawn = traces.get(question_key(sample.example))
        right = None
        if drawn is not None:
            right = drawn.right / drawn.sampled
        found.append(Figures(chain, answer, right))
    return found


def of_chain(teacher: WritingTeacher, sample: Encoded) -> Measured:
    """The chain of thought behind the question."""
    opening = teacher.opening(sample)
    return _measured(opening, sample.teacher_mode.cot)


def of_answer(teacher: WritingTeacher, sample: Encoded) -> Measured:
    """The answer behind the question, without a chain of thought."""
    before = teacher.opening(sample)
    if teacher.delimiters is not None:
        before.append(teacher.delimiters[1])
    return _measured([*before, *sample.teacher_mode.prompt.ids], sample.teacher_mode.answer)


@torch.no_grad()
def nats_per_character(teacher: WritingTeacher, texts: Sequence[Measured]) -> list[float | None]:
    """Negative log-likelihood of the scored tokens, per character.

    Args:
        teacher: the teacher; in evaluation mode afterwards.
        texts: any number of texts; padded on the right, which changes nothing.

    Returns:
        One value per text, in nats per character; None for a text without a scored token.
    """
    device, width = teacher.model.device, max(len(text.ids) for text in texts)
    teacher.require_room(width, "leave longer texts out of the data")
    padded = pad([text.ids for text in texts], teacher.pad_id, "right")
    ids, mask = padded.ids.to(device), padded.mask.to(device)
    scored = pad([text.scored for text in texts], False, "right").ids.bool().to(device)
    teacher.model.eval()
    logits: Tensor = teacher.model(input_ids=ids, attention_mask=mask.long()).logits
    # The row before a token predicts it; only scored rows go through the softmax.
    rows = scored[:, 1:]
    nll = functional.cross_entropy(to_float32(logits[:, :-1][rows]), ids[:, 1:][rows], reduction="none")
    sums = (
        torch.zeros(rows.shape, dtype=torch.float64, device=device).masked_scatter(rows, nll.double()).sum(1)
    )
    found: list[float | None] = []
    for text, total in zip(texts, sums.tolist(), strict=True):
        value = None
        if text.characters:
            value = total / text.characters
        found.append(value)
    return found


def _measured(before: list[int], segment: Segment) -> Measured:
    """A segment behind other tokens; tokens without characters (end token, lone word marks) do not count."""
    covers = [stop > start for start, stop in segment.spans]
    characters = {place for start, stop in segment.spans for place in range(start, stop)}
    return Measured([*before, *segment.ids], [False] * len(before) + covers, len(characters))


def _begun(log: RowLog, header: dict[str, object], say: Callable[[str], None]) -> CompetenceTable:
    """What an earlier call has measured; begins the file where there is none."""
    if differing := log.resume(header, say):
        raise ValueError(
            f"{log.path} was made with other {', '.join(differing)}. Choose another folder, or remove it and "
            f"run `{MADE_BY}` again."
        )
    return read_table(log.path)


def _data_fingerprint(asked: Mapping[str, Example]) -> str:
    """Questions with their answers and chains of thought."""
    text = repr([(key, example.steps) for key, example in asked.items()])
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _traces_fingerprint(found: Mapping[str, QuestionTraces]) -> str:
    text = repr([(key, each.sampled, each.right) for key, each in found.items()])
    return blake2b(text.encode(), digest_size=16).hexdigest()
