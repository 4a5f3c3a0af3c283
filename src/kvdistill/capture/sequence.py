"""Where each token of a call stands: pieces of text side by side, who reads them, and what each row sees and
predicts.

Pieces are padded on their own, and masks and position ids say the rest, so left and right padding are the
same thing.
"""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from kvdistill.capture.attention import AttentionCall, Prefix
from kvdistill.capture.extract import AnswerRows
from kvdistill.text import Batch

Reader = Literal["shared", "student", "teacher"]


@runtime_checkable
class Before(Protocol):
    """What stands before a sequence: keys and values by layer, with their mask and positions."""

    @property
    def prefix(self) -> Prefix:
        """Layer id -> keys and values."""
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
class Piece:
    """A stretch of a sequence, who reads it, and whether its tokens are to be predicted."""

    name: str
    reader: Reader
    ids: Int[Tensor, "B n"]
    mask: Bool[Tensor, "B n"]
    labelled: bool = False


@dataclass(frozen=True, slots=True)
class Targets:
    """Rows that predict a token: sample, column of the predicting row, the token, and whether it belongs to
    the answer.
    """

    sample: Int[Tensor, " R"]
    column: Int[Tensor, " R"]
    label: Int[Tensor, " R"]
    is_answer: Bool[Tensor, " R"]


@dataclass(frozen=True, slots=True)
class Sequence:
    """Pieces side by side, with positions of each reader's own count."""

    pieces: tuple[Piece, ...]
    offset: Int[Tensor, " B"]
    """Position of the first token: the number of valid tokens of each sample that stand before this sequence.
    """

    @property
    def ids(self) -> Int[Tensor, "B S"]:
        """Token ids of all pieces."""
        return torch.cat([piece.ids for piece in self.pieces], dim=1)

    @property
    def mask(self) -> Bool[Tensor, "B S"]:
        """True where a token stands."""
        return torch.cat([piece.mask for piece in self.pieces], dim=1)

    def span(self, name: str, reader: Reader) -> tuple[int, int]:
        """First column of a piece and the column after its last."""
        start = 0
        for piece in self.pieces:
            if (piece.name, piece.reader) == (name, reader):
                return start, start + piece.ids.shape[1]
            start += piece.ids.shape[1]
        raise KeyError(f"no piece {name} of {reader}")

    def columns(self, reader: Reader) -> Int[Tensor, " W"]:
        """Columns that a reader reads, its own and the shared ones, in order."""
        return self._owner_is(("shared", reader)).nonzero()[:, 0]

    def positions(self) -> Int[Tensor, "B S"]:
        """Position ids: each reader counts its own valid tokens; 0 under padding."""
        mask, positions = self.mask, torch.zeros_like(self.ids)
        for reader in ("teacher", "student"):
            columns = self.columns(reader)
            own = mask[:, columns]
            positions[:, columns] = torch.where(own, own.long().cumsum(-1) - 1 + self.offset[:, None], 0)
        return positions

    def visible(self) -> Bool[Tensor, "B S S"]:
        """True where a row sees a column: causal, its reader's, not padding; a token always sees itself."""
        mask, size = self.mask, self.ids.shape[1]
        row = torch.arange(size, device=mask.device)
        student, teacher = self._owner_is(("student",)), self._owner_is(("teacher",))
        strangers = (student[:, None] & teacher) | (teacher[:, None] & student)
        allowed = (row[:, None] >= row) & ~strangers
        return (allowed & mask[:, None]) | torch.eye(size, dtype=torch.bool, device=mask.device)

    def targets(self, reader: Reader) -> Targets:
        """The rows of ``reader`` that predict a labelled token: for each, the last valid token before it."""
        columns, before = self._before(reader)
        wanted = torch.cat(
            [torch.full((p.ids.shape[1],), p.labelled, device=p.ids.device) for p in self.pieces]
        )
        answer = torch.cat(
            [torch.full((p.ids.shape[1],), p.name == "answer", device=p.ids.device) for p in self.pieces]
        )
        sample, place = (self.mask[:, columns] & wanted[columns]).nonzero(as_tuple=True)
        column = columns[place]
        return Targets(sample, before[sample, place], self.ids[sample, column], answer[column])

    def answer_rows(self, reader: Reader) -> AnswerRows:
        """The rows of ``reader`` that predict the answer; each sample's first is the distillation token."""
        columns, before = self._before(reader)
        start, stop = self.span("answer", reader)
        place = (columns >= start) & (columns < stop)
        rows = before[:, place].clamp_min(0)
        return AnswerRows(rows, self.mask[:, start:stop], self.positions().gather(1, rows))

    def distillation(self, reader: Reader) -> Int[Tensor, " B"]:
        """Column of the last token of the answer prompt."""
        rows = self.answer_rows(reader)
        first = rows.mask.int().argmax(1, keepdim=True)
        return rows.columns.gather(1, first)[:, 0]

    def _owner_is(self, readers: tuple[Reader, ...]) -> Bool[Tensor, " S"]:
        return torch.cat(
            [torch.full((p.ids.shape[1],), p.reader in readers, device=p.ids.device) for p in self.pieces]
        )

    def _before(self, reader: Reader) -> tuple[Int[Tensor, " W"], Int[Tensor, "B W"]]:
        """The reader's columns, and the column of the last valid token before each (-1 for the first)."""
        columns = self.columns(reader)
        valid = torch.where(self.mask[:, columns], columns, -1).cummax(1).values
        return columns, torch.cat((torch.full_like(valid[:, :1], -1), valid[:, :-1]), dim=1)


def attention_call(sequence: Sequence, width: int, before: Before | None = None) -> AttentionCall:
    """What the first ``width`` columns of ``sequence`` ask of every attention layer, on top of a prefix."""
    positions = sequence.positions()[:, :width]
    visible = sequence.visible()[:, :width, :width]
    if before is None:
        return AttentionCall(visible[:, None], positions, positions)
    prefix_visible = before.mask[:, None].expand(-1, width, -1)
    visible = torch.cat((prefix_visible, visible), 2)
    key_positions = torch.cat((before.positions, positions), 1)
    return AttentionCall(visible[:, None], positions, key_positions, before.prefix)


def explicit(batch: Batch, delimiters: tuple[int, int] | None) -> Sequence:
    """All that a teacher reads, with nobody else in the sequence."""
    question = Piece("question", "shared", batch.question.ids, batch.question.mask)
    zero = torch.zeros(len(batch), dtype=torch.long, device=batch.question.ids.device)
    return Sequence((question, *teacher_pieces(batch, delimiters)), zero)


def teacher_pieces(batch: Batch, delimiters: tuple[int, int] | None) -> tuple[Piece, ...]:
    """What a teacher reads after the question; it predicts all from the chain of thought on, so that it can
    write by itself.

    ``delimiters`` are the tokens before and after the chain of thought, where the teacher was taught with
    any.
    """
    cot = Piece("cot", "teacher", batch.cot.ids, batch.cot.mask, labelled=True)
    bot = (constant(batch, "bot", "teacher", delimiters[0], 1),) if delimiters else ()
    eot = (constant(batch, "eot", "teacher", delimiters[1], 1, labelled=True),) if delimiters else ()
    return (
        Piece("cue", "teacher", batch.cue.ids, batch.cue.mask),
        *bot,
        cot,
        *eot,
        Piece("prompt", "teacher", batch.prompt.ids, batch.prompt.mask, labelled=True),
        Piece("answer", "teacher", batch.answer.ids, batch.answer.mask, labelled=True),
    )


def constant(
    batch: Batch, name: str, reader: Reader, token: int, count: int, labelled: bool = False
) -> Piece:
    """``count`` times the same token."""
    ids = torch.full((len(batch), count), token, dtype=torch.long, device=batch.question.ids.device)
    return Piece(name, reader, ids, torch.ones_like(ids, dtype=torch.bool), labelled)
