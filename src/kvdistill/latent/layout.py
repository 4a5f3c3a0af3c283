"""What the student reads: its part of one packed sequence for both modes, and its tail.

The packed sequence is ``question | student: cue, bot, placeholders | teacher: cue, (bot), chain of thought,
(eot), prompt, answer``. Both modes see the question, neither sees the other.
"""

from typing import NamedTuple

from kvdistill.capture.sequence import Piece, constant
from kvdistill.text import Batch


class Special(NamedTuple):
    """Ids of the tokens round the latent slots."""

    bot: int
    eot: int
    latent: int


def cot_delimiters(delimiters: str, special: Special) -> tuple[int, int] | None:
    """Tokens before and after the chain of thought.

    Args:
        delimiters: ``LatentConfig.delimiters``.
        special: The student's special tokens.

    Returns:
        The ids of ``<bot>`` and ``<eot>``; None where only student mode reads them.
    """
    return (special.bot, special.eot) if delimiters == "both" else None


def question_pieces(batch: Batch, special: Special, placeholders: int) -> tuple[Piece, ...]:
    """What the student reads before it answers."""
    return (
        Piece("question", "shared", batch.question.ids, batch.question.mask),
        Piece("cue", "student", batch.student_cue.ids, batch.student_cue.mask),
        constant(batch, "bot", "student", special.bot, 1),
        constant(batch, "latents", "student", special.latent, placeholders),
    )


def tail_pieces(batch: Batch, special: Special) -> tuple[Piece, ...]:
    """What the student reads after its latent slots; only the answer is to be predicted."""
    return (
        constant(batch, "eot", "student", special.eot, 1),
        Piece("prompt", "student", batch.prompt.ids, batch.prompt.mask),
        Piece("answer", "student", batch.answer.ids, batch.answer.mask, labelled=True),
    )
