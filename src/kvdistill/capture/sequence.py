"""Packed sequences: pieces of text side by side, their readers, position ids, attention masks and labels.

Teacher mode and student mode share one sequence, and neither sees the other's pieces. Each piece is padded
by itself; masks and position ids make left and right padding equivalent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from kvdistill.capture.attention import AttentionCall, Prefix
from kvdistill.capture.extract import AnswerRows
from kvdistill.capture.pieces import Piece, Reader, teacher_pieces
from kvdistill.kv import NO_LABEL
from kvdistill.ops import host_reads
from kvdistill.text import ReaderBatch


@runtime_checkable
class Before(Protocol):
    """Prefix of a sequence: cached keys and values by layer, with their mask and positions."""

    @property
    def prefix(self) -> Prefix:
        """Layer id -> pieces of keys (B, H, P, K) and values (B, H, P, V), rotated."""
        ...

    @property
    def mask(self) -> Bool[Tensor, "B P"]:
        """True where the prefix holds a token."""
        ...

    @property
    def positions(self) -> Int[Tensor, "B P"]:
        """Position ids of the prefix."""
        ...


@dataclass(frozen=True, slots=True)
class Targets:
    """Rows that predict a label, over all samples of a batch."""

    sample: Int[Tensor, " R"]
    """Sample of each row."""
    column: Int[Tensor, " R"]
    """Column of the row that predicts."""
    label: Int[Tensor, " R"]
    """Token id to predict."""
    is_answer: Bool[Tensor, " R"]
    """Whether the label is a token of the answer."""


@dataclass(frozen=True)
class Sequence:
    """Pieces side by side; each reader counts its own positions. Derived tensors are computed once."""

    pieces: tuple[Piece, ...]
    offset: Int[Tensor, " B"]
    """Position of the first token: the number of valid tokens of each sample before this sequence."""

    @cached_property
    def ids(self) -> Int[Tensor, "B S"]:
        """Token ids of all pieces."""
        return torch.cat([piece.ids for piece in self.pieces], dim=1)

    @cached_property
    def mask(self) -> Bool[Tensor, "B S"]:
        """True where there is a token."""
        return torch.cat([piece.mask for piece in self.pieces], dim=1)

    def span(self, name: str, reader: Reader) -> tuple[int, int]:
        """Columns of a piece.

        Args:
            name: Name of the piece, such as ``cot``.
            reader: Reader of the piece.

        Returns:
            Its first column and the column after its last.
        """
        for piece, span in self._spans:
            if (piece.name, piece.reader) == (name, reader):
                return span.start, span.stop
        raise KeyError(f"no piece {name} of {reader}")

    def columns(self, reader: Reader) -> Int[Tensor, " W"]:
        """Columns that a reader reads: its own and the shared ones.

        Args:
            reader: ``teacher`` or ``student``.

        Returns:
            Columns in ascending order, (W), padding included.
        """
        return self._column_ids(lambda piece: piece.read_by(reader))

    @cached_property
    def _spans(self) -> list[tuple[Piece, range]]:
        """Each piece with its columns."""
        edges = list(accumulate((piece.ids.shape[1] for piece in self.pieces), initial=0))
        return list(zip(self.pieces, map(range, edges, edges[1:]), strict=True))

    @property
    def _readers(self) -> set[str]:
        """The readers of pieces that are not shared."""
        return {piece.reader for piece in self.pieces} - {"shared"}

    @cached_property
    def positions(self) -> Int[Tensor, "B S"]:
        """Position ids, 0 at padding: each reader counts its own valid tokens, from ``offset``."""
        mask = self.mask
        if len(self._readers) == 1:  # all columns are this reader's
            return torch.where(mask, mask.long().cumsum(-1) - 1 + self.offset[:, None], 0)
        positions = torch.zeros_like(self.ids)
        for reader in ("teacher", "student"):
            columns = self.columns(reader)
            # Shared columns are written twice with the same numbers, as they precede each reader's own.
            own = mask[:, columns]
            positions[:, columns] = torch.where(own, own.long().cumsum(-1) - 1 + self.offset[:, None], 0)
        return positions

    @cached_property
    def visible(self) -> Bool[Tensor, "B S S"]:
        """Attention mask: causal, between columns of one reader and shared ones, without padding.

        True where a row sees a column. Every row sees itself, padding too.
        """
        mask, size = self.mask, self.ids.shape[1]
        row = torch.arange(size, device=mask.device)
        allowed = row[:, None] >= row
        if len(self._readers) > 1:
            # Neither mode sees the other: this is what lets both share one forward pass.
            student = self._column_mask(lambda piece: piece.reader == "student")
            teacher = self._column_mask(lambda piece: piece.reader == "teacher")
            allowed &= ~((student[:, None] & teacher) | (teacher[:, None] & student))
        # The diagonal keeps the softmax of padding rows finite.
        return (allowed & mask[:, None]) | torch.eye(size, dtype=torch.bool, device=mask.device)

    def moved(self, by: int) -> "Sequence":
        """The same pieces ``by`` positions later, with the same ids, mask and attention mask.

        Args:
            by: Number of tokens.
        """
        moved = Sequence(self.pieces, self.offset + by)
        positions = torch.where(self.mask, self.positions + by, 0)
        moved.__dict__.update(ids=self.ids, mask=self.mask, visible=self.visible, positions=positions)
        return moved

    def targets(self, reader: Reader) -> Targets:
        """Labels of a reader, and the rows that predict them.

        Args:
            reader: ``teacher`` or ``student``.

        Returns:
            R rows; each label is predicted by the reader's last valid token before it.
        """
        labelled = self._column_ids(lambda piece: piece.labelled and piece.read_by(reader))
        entries = self.mask[:, labelled]
        if host_reads(entries):
            sample, place = entries.nonzero(as_tuple=True)
        else:  # a number of rows that does not depend on the batch
            sample, place = _all_entries(entries)
        column = labelled[place]
        label = torch.where(self.mask[sample, column], self.ids[sample, column], NO_LABEL)
        answer = self._column_mask(lambda piece: piece.name == "answer")
        return Targets(sample, self._before(reader)[sample, column], label, answer[column])

    def answer_rows(self, reader: Reader) -> AnswerRows:
        """The rows that predict the answer; the first of each sample is the distillation token.

        Args:
            reader: ``teacher`` or ``student``.

        Returns:
            Columns, mask and position ids of A rows, (B, A).
        """
        start, stop = self.span("answer", reader)
        rows = self._before(reader)[:, start:stop].clamp_min(0)  # (B, A)
        return AnswerRows(rows, self.mask[:, start:stop], self.positions.gather(1, rows))

    def distillation(self, reader: Reader) -> Int[Tensor, " B"]:
        """Column of the distillation token: the last token of the answer prompt.

        Args:
            reader: ``teacher`` or ``student``.

        Returns:
            One column per sample, (B).
        """
        rows = self.answer_rows(reader)
        first = rows.mask.int().argmax(1, keepdim=True)  # the first valid one: answers may be left-padded
        return rows.columns.gather(1, first)[:, 0]

    def _column_mask(self, chosen: Callable[[Piece], bool]) -> Bool[Tensor, " S"]:
        return torch.cat([torch.full(p.mask.shape[1:], chosen(p), device=p.mask.device) for p in self.pieces])

    def _column_ids(self, chosen: Callable[[Piece], bool]) -> Int[Tensor, " W"]:
        # From the pieces' widths and not from a mask, which the host would have to wait for.
        spans = [span for piece, span in self._spans if chosen(piece)] or [range(0)]
        return torch.cat([torch.arange(s.start, s.stop, device=self.offset.device) for s in spans])

    def _before(self, reader: Reader) -> Int[Tensor, "B S"]:
        """The column of the reader's last valid token before each column; -1 where there is none."""
        read = self._column_mask(lambda piece: piece.read_by(reader))
        column = torch.arange(len(read), device=read.device)
        # A running maximum of valid columns skips padding and the other reader's pieces.
        valid = torch.where(self.mask & read, column, -1).cummax(1).values
        return torch.cat((torch.full_like(valid[:, :1], -1), valid[:, :-1]), dim=1)


def _all_entries(table: Bool[Tensor, "B W"]) -> tuple[Int[Tensor, " R"], Int[Tensor, " R"]]:
    """Row and column of every entry, row by row."""
    rows, columns = (torch.arange(size, device=table.device) for size in table.shape)
    return rows.repeat_interleave(len(columns)), columns.repeat(len(rows))


def attention_call(sequence: Sequence, width: int, before: Before | None = None) -> AttentionCall:
    """Attention mask, positions and prefix of a forward pass over the first columns of a sequence.

    Args:
        sequence: S columns.
        width: How many columns the forward pass reads.
        before: Prefix of P tokens, whose valid ones every row sees; None without one.

    Returns:
        The call to pass to the model as ``kv_call``: mask (B, 1, width, P + width), prefix first.
    """
    positions = sequence.positions[:, :width]
    visible = sequence.visible[:, :width, :width]
    if before is None:
        return AttentionCall(visible[:, None], positions, (positions,))
    prefix_visible = before.mask[:, None].expand(-1, width, -1)
    visible = torch.cat((prefix_visible, visible), 2)  # (B, width, P + width)
    return AttentionCall(visible[:, None], positions, (before.positions, positions), before.prefix)


def explicit(reader: ReaderBatch, delimiters: tuple[int, int] | None) -> Sequence:
    """The sequence of one reader alone: question, chain of thought and answer, without a student.

    Args:
        reader: What it reads of B samples.
        delimiters: Token ids before and after the chain of thought; None without.

    Returns:
        A sequence that begins at position 0.
    """
    question = Piece("question", "shared", reader.question.ids, reader.question.mask)
    no_prefix = torch.zeros_like(reader.question.lengths)
    return Sequence((question, *teacher_pieces(reader, delimiters)), no_prefix)
