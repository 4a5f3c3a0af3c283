"""Token alignment by hand, against a slow definition, and on real texts with seven real tokenizers."""

import itertools
import json
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pico_tokenizer
from kvdistill.align.tokenizer_align import (
    TokenWeights,
    align_tokens,
    uncovered_characters,
    uncovered_tokens,
)
from kvdistill.data.segments import segments_of
from kvdistill.text import Segment, TokenAlignment
from pico_alignment import Spans, reader

TEXTS = 500


def align(text: str, student: Spans, teacher: Spans, weights: TokenWeights = "average") -> TokenAlignment:
    return align_tokens([text], reader([student]), reader([teacher]), weights)


def rows(weights: torch.Tensor) -> list[list[float]]:
    """Weights of the first sample, to four digits."""
    return [[round(value, 4) for value in row] for row in weights[0].tolist()]


# By hand.


def test_overlaps_by_hand() -> None:
    """Student abcd|ef, teacher a|bcde|f."""
    student, teacher = [(0, 4), (4, 6)], [(0, 1), (1, 5), (5, 6)]
    aligned = align("abcdef", student, teacher)
    assert aligned.index.tolist() == [[[0, 1], [1, 2]]]
    # Intersection over union: 1/4 and 3/5, then 1/5 and 1/2.
    assert rows(aligned.average) == [[0.2941, 0.7059], [0.2857, 0.7143]]
    # The second teacher token gives three of its four characters to the first student token.
    assert rows(aligned.carry) == [[1.0, 0.75], [0.25, 1.0]]
    assert aligned.covered.tolist() == [[True, True]]
    assert aligned.step_end.tolist() == [[False, True]]
    last = align("abcdef", student, teacher, "last")
    # bcde ends behind abcd: of the tokens inside it, a is the last.
    assert rows(last.average) == [[1.0, 0.0], [0.0, 1.0]]
    assert torch.equal(last.carry, aligned.carry)


def test_last_takes_the_first_overlap_where_no_token_ends_inside() -> None:
    aligned = align("48", [(0, 1), (1, 2)], [(0, 2)], "last")
    assert aligned.average.tolist() == [[[1.0], [1.0]]]
    assert aligned.carry.tolist() == [[[0.5], [0.5]]]


def test_leading_spaces_count_only_where_there_is_nothing_else() -> None:
    aligned = align("a  b", [(0, 1), (1, 2), (2, 4)], [(0, 1), (1, 4)])
    # The space alone keeps its span, and the teacher's second token is b without its spaces.
    assert aligned.covered.tolist() == [[True, False, True]]
    assert aligned.average.tolist() == [[[1.0], [0.0], [1.0]]]
    assert align("a  b", [(1, 3)], [(1, 2), (2, 3)]).average.tolist() == [[[0.5, 0.5]]]


def test_tokens_of_one_character_share_it_in_order() -> None:
    """Two student tokens and three teacher tokens of one emoji."""
    aligned = align("😀", [(0, 1)] * 2, [(0, 1)] * 3)
    assert aligned.index.tolist() == [[[0, 1], [1, 2]]]
    # Halves and thirds: (1/3)/(1/2) and (1/6)/(2/3).
    assert rows(aligned.average) == [[0.7273, 0.2727], [0.2727, 0.7273]]
    assert rows(aligned.carry) == [[1.0, 0.5], [0.5, 1.0]]


def test_tokens_without_characters_overlap_nothing() -> None:
    special = [(0, 0), (0, 2), (2, 2)]
    aligned = align("ab", special, [(0, 0), (0, 1), (1, 2)])
    assert aligned.covered.tolist() == [[False, True, False]]
    assert aligned.index.tolist() == [[[0, 0], [1, 2], [0, 0]]]
    assert aligned.average.tolist() == [[[0, 0], [0.5, 0.5], [0, 0]]]
    assert aligned.mask.all()
    assert uncovered_tokens(aligned).tolist() == pytest.approx([2 / 3])


def test_a_span_inside_another_hides_nothing() -> None:
    aligned = align("abcdef", [(3, 4), (1, 2)], [(0, 6), (1, 2)])
    assert aligned.index.tolist() == [[[0, 0], [0, 1]]]
    # A sixth of abcdef against b itself.
    assert rows(aligned.average) == [[1.0, 0.0], [0.1429, 0.8571]]


def test_empty_texts() -> None:
    aligned = align("", [], [])
    assert aligned.index.shape == aligned.average.shape == (1, 0, 1)
    assert uncovered_tokens(aligned).tolist() == [0.0]
    assert uncovered_characters([""], reader([[]]), reader([[]])).tolist() == [0.0]
    aligned = align("ab", [(0, 2)], [])
    assert (aligned.covered.tolist(), aligned.average.tolist()) == ([[False]], [[[0.0]]])
    assert align("ab", [], [(0, 2)]).index.shape == (1, 0, 1)


def test_uncovered_characters_by_hand() -> None:
    texts = ["ab c\nd", "", "xy"]
    student = reader([[(0, 2), (2, 4), (5, 6)], [], [(0, 2)]])
    teacher = reader([[(0, 1), (3, 5)], [], [(0, 2)]])
    # Of a, b, c and d the teacher lacks b and d; white space does not count.
    assert uncovered_characters(texts, student, teacher).tolist() == [0.5, 0.0, 0.0]


@pytest.mark.parametrize("sides", itertools.product(("left", "right"), repeat=2))
def test_a_sample_alone_is_the_sample_in_a_batch(sides: tuple[str, str]) -> None:
    texts = ["a漢字 b", "", "12 + 30"]
    students = [[(0, 1), (1, 3), (3, 5)], [], [(0, 2), (2, 4), (4, 5), (5, 7)]]
    teachers = [[(0, 2)] * 3 + [(2, 3)] * 2 + [(3, 5)], [], [(0, 1), (1, 2), (2, 4), (5, 6), (6, 7)]]
    student, teacher = reader(students, sides[0]), reader(teachers, sides[1])
    together = align_tokens(texts, student, teacher)
    for row, text in enumerate(texts):
        alone = align(text, students[row], teachers[row])
        deep, valid = alone.index.shape[-1], student.cot.mask[row]
        for name in ("average", "carry"):
            found = getattr(together, name)[row]
            assert torch.equal(found[valid][:, :deep], getattr(alone, name)[0]), name
            assert not found[valid][:, deep:].any()
            assert not found[~valid].any()
        # Columns are those of the padded segment.
        used = together.average[row] > 0
        first = int(teacher.cot.mask[row].int().argmax()) if len(teachers[row]) else 0
        assert torch.equal(together.index[row][used] - first, alone.index[0][alone.average[0] > 0])
        assert torch.equal(together.covered[row][valid], alone.covered[0])
        assert not together.covered[row][~valid].any()


# Against a slow definition.


def parts(text: str, spans: Spans) -> list[tuple[float, float]]:
    """Each token's own stretch of the text: no leading spaces, and its share of a span that several have."""
    stripped = []
    for start, end in spans:
        found = text[start:end]
        stripped.append((end - len(found.lstrip(" ")) if found.strip(" ") else start, end))
    shares, seen = [], dict.fromkeys(stripped, 0)
    for start, end in stripped:
        count, rank = stripped.count((start, end)), seen[start, end]
        seen[start, end] += 1
        length = (end - start) / count
        shares.append((start + rank * length, start + (rank + 1) * length))
    return shares


def dense(text: str, student: Spans, teacher: Spans) -> tuple[torch.Tensor, torch.Tensor]:
    """``average`` and ``carry`` as whole tables, (N, S), in float64."""
    ours, theirs = parts(text, student), parts(text, teacher)
    average = torch.zeros(len(ours), len(theirs), dtype=torch.float64)
    carry = torch.zeros_like(average)
    for (i, one), (j, two) in itertools.product(enumerate(ours), enumerate(theirs)):
        overlap = min(one[1], two[1]) - max(one[0], two[0])
        if overlap > 1e-9:
            average[i, j] = overlap / (one[1] - one[0] + two[1] - two[0] - overlap)
            carry[i, j] = overlap
    sums = average.sum(1, keepdim=True), carry.sum(0, keepdim=True)
    return average / sums[0].where(sums[0] > 0, 1.0), carry / sums[1].where(sums[1] > 0, 1.0)


def tables(aligned: TokenAlignment, row: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The sparse weights of one sample as whole tables."""
    empty = torch.zeros(aligned.index.shape[1], tokens + 1)
    return tuple(
        empty.scatter_add(1, aligned.index[row], weights[row])[:, :tokens]
        for weights in (aligned.average, aligned.carry)
    )


def require_dense(texts: list[str], students: list[Spans], teachers: list[Spans]) -> None:
    aligned = align_tokens(texts, reader(students), reader(teachers))
    for row, text in enumerate(texts):
        expected = dense(text, students[row], teachers[row])
        found = tables(aligned, row, max(map(len, teachers)))
        shape = expected[0].shape
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one[: shape[0], : shape[1]].double(), other, atol=1e-6, rtol=0)
            assert not one[shape[0] :].any() and not one[:, shape[1] :].any()
        assert torch.equal(aligned.covered[row, : shape[0]], expected[0].sum(1) > 0)


LETTERS = st.text(st.sampled_from("ab 12\n.é’漢字😀👍🏽e\u0301 "), max_size=30)


@cache
def byte_tokenizers() -> tuple:
    words = ["aaa bbb 12 12\n\n é ’ 漢字 😀 a1b2 éé 漢漢 😀😀", "ab ab 112 221   "]
    return tuple(pico_tokenizer.byte_bpe(words, size) for size in (262, 400))


@given(st.lists(LETTERS, min_size=1, max_size=4))
def test_equal_to_the_slow_definition_with_tokenizers(texts: list[str]) -> None:
    readings = [[segment.spans for segment in segments_of(texts, each)] for each in byte_tokenizers()]
    for student, teacher in itertools.permutations(readings, 2):
        require_dense(texts, student, teacher)


@given(st.data(), st.lists(LETTERS, min_size=1, max_size=3))
def test_equal_to_the_slow_definition_with_any_spans(data: st.DataObject, texts: list[str]) -> None:
    """Also spans that are empty, out of order, inside one another or overlapping."""
    readings: list[list[Spans]] = [[], []]
    for reading, text in itertools.product(readings, texts):
        place = st.integers(0, len(text))
        pairs = data.draw(st.lists(st.tuples(place, place), max_size=8))
        reading.append([(min(pair), max(pair)) for pair in pairs])
    require_dense(texts, *readings)


# Real texts, real tokenizers.


@cache
def gsm8k(folder: Path) -> list[str]:
    with (folder / "math/gsm8k/train.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line)["answer"] for line in itertools.islice(lines, TEXTS)]


@cache
def read(folder: Path, name: str) -> list[Segment]:
    return segments_of(gsm8k(folder), pico_tokenizer.real(folder, name))


def spans_of(folder: Path, name: str) -> list[Spans]:
    return [segment.spans for segment in read(folder, name)]


@pytest.mark.parametrize("student", pico_tokenizer.REAL)
def test_all_pairs_of_real_tokenizers(shared_data: Path, student: str) -> None:
    texts = gsm8k(shared_data)
    ours = reader(spans_of(shared_data, student))
    for teacher in pico_tokenizer.REAL:
        theirs = reader(spans_of(shared_data, teacher), "left")
        aligned = align_tokens(texts, ours, theirs)
        covered, valid = aligned.covered, aligned.average > 0
        torch.testing.assert_close(aligned.average.sum(-1), covered.float(), atol=1e-6, rtol=0)
        # Each teacher token that overlaps something gives away all of its importance.
        given_away = torch.zeros(theirs.cot.mask.shape)
        given_away.scatter_add_(1, aligned.index.flatten(1), aligned.carry.flatten(1))
        used = torch.zeros(theirs.cot.mask.shape).scatter_add_(
            1, aligned.index.flatten(1), valid.flatten(1).float()
        )
        torch.testing.assert_close(given_away, (used > 0).float(), atol=1e-6, rtol=0)
        assert not (used > 0)[~theirs.cot.mask].any()
        # Monotone: neither the first nor the last overlapping token goes back.
        for ends in (aligned.index.where(valid, 10**6).amin(-1), aligned.index.where(valid, -1).amax(-1)):
            highest = ends.where(covered, -1).cummax(-1).values
            assert torch.equal(highest[covered], ends[covered]), (student, teacher)
        bare = (ours.cot.mask & ~covered).sum(-1) / ours.cot.mask.sum(-1)
        torch.testing.assert_close(uncovered_tokens(aligned), bare)
        missing = uncovered_characters(texts, ours, theirs)
        if teacher in ("bert", "t5"):
            assert missing.mean() <= 0.001  # neither knows every sign
        else:
            assert not missing.any(), (student, teacher)
        if teacher == student:
            filled = (ours.spans[..., 1] > ours.spans[..., 0]) & ours.cot.mask
            assert torch.equal(covered, filled)
            assert aligned.index.shape[-1] == 1
            shift = theirs.cot.mask.shape[1] - theirs.cot.mask.sum(-1, keepdim=True)
            column = torch.arange(ours.cot.mask.shape[1]) + shift
            assert torch.equal(aligned.index[..., 0][filled], column[filled])


@pytest.mark.parametrize("student", pico_tokenizer.REAL)
def test_the_aligned_token_holds_the_digit(shared_data: Path, student: str) -> None:
    """Qwen and Mistral have a token per digit, the others have tokens of several."""
    texts = gsm8k(shared_data)[:25]
    ours = spans_of(shared_data, student)[:25]
    digits = 0
    for teacher in pico_tokenizer.REAL:
        theirs = spans_of(shared_data, teacher)[:25]
        aligned = align_tokens(texts, reader(ours), reader(theirs))
        best = aligned.index.gather(2, aligned.average.argmax(-1, keepdim=True))[..., 0]
        for row, text in enumerate(texts):
            for number, (start, end) in enumerate(ours[row]):
                inside = [place for place in range(start, end) if text[place].isdigit()]
                used = aligned.index[row, number][aligned.average[row, number] > 0].tolist()
                held = {place for token in used for place in range(*theirs[row][token])}
                assert held.issuperset(inside), (student, teacher, text[start:end])
                if len(text[start:end].strip()) == len(inside) == 1:
                    first, stop = theirs[row][best[row, number]]
                    assert first <= inside[0] < stop, (student, teacher, text[start:end])
                digits += len(inside)
    assert digits > 7 * 25
