from pathlib import Path

import pytest

from kvdistill.data.rows import DataError, read_rows, to_examples
from kvdistill.text import Example


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "some.jsonl"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_lines_and_lists_give_the_same_rows(tmp_path: Path) -> None:
    lines = read_rows(written(tmp_path, '{"a": "x"}\n\n{"a": "y\u2028z"}\n'))
    assert [row.fields for row in lines] == [{"a": "x"}, {"a": "y\u2028z"}]
    assert [row.sample_id for row in lines] == ["some:1", "some:3"]
    items = read_rows(written(tmp_path, '\ufeff[{"a": "x"},\n {"a": "y"}]'))
    assert [row.fields["a"] for row in items] == ["x", "y"]
    assert items[1].where.endswith("some.jsonl, item 2")


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("", "some.jsonl", "the file is empty. Write one JSON object a line"),
        (" \n\n", "some.jsonl", "the file is empty"),
        ("[]", "some.jsonl", "the list is empty. Write one JSON object an item"),
        ('{"a": 1}\n{"a": \n', "some.jsonl, line 2", "the text is not JSON"),
        ('{"a": 1}\n3\n', "some.jsonl, line 2", "the row is a JSON int, not an object. Write it as {'question'"),
        ('[{"a": 1}, "b"]', "some.jsonl, item 2", "the row is a JSON str"),
        ("[1", "some.jsonl", "the text is not JSON"),
        (b'{"a": "\xff"}', "some.jsonl", "byte 7 is not UTF-8. Save the file as UTF-8"),
    ],
)
def test_unreadable_files_are_refused_by_place(tmp_path: Path, text: str | bytes, place: str, says: str) -> None:
    with pytest.raises(DataError) as error:
        read_rows(written(tmp_path, text))
    assert f"{place}: " in str(error.value)
    assert says in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.jsonl: there is no such file. Check the path"):
        read_rows(tmp_path / "nothing.jsonl")


def test_values_of_a_row(tmp_path: Path) -> None:
    (row,) = read_rows(written(tmp_path, '{"q": " x ", "n": 51.0, "t": "51", "none": null, "yes": true, "nan": NaN, "blank": " "}'))
    assert row.text("q") == "x"
    assert row.answer("n") == "51"
    assert row.answer("t") == "51"
    for key in ("none", "yes", "blank", "absent"):
        with pytest.raises(DataError, match=f"line 1: the row has no text under '{key}'. Add it, remove the row"):
            row.answer(key)
    with pytest.raises(DataError, match="the answer nan is not a finite number. Write the number"):
        row.answer("nan")


def test_auto_asks_for_numbers_where_nine_in_ten_have_one(tmp_path: Path) -> None:
    def examples(answers: list[str], kind: str) -> list[str]:
        rows = read_rows(written(tmp_path, "".join(f'{{"a": "{answer}"}}\n' for answer in answers)))
        parsed = to_examples(rows, lambda row: Example("q", (), row.text("a"), row.sample_id), kind)  # pyright: ignore[reportArgumentType]
        return [example.answer for example in parsed]

    assert examples(["$1,000", *["2"] * 8, "3.50"], "auto") == ["1000", *["2"] * 8, "3.5"]
    with pytest.raises(DataError, match=r"line 10: the answer 'many' has no number. Write the number.*answers='words'"):
        examples(["2"] * 9 + ["many"], "auto")
    assert examples(["2"] * 8 + ["Bob", "Ann"], "auto") == ["2"] * 8 + ["Bob", "Ann"]
    assert examples(["2"] * 9 + ["many"], "words")[-1] == "many"
    with pytest.raises(DataError, match="line 1: the answer 'Bob' has no number"):
        examples(["Bob"], "number")
