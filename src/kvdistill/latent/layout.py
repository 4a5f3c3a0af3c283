"""Layout of the student's input: its pieces of the packed sequence of both modes.

The packed sequence is ``question | student: cue, bot, placeholders | teacher: cue, (bot), chain of thought,
(eot), prompt, answer``. Both modes attend to the question; neither attends to the other. The student's tail
(eot, prompt, answer) is read by the last pass over the latent slots, or packed as well where there is none.
"""

from typing import NamedTuple

from kvdistill.capture.pieces import Piece, constant
from kvdistill.text import ReaderBatch


class Special(NamedTuple):
    """Token ids of the delimiters of the latent slots and of their placeholder."""

    bot: int
    eot: int
    latent: int


def cot_delimiters(delimiters: str, special: Special) -> tuple[int, int] | None:
    """Delimiters of the teacher's chain of thought.

    Args:
        delimiters: ``LatentConfig.delimiters``.
        special: The student's special tokens.

    Returns:
        The ids of ``<bot>`` and ``<eot>``; None where only student mode reads them.
    """
    return (special.bot, special.eot) if delimiters == "both" else None


def question_pieces(reader: ReaderBatch, special: Special, placeholders: int) -> tuple[Piece, ...]:
    """Pieces of the student's input up to its placeholders.

    Args:
        reader: What student mode reads of B samples.
        special: The student's special tokens.
        placeholders: Number of ``<latent>`` tokens, M - T for M slots and T passes.

    Returns:
        Question, cue, ``<bot>`` and placeholders, each with ids and mask (B, its length).
    """
    return (
        Piece("question", "shared", reader.question.ids, reader.question.mask),
        Piece("cue", "student", reader.cue.ids, reader.cue.mask),
        constant(reader.question, "bot", "student", special.bot, 1),
        constant(reader.question, "latents", "student", special.latent, placeholders),
    )


def tail_pieces(reader: ReaderBatch, special: Special) -> tuple[Piece, ...]:
    """Pieces of the student's input after its latent slots; the answer and the words before it are predicted.

    Args:
        reader: What student mode reads of B samples.
        special: The student's special tokens.

    Returns:
        ``<eot>``, answer prompt and answer, each with ids and mask (B, its length); before the prompt, the
        chain of thought where a curriculum gives student mode one.
    """
    words: tuple[Piece, ...] = ()
    if reader.cot.ids.shape[1]:
        words = (Piece("cot", "student", reader.cot.ids, reader.cot.mask, labelled=True),)
    return (
        constant(reader.question, "eot", "student", special.eot, 1),
        *words,
        Piece("prompt", "student", reader.prompt.ids, reader.prompt.mask),
        Piece("answer", "student", reader.answer.ids, reader.answer.mask, labelled=True),
    )
