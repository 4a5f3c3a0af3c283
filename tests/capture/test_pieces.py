"""Pieces of a packed sequence, by hand."""

import pico
from kvdistill.capture.pieces import constant, teacher_pieces

ROW = {"question": (10, 11), "cue": (7,), "student_cue": (), "cot": (20,), "prompt": (30,), "answer": (40, 2)}


def test_pieces_of_a_teacher_by_hand() -> None:
    """Everything from the chain of thought on is a label, but for the given ``<bot>``."""
    reader = pico.batch([ROW]).teacher_mode
    found = [
        (piece.name, piece.ids[0].tolist(), piece.labelled) for piece in teacher_pieces(reader, (61, 62))
    ]
    assert found == [
        ("cue", [7], False),
        ("bot", [61], False),
        ("cot", [20], True),
        ("eot", [62], True),
        ("prompt", [30], True),
        ("answer", [40, 2], True),
    ]
    assert [piece.name for piece in teacher_pieces(reader, None)] == ["cue", "cot", "prompt", "answer"]
    assert {piece.reader for piece in teacher_pieces(reader, None)} == {"teacher"}


def test_a_constant_piece_by_hand() -> None:
    piece = constant(pico.batch([ROW, ROW]).teacher_mode.question, "latents", "student", 63, 3)
    assert piece.ids.tolist() == [[63, 63, 63]] * 2
    assert piece.mask.all()
    assert (piece.name, piece.reader, piece.labelled) == ("latents", "student", False)
