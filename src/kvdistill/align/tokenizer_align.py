"""Token alignment: which teacher tokens cover the characters of each student token.

Letters of shapes in this file: ``n`` tokens of one reader in a batch, padding excluded; ``p`` pairs of
overlapping tokens; ``r`` rows, one for each place of the student's padded ``cot``; ``k`` teacher tokens of
one student token; ``c`` characters of all texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from kvdistill.text import ReaderBatch, TokenAlignment

TokenWeights = Literal["average", "last"]
"""Weights of the teacher tokens of one student token: shares of the overlap, or the last token alone."""

SHORTEST = 1e-9
"""Characters; a shorter overlap is a rounding error of two equal boundaries."""


@dataclass(frozen=True, slots=True)
class _Tokens:
    """The tokens of a batch that cover characters, ordered by span within each sample."""

    place: Int[np.ndarray, " n"]
    """Where the token is in the padded ``cot``, flattened over samples and columns."""
    start: Int[np.ndarray, " n"]
    """First character, counted through all texts of the batch."""
    end: Int[np.ndarray, " n"]
    left: Float[np.ndarray, " n"]
    """Where the token's share of its span begins, in characters of its own text."""
    right: Float[np.ndarray, " n"]


@dataclass(frozen=True, slots=True)
class _Table:
    """Where pairs of tokens are stored: one row per place in the student's padded ``cot``."""

    order: Int[np.ndarray, " p"]
    row: Int[np.ndarray, " p"]
    slot: Int[np.ndarray, " p"]
    counts: Int[np.ndarray, " r"]
    """Pairs in each row."""
    shape: tuple[int, int]
    """Samples and columns of the student's padded ``cot``."""

    @classmethod
    def of(
        cls, place: Int[np.ndarray, " p"], source: Int[np.ndarray, " p"], shape: tuple[int, int]
    ) -> "_Table":
        """Order pairs by the student's place, and within a row by the teacher's."""
        order = _stable_order(place * (source.max(initial=0) + 1) + source)
        row = place[order]
        counts = np.bincount(row, minlength=shape[0] * shape[1])
        slot = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        return cls(order, row, slot, counts, shape)

    def last(self, inside: Bool[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
        """Weight 1 at the last pair of each row that is ``inside``, or at its first where none is."""
        ends = inside[self.order]
        chosen = np.zeros(len(self.counts), dtype=np.int64)
        # Slots rise within a row, and the last of several assignments to one row remains.
        chosen[self.row[ends]] = self.slot[ends]
        weights = np.empty(len(self.row))
        weights[self.order] = self.slot == chosen[self.row]
        return weights

    def fill(self, values: Shaped[np.ndarray, " p"]) -> Shaped[np.ndarray, "B N k"]:
        """Values of the pairs by student token, 0 where it has fewer than k; k is at least 1."""
        columns = max(1, int(self.counts.max(initial=0)))
        filled = np.zeros((len(self.counts), columns), values.dtype)
        filled[self.row, self.slot] = values[self.order]
        return filled.reshape(*self.shape, columns)


def align_tokens(
    texts: Sequence[str], student: ReaderBatch, teacher: ReaderBatch, weights: TokenWeights = "average"
) -> TokenAlignment:
    """Match the tokens of two readers by the characters that they cover, never by their position.

    Leading spaces count as part of a token only where it has nothing else. Tokens with one and the same span
    (the bytes of an emoji) share it in equal parts, in order. ``average`` weighs a teacher token by its
    intersection over union with the student token, normalized over teacher tokens. ``last`` takes the last
    teacher token that ends inside the student token, the only one that has read all of it; where none ends
    inside, the first that overlaps. ``carry`` is the intersection, normalized over student tokens.

    Args:
        texts: B chains of thought, the same for both readers.
        student: What the student reads in teacher mode, N tokens; on the CPU, as the teacher's.
        teacher: What the teacher reads.
        weights: How ``average`` of the result is made.

    Returns:
        For each student token the k teacher tokens that it overlaps, in order, with their weights, (B, N, k).

    Source: ours.
    """
    # Texts are counted through, so that one sweep serves all samples of the batch.
    following = _next_letters(texts)
    ours = _tokens(texts, student, following)
    theirs = _tokens(texts, teacher, following)
    row, column, overlap = _overlaps(ours, theirs)
    batch, width = student.cot.mask.shape
    table = _Table.of(ours.place[row], theirs.place[column], (batch, width))
    if weights == "last":
        average = table.last(theirs.right[column] <= ours.right[row] + SHORTEST)
    else:
        union = (ours.right - ours.left)[row] + (theirs.right - theirs.left)[column] - overlap
        average = overlap / union
    total = np.bincount(row, average, minlength=len(ours.place))
    # Importance that each teacher token has to give away: the sum over the student tokens that it overlaps.
    received = np.bincount(column, overlap, minlength=len(theirs.place))
    columns = {
        # A place modulo the width of the padded segment is the column.
        "index": theirs.place[column] % max(1, teacher.cot.mask.shape[1]),
        "average": (average / total[row]).astype(np.float32),
        "carry": (overlap / received[column]).astype(np.float32),
    }
    return TokenAlignment(
        **{name: torch.from_numpy(table.fill(values)) for name, values in columns.items()},
        mask=student.cot.mask,
        covered=torch.from_numpy((table.counts > 0).reshape(batch, width)),
        step_end=student.step_end,
    )


def uncovered_tokens(alignment: TokenAlignment) -> Float[Tensor, " B"]:
    """Share of the student's tokens that no teacher token overlaps.

    Args:
        alignment: Of B samples.

    Returns:
        0 to 1 for each sample; 0 where the student has no token.
    """
    tokens = alignment.mask.sum(-1)
    return (tokens - alignment.covered.sum(-1)) / tokens.clamp_min(1)


def uncovered_characters(
    texts: Sequence[str], student: ReaderBatch, teacher: ReaderBatch
) -> Float[Tensor, " B"]:
    """Share of the visible characters of the student's tokens that no teacher token covers.

    Args:
        texts: B chains of thought, the same for both readers.
        student: What the student reads in teacher mode.
        teacher: What the teacher reads.

    Returns:
        0 to 1 for each sample; 0 where the student's tokens cover no visible character.
    """
    sample = np.repeat(np.arange(len(texts)), _lengths(texts))
    visible = np.array([not letter.isspace() for letter in _joined(texts)], dtype=bool)
    read = visible & _covered_characters(texts, student)
    missing = read & ~_covered_characters(texts, teacher)
    shares = np.bincount(sample[missing], minlength=len(texts)) / np.maximum(
        1, np.bincount(sample[read], minlength=len(texts))
    )
    return torch.from_numpy(shares).float()


def _joined(texts: Sequence[str]) -> str:
    """The texts in one, each with a line break behind it."""
    return "\n".join([*texts, ""])


def _lengths(texts: Sequence[str]) -> Int[np.ndarray, " b"]:
    """Characters of each text in ``_joined``."""
    return np.array([len(text) + 1 for text in texts], dtype=np.int64)


def _spans(
    texts: Sequence[str], reader: ReaderBatch
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Start, end and offset of every token: spans in ``_joined``, and where the token's own text begins."""
    lengths = _lengths(texts)
    offset = np.repeat(np.cumsum(lengths) - lengths, np.count_nonzero(reader.cot.mask.numpy(), axis=1))
    spans = reader.spans.numpy().reshape(-1, 2)[_places(reader)]
    return spans[:, 0] + offset, spans[:, 1] + offset, offset


def _places(reader: ReaderBatch) -> Int[np.ndarray, " n"]:
    """Where each token is in the padded ``cot``, flattened over samples and columns."""
    return np.flatnonzero(reader.cot.mask.numpy())


def _covered_characters(texts: Sequence[str], reader: ReaderBatch) -> Bool[np.ndarray, " c"]:
    """True at the characters of ``_joined`` that a token covers."""
    start, end, _ = _spans(texts, reader)
    characters = int(_lengths(texts).sum())
    # Spans that have begun and not ended, at each character.
    begun = np.bincount(start, minlength=characters + 1) - np.bincount(end, minlength=characters + 1)
    return np.cumsum(begun)[:characters] > 0


def _tokens(texts: Sequence[str], reader: ReaderBatch, following: Int[np.ndarray, " c"]) -> _Tokens:
    """The tokens of a reader that cover characters, without leading spaces."""
    start, end, offset = _spans(texts, reader)
    place = _places(reader)
    # Leading spaces are left out, except from tokens that have nothing else.
    stripped = following[np.minimum(start, len(following) - 1)]
    start = np.where(stripped < end, stripped, start)
    # Special tokens, and tokens that a normalizer left without characters, overlap nothing.
    filled = np.flatnonzero(end > start)
    order = filled[_stable_order(start[filled] * (end.max(initial=0) + 1) + end[filled])]
    place, offset, start, end = place[order], offset[order], start[order], end[order]
    # Runs of equal spans: each token has the rank-th of ``count`` equal parts.
    first = np.ones(len(start), dtype=bool)
    first[1:] = (start[1:] != start[:-1]) | (end[1:] != end[:-1])
    heads = np.flatnonzero(first)
    sizes = np.append(heads[1:], len(start)) - heads
    count = np.repeat(sizes, sizes)
    rank = np.arange(len(start)) - np.repeat(heads, sizes)
    length = end - start
    # Parts are measured in the sample's own text, so that they do not depend on the rest of the batch.
    left = (start - offset) + length * rank / count
    right = (start - offset) + length * (rank + 1) / count
    return _Tokens(place, start, end, left, right)


def _next_letters(texts: Sequence[str]) -> Int[np.ndarray, " c"]:
    """For each character of ``_joined``, the index of the first one from there on that is no space."""
    letters = np.frombuffer(_joined(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    other = np.where(letters == ord(" "), len(letters), np.arange(len(letters)))
    # The smallest index to the right: a running minimum from the end of the text.
    return np.minimum.accumulate(other[::-1])[::-1]


def _overlaps(
    ours: _Tokens, theirs: _Tokens
) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """Pairs of overlapping tokens: index of the student's, index of the teacher's, length in characters."""
    # Teacher tokens from the first that ends behind the student token's start to the last that starts before
    # its end. The highest end so far makes the search exact where one span is inside another.
    low = np.searchsorted(np.maximum.accumulate(theirs.end), ours.start, side="right")
    high = np.searchsorted(theirs.start, ours.end, side="left")
    counts = np.maximum(high - low, 0)
    row = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    column = low[row] + within
    left = np.maximum(ours.left[row], theirs.left[column])
    right = np.minimum(ours.right[row], theirs.right[column])
    overlap = right - left
    # Two tokens that share the same span may have disjoint parts of it.
    kept = np.flatnonzero(overlap > SHORTEST)
    return row[kept], column[kept], overlap[kept]


def _stable_order(keys: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Indices that sort ``keys``, which mostly are sorted already; equal keys keep their order."""
    if (keys[1:] >= keys[:-1]).all():
        return np.arange(len(keys))
    return np.argsort(keys, kind="stable")
