"""Collate: encoded examples to one padded batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from kvdistill.align.tokenizer_align import align_tokens
from kvdistill.data.encode import encode_all, pad_id_of
from kvdistill.data.readers import Reader
from kvdistill.data.template import Template, template_from
from kvdistill.text import Batch, Encoded, Example, Padded, ReaderBatch, Reading, TokenAlignment

Side = Literal["right", "left"]


def collate(
    samples: Sequence[Encoded],
    pad_id: int,
    padding_side: Side = "right",
    readers: Mapping[str, Reader] | None = None,
    epoch: int = 0,
    competence: Callable[[Example], Sequence[float]] | None = None,
) -> Batch:
    """Stack samples into a batch, each segment padded to its own longest member.

    Called in the loader's workers, where the texts of further readers are tokenized and aligned too.

    Args:
        samples: B encoded examples, at least one.
        pad_id: token id of padding; what is padding is decided by the masks, not by this id.
        padding_side: side of the padding, in every segment.
        readers: by short name, the teachers that read other tokens or texts than the student's teacher mode.
        epoch: number of the epoch, for readers that draw a chain.
        competence: competence of each of E teachers for an example; None where no fusion uses it.

    Returns:
        A batch of B samples; each segment has ids and mask of shape (B, its longest length).

    Raises:
        ValueError: if there is no sample, or a reader reads another chain of thought than the student.
    """
    if not samples:
        raise ValueError(
            "A batch needs at least one sample. Check that the data set is not empty, or that not every "
            "sample was dropped."
        )
    teacher_mode = _stack([sample.teacher_mode for sample in samples], pad_id, padding_side)
    student_cue = pad([sample.student_mode.cue.ids for sample in samples], pad_id, padding_side)
    examples = [sample.example for sample in samples]
    teachers: dict[str, ReaderBatch] = {}
    alignments: dict[str, TokenAlignment] = {}
    for name, reader in (readers or {}).items():
        readings = reader.read(examples, epoch)
        teachers[name] = _stack(readings, reader.pad_id, padding_side)
        if not reader.text.same:
            # Another text has no characters in common with the student's.
            continue
        _require_same_text(samples, readings, name)
        if not _same_tokens(samples, readings):
            texts = [reading.cot.text for reading in readings]
            alignments[name] = align_tokens(texts, teacher_mode, teachers[name], reader.token_weights)
    known = None
    if competence is not None:
        known = torch.tensor([list(competence(example)) for example in examples])
    return Batch(
        # Question, prompt and answer are shared with teacher mode.
        student_mode=replace(teacher_mode.without_cot(), cue=student_cue),
        teacher_mode=teacher_mode,
        teachers=teachers,
        alignments=alignments,
        cot_id=torch.tensor([cot_id_of(sample) for sample in samples]),
        sample_ids=tuple(sample.sample_id for sample in samples),
        competence=known,
    )


def _require_same_text(samples: Sequence[Encoded], readings: Sequence[Reading], name: str) -> None:
    for sample, reading in zip(samples, readings, strict=True):
        if sample.teacher_mode.cot.text != reading.cot.text:
            raise ValueError(
                f"The teacher {name} reads another chain of thought of sample {sample.sample_id} than the "
                "student, so their tokens cannot be aligned by characters. Set drop_last_step alike for "
                "both readers."
            )


def _same_tokens(samples: Sequence[Encoded], readings: Sequence[Reading]) -> bool:
    """Whether a reader has the student's ids and spans in every chain of thought of the batch."""
    return all(
        sample.teacher_mode.cot == reading.cot for sample, reading in zip(samples, readings, strict=True)
    )


def _stack(readings: Sequence[Reading], pad_id: int, side: Side) -> ReaderBatch:
    ends = [_is_step_end(reading) for reading in readings]
    cot = pad([reading.cot.ids for reading in readings], pad_id, side)
    return ReaderBatch(
        question=pad([reading.question.ids for reading in readings], pad_id, side),
        cue=pad([reading.cue.ids for reading in readings], pad_id, side),
        cot=cot,
        prompt=pad([reading.prompt.ids for reading in readings], pad_id, side),
        answer=pad([reading.answer.ids for reading in readings], pad_id, side),
        step_end=pad(ends, 0, side).ids.bool(),
        spans=_spans(readings, cot),
        step=pad([steps_of_tokens(reading) for reading in readings], -1, side).ids,
    )


def _is_step_end(reading: Reading) -> list[bool]:
    ends = set(reading.step_ends)
    return [index in ends for index in range(len(reading.cot.ids))]


def steps_of_tokens(reading: Reading) -> list[int]:
    """Reasoning step of each token of a chain of thought; a line break belongs to the step before it.

    Args:
        reading: An example as one reader's token ids.

    Returns:
        One number per token of ``cot``, from 0; all 0 where there are no step ends.
    """
    found, step, ended = [], 0, False
    ends = set(reading.step_ends)
    for index, (start, stop) in enumerate(reading.cot.spans):
        # After the end of a step, the first token that is more than white space begins the next one.
        if ended and reading.cot.text[start:stop].strip():
            step, ended = step + 1, False
        found.append(step)
        ended = ended or index in ends
    return found


def _spans(readings: Sequence[Reading], cot: Padded) -> Int[Tensor, "B N 2"]:
    """Character spans of the chains of thought, at the columns where ``cot`` has their tokens."""
    spans = torch.zeros(*cot.ids.shape, 2, dtype=torch.long)
    found = [span for reading in readings for span in reading.cot.spans]
    # The mask selects the valid columns sample by sample, in the order of the tokens.
    spans[cot.mask] = torch.tensor(found, dtype=torch.long).reshape(-1, 2)
    return spans


def encode_questions(
    questions: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    template: Template | Mapping[str, str] | None = None,
) -> Batch:
    """Encode questions for generation, padded on the left.

    Args:
        questions: B texts, at least one.
        tokenizer: as in ``encode_all``.
        template: a template, its settings as a dictionary, or None for the tokenizer's default.

    Returns:
        A batch of B samples with an empty chain of thought; the answer is the end token alone.

    Raises:
        ValueError: as ``encode_all`` and ``collate`` do.
    """
    examples = [
        Example(question=question, steps=(), answer="", sample_id=str(place))
        for place, question in enumerate(questions)
    ]
    template = template_from(template) if isinstance(template, Mapping) else template
    encoded = encode_all(examples, tokenizer, template, on_long="error")
    return collate(encoded.samples, pad_id_of(tokenizer), padding_side="left")


def cot_id_of(sample: Encoded) -> int:
    """Hash of the texts of chain of thought and answer, from 0 to 2^63 - 1, the same on every machine.

    Equal ids mark samples that are no valid partners for negative controls.
    """
    text = f"{sample.teacher_mode.cot.text}\0{sample.teacher_mode.answer.text}".encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") >> 1  # 63 bits fit an int64


def pad(rows: Sequence[Sequence[int]], fill: int, side: Side) -> Padded:
    """Pad rows to the longest.

    Args:
        rows: B rows of numbers, at least one.
        fill: the value of padding.
        side: side of the padding.

    Returns:
        Values and mask, (B, the longest length), on the CPU.
    """
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), fill, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.bool)
    for i, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[i, place] = torch.tensor(row, dtype=torch.long)
        mask[i, place] = True
    return Padded(ids, mask)
