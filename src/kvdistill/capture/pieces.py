"""Pieces of a packed sequence: adjacent columns of text with one reader."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from kvdistill.text import Padded, ReaderBatch

Reader = Literal["shared", "student", "teacher"]
"""Which mode reads a piece; both read shared ones."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Adjacent columns of a sequence with one reader, and whether their tokens are labels."""

    name: str
    reader: Reader
    ids: Int[Tensor, "B n"]
    mask: Bool[Tensor, "B n"]
    labelled: bool = False

    def read_by(self, reader: Reader) -> bool:
        """Whether a mode reads the piece: its own and the shared ones."""
        return self.reader in ("shared", reader)


def teacher_pieces(reader: ReaderBatch, delimiters: tuple[int, int] | None) -> tuple[Piece, ...]:
    """Pieces that a teacher reads after the question: cue, chain of thought, answer prompt and answer.

    All tokens from the chain of thought on are labels, so that teacher mode can generate by itself.

    Args:
        reader: What it reads of B samples.
        delimiters: Token ids before and after the chain of thought, for a teacher trained with them.

    Returns:
        Pieces (B, n), in order.
    """
    question = reader.question
    chain: tuple[Piece, ...] = (Piece("cot", "teacher", reader.cot.ids, reader.cot.mask, labelled=True),)
    if delimiters:
        bot, eot = delimiters
        opening = constant(question, "bot", "teacher", bot, 1)
        closing = constant(question, "eot", "teacher", eot, 1, labelled=True)
        chain = (opening, *chain, closing)
    return (
        Piece("cue", "teacher", reader.cue.ids, reader.cue.mask),
        *chain,
        Piece("prompt", "teacher", reader.prompt.ids, reader.prompt.mask, labelled=True),
        Piece("answer", "teacher", reader.answer.ids, reader.answer.mask, labelled=True),
    )


def constant(
    like: Padded, name: str, reader: Reader, token: int, count: int, labelled: bool = False
) -> Piece:
    """A piece of one token repeated, such as ``<bot>`` or placeholders of latent slots.

    Args:
        like: Gives number of samples and device.
        name: Name of the piece.
        reader: Reader of the piece.
        token: Token id.
        count: Number of columns.
        labelled: Whether the tokens are labels.

    Returns:
        Ids (B, count), without padding.
    """
    ids = torch.full((len(like.ids), count), token, dtype=torch.long, device=like.ids.device)
    return Piece(name, reader, ids, torch.ones_like(ids, dtype=torch.bool), labelled)
