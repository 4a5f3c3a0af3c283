"""What the student reads, written out by hand."""

from dataclasses import replace

import torch

import pico
from kvdistill.capture.sequence import Sequence
from kvdistill.latent.layout import Special, cot_delimiters, question_pieces, tail_pieces

SPECIAL = Special(bot=61, eot=62, latent=63)
ROWS = (
    {
        "question": (10, 11),
        "cue": (),
        "student_cue": (15,),
        "cot": (20, 21),
        "prompt": (30,),
        "answer": (40, 2),
    },
    {"question": (12,), "cue": (), "student_cue": (), "cot": (22,), "prompt": (30,), "answer": (2,)},
)


def test_question_by_hand() -> None:
    """Question and cue, bot, two placeholders; nothing of it is to be predicted."""
    sequence = Sequence(
        question_pieces(pico.batch(ROWS).student_mode, SPECIAL, 2), offset=torch.tensor([0, 0])
    )
    assert sequence.ids.tolist() == [[10, 11, 15, 61, 63, 63], [12, 0, 0, 61, 63, 63]]
    assert sequence.positions.tolist() == [[0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 2, 3]]
    assert len(sequence.targets("student").label) == 0


def test_the_chain_of_thought_has_delimiters_only_where_both_modes_read_them() -> None:
    assert cot_delimiters("both", SPECIAL) == (61, 62)
    assert cot_delimiters("student", SPECIAL) is None


def test_tail_by_hand() -> None:
    """Of the student's tail the answer alone is to be predicted."""
    batch = pico.batch(ROWS)
    sequence = Sequence(tail_pieces(batch.student_mode, SPECIAL), offset=torch.tensor([4, 3]))
    assert sequence.ids.tolist() == [[62, 30, 40, 2], [62, 30, 2, 0]]
    assert sequence.positions.tolist() == [[4, 5, 6, 7], [3, 4, 5, 0]]
    targets = sequence.targets("student")
    assert (targets.sample.tolist(), targets.column.tolist(), targets.label.tolist()) == (
        [0, 0, 1],
        [1, 2, 1],
        [40, 2, 2],
    )
    assert targets.is_answer.all()


def test_a_tail_with_words_by_hand() -> None:
    """Tokens of a chain of thought in student mode come before the prompt, and are labels."""
    batch = pico.batch(ROWS)
    words = pico.pad([(11, 12), (13,)])
    sequence = Sequence(
        tail_pieces(replace(batch.student_mode, cot=words), SPECIAL), offset=torch.tensor([4, 3])
    )
    assert sequence.ids.tolist() == [[62, 11, 12, 30, 40, 2], [62, 13, 0, 30, 2, 0]]
    targets = sequence.targets("student")
    assert targets.label.tolist() == [11, 12, 40, 2, 13, 2]
    assert targets.column.tolist() == [0, 1, 3, 4, 0, 3]
    assert targets.is_answer.tolist() == [False, False, True, True, False, True]
