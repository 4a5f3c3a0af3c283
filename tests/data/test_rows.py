import pytest

from kvdistill.data.rows import BadRow, Origin, RepeatedKey, Row, RowError, parse_json

FILE = Origin("some.jsonl", "line", "some")


def row(text: str) -> Row:
    found = FILE.row(1, parse_json(text), text)
    assert isinstance(found, Row)
    return found


def test_values_of_a_row() -> None:
    found = row(
        '{"q": " x ", "n": 51.0, "t": "51", "none": null, "yes": true, "nan": NaN, "blank": " ", "list": []}'
    )
    assert found.text("q") == "x"
    assert found.answer("n") == "51"
    assert found.answer("t") == "51"
    kinds = {
        "none": "it is null",
        "yes": "it is true or false",
        "blank": "it is empty",
        "list": "it is a list",
    }
    for key, why in {**kinds, "absent": "the row has q, n, t, none, yes, nan, blank, list"}.items():
        with pytest.raises(
            RowError,
            match=f"^the row has no text under '{key}' \\({why}\\). Add it, remove the row, or choose",
        ):
            found.answer(key)
    with pytest.raises(RowError, match="the answer nan is not a finite number. Write the number"):
        found.answer("nan")


@pytest.mark.parametrize(("escape", "shown"), [("\\u0000", r"'\\x00'"), ("\\ud83d", r"'\\ud83d'")])
def test_characters_that_are_no_text_are_refused(escape: str, shown: str) -> None:
    with pytest.raises(
        RowError,
        match=f"the text under 'q' holds {shown} at character 3, which is no text. Repair or remove it.",
    ):
        row(f'{{"q": "ab{escape}"}}').text("q")
    assert row('{"q": "\\ud83d\\ude00"}').text("q") == "\N{GRINNING FACE}", "a whole pair is a character"


def test_a_bad_row_keeps_its_text() -> None:
    line = '{"q":  "x"}'
    assert row(line).bad("no.") == BadRow("some.jsonl, line 1", 1, "no.", line)
    item = Origin("some.json", "item", "some").row(2, {"q": "é"})
    assert isinstance(item, Row)
    assert item.sample_id == "some:2"
    assert str(item.bad("no.")) == "some.json, item 2: no."
    assert item.bad("no.").text == '{"q": "é"}'


@pytest.mark.parametrize(
    ("value", "kind"),
    [([1], "a list"), (3, "a number"), (None, "null"), ("x", "text"), (True, "true or false")],
)
def test_what_is_no_object_is_no_row(value: object, kind: str) -> None:
    bad = FILE.row(4, value)
    assert isinstance(bad, BadRow)
    assert bad.number == 4
    assert bad.reason.startswith(f"the row is {kind}, not an object. Write it as {{'question'")


def test_a_key_that_stands_twice_makes_the_row_useless() -> None:
    value = parse_json('{"q": "x", "a": 1, "a": 2}')
    assert isinstance(value, RepeatedKey)
    bad = FILE.row(1, value)
    assert isinstance(bad, BadRow)
    assert bad.reason.startswith("the key 'a' occurs twice in the row. Keep one of them")
    assert '["a", 1], ["a", 2]' in bad.text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": "x', r"not JSON \(Unterminated string starting at column 7\). Repair"),
        ('[\n{"a" 1}]', r"not JSON \(Expecting ':' delimiter at line 2, column 6\)"),
        (
            '{"a": ' + "9" * 5000 + "}",
            r"the JSON cannot be read \(it holds a number of thousands of digits\)",
        ),
        ("[" * 100_000, r"the JSON cannot be read \(it is nested more than 100 levels deep\)"),
        ("[" * 101 + "]" * 101, r"the JSON cannot be read \(it is nested more than 100 levels deep\)"),
    ],
)
def test_what_is_not_json_is_refused_by_place(text: str, says: str) -> None:
    with pytest.raises(RowError, match=says):
        parse_json(text)
