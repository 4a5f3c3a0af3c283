"""One packed sequence, written out by hand and against lists of tokens."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pico
from kvdistill.capture.pieces import teacher_pieces
from kvdistill.capture.sequence import Sequence, explicit
from kvdistill.kv import NO_LABEL
from kvdistill.latent.layout import Special, question_pieces
from kvdistill.text import Batch

SPECIAL = Special(bot=61, eot=62, latent=63)
ROWS = (
    {"question": (10, 11), "cue": (), "student_cue": (), "cot": (20, 21), "prompt": (30,), "answer": (40, 2)},
    {"question": (12,), "cue": (), "student_cue": (), "cot": (22,), "prompt": (30,), "answer": (2,)},
)


def packed(batch: Batch, placeholders: int = 1, delimiters: bool = False) -> Sequence:
    pieces = question_pieces(batch.student_mode, SPECIAL, placeholders) + teacher_pieces(
        batch.teacher_mode, SPECIAL[:2] if delimiters else None
    )
    return Sequence(pieces, offset=torch.zeros(len(batch), dtype=torch.long))


def test_columns_by_hand() -> None:
    """Question 0-1, bot 2, placeholder 3, chain of thought 4-5, prompt 6, answer 7-8; sample 1 is padded in
    1, 5 and 8.
    """
    sequence = packed(pico.batch(ROWS))
    assert sequence.ids.tolist() == [[10, 11, 61, 63, 20, 21, 30, 40, 2], [12, 0, 61, 63, 22, 0, 30, 2, 0]]
    assert [sequence.span(name, "teacher") for name in ("cue", "cot", "prompt", "answer")] == [
        (4, 4),
        (4, 6),
        (6, 7),
        (7, 9),
    ]
    assert sequence.columns("student").tolist() == [0, 1, 2, 3]
    assert sequence.columns("teacher").tolist() == [0, 1, 4, 5, 6, 7, 8]
    with pytest.raises(KeyError, match="no piece answer of student"):
        sequence.span("answer", "student")


def test_positions_by_hand() -> None:
    sequence = packed(pico.batch(ROWS))
    assert sequence.positions.tolist() == [[0, 1, 2, 3, 2, 3, 4, 5, 6], [0, 0, 1, 2, 1, 0, 2, 3, 0]]
    behind = Sequence(sequence.pieces, offset=torch.tensor([0, 5]))
    assert behind.positions[1].tolist() == [5, 0, 6, 7, 6, 0, 7, 8, 0]


def test_a_moved_sequence_equals_one_built_there() -> None:
    sequence = packed(pico.batch(ROWS))
    moved, behind = sequence.moved(3).moved(2), Sequence(sequence.pieces, offset=torch.tensor([5, 5]))
    for name in ("offset", "ids", "mask", "positions", "visible"):
        assert torch.equal(getattr(moved, name), getattr(behind, name)), name


def test_visible_by_hand() -> None:
    """Sample 1: neither reader sees the other's columns or padding; padding sees itself, so that no row is
    empty.
    """
    rows = [
        "".join("x" if seen else "." for seen in row) for row in packed(pico.batch(ROWS)).visible[1].tolist()
    ]
    assert rows == [
        "x........",
        "xx.......",
        "x.x......",
        "x.xx.....",
        "x...x....",
        "x...xx...",
        "x...x.x..",
        "x...x.xx.",
        "x...x.xxx",
    ]


def test_targets_by_hand() -> None:
    """Each token of chain of thought, prompt and answer is predicted by the last valid token before it."""
    targets = packed(pico.batch(ROWS)).targets("teacher")
    assert targets.sample.tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    assert targets.label.tolist() == [20, 21, 30, 40, 2, 22, 30, 2]
    assert targets.column.tolist() == [1, 4, 5, 6, 7, 0, 4, 6]
    assert targets.is_answer.tolist() == [False, False, False, True, True, False, False, True]


def test_targets_without_reading_the_mask_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every labelled column of every sample has a row; those of padding have no label."""
    monkeypatch.setattr("kvdistill.capture.sequence.host_reads", lambda values: False)
    sequence = packed(pico.batch(ROWS))
    targets = sequence.targets("teacher")
    assert targets.sample.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert targets.label.tolist() == [20, 21, 30, 40, 2, 22, NO_LABEL, 30, 2, NO_LABEL]
    assert targets.is_answer.tolist() == [False, False, False, True, True] * 2
    valid = targets.label != NO_LABEL
    assert targets.column[valid].tolist() == [1, 4, 5, 6, 7, 0, 4, 6]


@pytest.mark.parametrize("side", ["left", "right"])
def test_answer_rows_by_hand(side: str) -> None:
    """The prompt's last token and the answer's but the last; the first is the distillation token."""
    sequence = packed(pico.batch(ROWS, side))
    rows = sequence.answer_rows("teacher")
    assert rows.columns[rows.mask].tolist() == [6, 7, 6]
    assert rows.positions[rows.mask].tolist() == [4, 5, 2]
    assert rows.mask.tolist() == [[True, True], [False, True] if side == "left" else [True, False]]
    assert sequence.distillation("teacher").tolist() == [6, 6]


def test_delimiters_by_hand() -> None:
    """With delimiters teacher mode reads bot and eot round its chain of thought and learns to write eot; bot
    is given.
    """
    sequence = packed(pico.batch(ROWS[:1]), delimiters=True)
    assert sequence.ids[0].tolist() == [10, 11, 61, 63, 61, 20, 21, 62, 30, 40, 2]
    assert sequence.targets("teacher").label.tolist() == [20, 21, 62, 30, 40, 2]


def test_a_teacher_alone_by_hand() -> None:
    batch = pico.batch(ROWS)
    sequence = explicit(batch.teacher_mode, (61, 62))
    assert sequence.ids.tolist() == [[10, 11, 61, 20, 21, 62, 30, 40, 2], [12, 0, 61, 22, 0, 62, 30, 2, 0]]
    assert sequence.positions.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 0, 1, 2, 0, 3, 4, 5, 0]]
    assert explicit(batch.teacher_mode, None).ids[0].tolist() == [10, 11, 20, 21, 30, 40, 2]


tokens = st.lists(st.integers(3, 60), max_size=4).map(tuple)
some = st.lists(st.integers(3, 60), min_size=1, max_size=4).map(tuple)
row = st.fixed_dictionaries(
    {"question": some, "cue": tokens, "student_cue": tokens, "cot": tokens, "prompt": some, "answer": some}
)


@given(
    st.lists(row, min_size=1, max_size=3),
    st.sampled_from(["left", "right"]),
    st.integers(0, 3),
    st.booleans(),
)
def test_each_reader_reads_its_own_text(
    rows: list[dict[str, tuple[int, ...]]], side: str, placeholders: int, both: bool
) -> None:
    """Any lengths, either side: ids, positions, what a row sees and what it predicts, against lists."""
    sequence = packed(pico.batch(tuple(rows), side), placeholders, both)
    visible, positions = sequence.visible, sequence.positions
    for sample, one in enumerate(rows):
        bot, eot = ((61,), (62,)) if both else ((), ())
        texts = {
            "student": (*one["question"], *one["student_cue"], 61, *(63,) * placeholders),
            "teacher": (
                *one["question"],
                *one["cue"],
                *bot,
                *one["cot"],
                *eot,
                *one["prompt"],
                *one["answer"],
            ),
        }
        for reader, text in texts.items():
            columns = [
                column for column in sequence.columns(reader).tolist() if sequence.mask[sample, column]
            ]
            assert sequence.ids[sample, columns].tolist() == list(text)
            assert positions[sample, columns].tolist() == list(range(len(text)))
            for place, column in enumerate(columns):
                assert visible[sample, column].nonzero()[:, 0].tolist() == columns[: place + 1]
        targets = sequence.targets("teacher")
        own = targets.sample == sample
        labelled = len(texts["teacher"]) - len(one["question"]) - len(one["cue"]) - len(bot)
        assert targets.label[own].tolist() == list(texts["teacher"][-labelled:])
        assert sequence.ids[sample, targets.column[own]].tolist() == list(
            texts["teacher"][-labelled - 1 : -1]
        )
        assert targets.is_answer[own].sum() == len(one["answer"])
