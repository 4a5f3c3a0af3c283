import json
from pathlib import Path

import pytest

from kvdistill.data.quarantine import quarantine
from kvdistill.data.questions import Questions
from kvdistill.data.rows import DataError
from kvdistill.data.sources import load

ROOT = Path(__file__).resolve().parents[2]
GOOD = b'{"question": "1+1?", "answer": "so\\n#### 2"}\n'


def written(tmp_path: Path, *rows: dict[str, object], name: str = "set.jsonl") -> Path:
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "steps"),
    [
        ({"question": "q", "answer": "a\nb\n#### 7"}, 2),
        ({"question": "q", "answer": "7", "steps": ["a"], "root": 1}, 1),
        ({"question": "q", "steps": ["3+4=7"], "answer": "3+4=<<3+4=7>>7\n#### 7"}, 1),
        ({"question": "q", "steps": ["so"], "answer": "Three and four.\n#### 7"}, 1),
        ({"Body": "q", "Question": "q", "Answer": 7.0, "ID": "x"}, 0),
        ({"input": "q", "target": 7, "code": "..."}, 0),
        ({"problem": "q", "solution": "a\nb", "answer": "7", "level": 1}, 0),
        ({"text": "q||<<3+4=7>> #### 7"}, 1),
    ],
)
def test_the_form_is_recognised_by_its_fields(tmp_path: Path, row: dict[str, object], steps: int) -> None:
    (example,) = load(written(tmp_path, row)).examples
    assert (len(example.steps), example.answer) == (steps, "7")


def test_a_damaged_first_row_does_not_decide_on_the_form(tmp_path: Path) -> None:
    rows = [
        {"question": "q", "answer": "7"},
        *({"question": "q", "steps": [], "answer": "7"} for _ in range(2)),
    ]
    loaded = load(written(tmp_path, *rows))
    assert [len(loaded.examples), len(loaded.bad)] == [2, 1]
    assert loaded.bad[0].reason.startswith("'steps' is not a list of texts")


def test_an_unknown_form_is_refused_with_its_fields(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"line 1: the fields problem, solution fit no known form. Rename them to one of: answer, "
        r"question",
    ):
        load(written(tmp_path, {"problem": "q", "solution": "7"}))


def test_a_misspelt_format_gets_the_nearest_name(tmp_path: Path) -> None:
    path = written(tmp_path, {"question": "q", "answer": "#### 7"})
    with pytest.raises(
        DataError,
        match=r"no data format 'gsm8'. Did you mean 'gsm8k'\? Choose 'auto' or one of gsm8k, steps_json",
    ):
        load(path, "gsm8")
    with pytest.raises(DataError, match=r"no data format 'qqq'. Choose 'auto'"):
        load(path, "qqq")


def test_auto_asks_for_numbers_where_nine_in_ten_have_one(tmp_path: Path) -> None:
    def answers(found: list[str], kind: str = "auto") -> tuple[list[str], list[str]]:
        rows = [{"input": "q", "target": answer} for answer in found]
        loaded = load(written(tmp_path, *rows), Questions(answers=kind))
        return [example.answer for example in loaded.examples], [str(row) for row in loaded.bad]

    assert answers(["$1,000", *["2"] * 8, "3.50"]) == (["1000", *["2"] * 8, "3.5"], [])
    kept, (bad,) = answers(["2"] * 9 + ["many"])
    assert kept == ["2"] * 9
    assert bad.startswith(
        f"{tmp_path}/set.jsonl, line 10: the answer 'many' has no number. Write the number, remove the row"
    )
    mixed = ["2"] * 7 + ["Bob", "2x + 1"]
    assert answers(mixed) == (mixed, []), "words stay whole"
    assert answers(["2"] * 9 + ["many"], "words")[0][-1] == "many"
    with pytest.raises(
        DataError,
        match="none of its 1 rows can be used.*line 1: the answer 'Bob' has no number.*choose another format",
    ):
        answers(["Bob"], "number")


def test_all_files_of_a_pattern_are_one_data_set(tmp_path: Path) -> None:
    for number in (2, 1):
        written(tmp_path, {"input": f"q{number}", "target": number}, name=f"part-{number}.jsonl")
    assert [example.sample_id for example in load(f"{tmp_path}/part-*.jsonl").examples] == [
        "part-1:1",
        "part-2:1",
    ]


def test_text_is_read_as_text_where_asked(tmp_path: Path) -> None:
    path = tmp_path / "gsm.txt"
    path.write_text("[see] 48/2?||<<48/2=24>> #### 24\nno mark\n", encoding="utf-8")
    loaded = load(path, "text")
    assert [example.steps for example in loaded.examples] == [("<<48/2=24>>",)]
    assert loaded.bad[0].text == "no mark"
    for first, says in (
        ("[see]", "begins like a JSON list, but the text is not JSON"),
        ("{a}", "none of its 2 rows can be used"),
    ):
        path.write_text(f"{first} 48/2?||<<48/2=24>> #### 24\nno mark\n", encoding="utf-8")
        with pytest.raises(DataError, match=f"{says}.*--data.train.format text"):
            load(path)


def test_the_sample_file_is_read() -> None:
    loaded = load(ROOT / "data/sample_train.jsonl")
    assert [len(loaded.examples), len(loaded.bad)] == [64, 0]
    assert loaded.examples[0].answer.isdigit()
    assert loaded.examples[-1].answer.isalpha()


@pytest.mark.parametrize(
    ("name", "file", "rows"),
    [
        ("gsm8k", "gsm8k/train.jsonl", 7473),
        ("gsm8k", "gsm8k/test.jsonl", 1319),
        ("gsm8k_eq", "gsm8k_eq/train.jsonl", 6973),
        ("gsm8k_eq", "gsm8k_eq/valid.jsonl", 500),
        ("steps_json", "gsm8k_eq/test.jsonl", 1319),
        ("prosqa", "prosqa/prosqa_test.json", 500),
        ("prosqa", "prosqa/prosqa_valid.json", 300),
        ("svamp", "svamp/SVAMP.json", 1000),
        ("gsm_hard", "gsm_hard/gsmhardv2.jsonl", 1319),
        ("multiarith", "multiarith/mawpsmultiarith_pal.jsonl", 600),
        ("math500", "math500/math500.jsonl", 500),
    ],
)
def test_auto_reads_real_files_as_their_own_format_does(
    shared_data: Path, name: str, file: str, rows: int
) -> None:
    path = shared_data / "math" / file
    loaded = load(path)
    assert rows > 2000 or loaded == load(path, name)
    assert [len(loaded.examples), len(loaded.bad)] == [rows, 0]
    fractions, without_step = (
        sum(found) for found in zip(*(("." in e.answer, not e.steps) for e in loaded.examples), strict=True)
    )
    if name in ("gsm8k", "gsm8k_eq", "steps_json"):
        assert all(example.answer.lstrip("-").isdigit() for example in loaded.examples)
        assert without_step == {6973: 89, 500: 6}.get(rows, 18 if "eq" in file else 0)
    if name == "gsm_hard":
        assert fractions == 303
    if name == "prosqa":
        assert all(example.steps[-1].split()[-1] == example.answer.split()[-1] for example in loaded.examples)
    if name == "math500":
        assert loaded.examples[0].answer == r"\left( 3, \frac{\pi}{2} \right)"
        assert sum(example.answer == "6 - 5i" for example in loaded.examples) == 1


def test_real_rows_as_text_keep_their_steps(shared_data: Path, tmp_path: Path) -> None:
    examples = load(shared_data / "math/gsm8k_eq/valid.jsonl").examples
    lines = [f"{' '.join(e.question.split())}||{' '.join(e.steps)} #### {e.answer}" for e in examples]
    path = tmp_path / "valid.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    assert [(e.steps, e.answer) for e in load(path).examples] == [(e.steps, e.answer) for e in examples]


DAMAGED = {
    # Files of which nothing can be used.
    "empty": (b"", "the file is empty. Write one JSON object a line."),
    "utf-16": (
        GOOD.decode().encode("utf-16"),
        "this is UTF-16 text, not UTF-8 text. Unpack or save it as JSON lines in UTF-8.",
    ),
    "packed": (b"\x1f\x8b\x08\x00", "this is a gzip archive, not UTF-8 text. Unpack or save it"),
    "a torn list": (
        b"[" + GOOD[:-1] + b',\n{"que',
        "begins like a JSON list, but the text is not JSON (Unterminated string starting at line 2, ",
    ),
    "a table": (
        b"question,answer\n1+1?,2\n",
        "none of its 2 rows can be used. The first: {path}, line 1: the text is not JSON (Expecting value",
    ),
    "other fields": (
        b'{"prompt": "1+1?"}\n',
        ", line 1: the fields prompt fit no known form. Rename them to one of: ",
    ),
    # Rows: each is line 20 of a file that is good otherwise.
    "a torn row": (
        b'{"question": "1+1?", "ans',
        "(Unterminated string starting at column 22). Repair or remove it. The file ends here without a line",
    ),
    "two rows in one": (
        GOOD[:-1] + GOOD,
        "the text is not JSON (Extra data at column 45). Repair or remove it.",
    ),
    "an open text": (
        b'{"question": "1+1?, "answer": "#### 2"}\n',
        "the text is not JSON (Expecting ',' delimiter at column 22)",
    ),
    "a list": (
        b'["1+1?", "#### 2"]\n',
        "the row is a list, not an object. Write it as {'question': ..., 'answer': ...}, or remove it.",
    ),
    "null": (b"null\n", "the row is null, not an object. Write it as"),
    "a foreign byte": (
        b'{"question": "caf\xe9?", "answer": "#### 2"}\n',
        "byte 18 is not UTF-8. Save the file as UTF-8, or repair the character.",
    ),
    "zeros": (
        b"\x00" * 40 + b"\n",
        "byte 1 is NUL, as after a crash while writing. Write the row again, or remove it.",
    ),
    "half a character": (
        b'{"question": "\\ud83d?", "answer": "#### 2"}\n',
        "under 'question' holds '\\ud83d' at character 1, which is no text.",
    ),
    "no question": (
        b'{"answer": "#### 2"}\n',
        "the row has no text under 'question' (the row has answer). Add it, remove the row, or choose",
    ),
    "a blank question": (
        b'{"question": " ", "answer": "#### 2"}\n',
        "the row has no text under 'question' (it is empty). Add it",
    ),
    "no answer": (
        b'{"question": "1+1?", "answer": null}\n',
        "the row has no text under 'answer' (it is null). Add it",
    ),
    "NaN": (
        b'{"question": "1+1?", "answer": NaN}\n',
        "the row has no text under 'answer' (it is a number). Add it",
    ),
    "no mark": (
        b'{"question": "1+1?", "answer": "2"}\n',
        "there is no '####' in the answer. Close the answer with '#### 72', or remove the row.",
    ),
    "nothing after the mark": (
        b'{"question": "1+1?", "answer": "so ####"}\n',
        "there is nothing after '####' in the answer. Close the answer",
    ),
    "no number": (
        b'{"question": "1+1?", "answer": "#### two"}\n',
        "the answer 'two' has no number. Write the number, remove the row, or",
    ),
    "a key twice": (
        b'{"question": "1+1?", "answer": "#### 2", "answer": "#### 3"}\n',
        "the key 'answer' occurs twice in the row. Keep one",
    ),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_files_are_met_with_a_sentence(tmp_path: Path, damage: str) -> None:
    """Mark and line ends of other systems, which do no harm, stand in each."""
    content, says = DAMAGED[damage]
    path = tmp_path / "set.jsonl"
    useless = list(DAMAGED).index(damage) < 6
    path.write_bytes(
        content if useless else b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n") * 18 + b"\r\n" + content
    )
    if useless:
        with pytest.raises(DataError) as error:
            load(path)
        assert str(error.value).startswith(str(path))
        assert says.replace("{path}", str(path)) in str(error.value)
        return
    loaded = load(path)
    (bad,) = loaded.bad
    assert len(loaded.examples) == 18
    assert (bad.where, bad.number) == (f"{path}, line 20", 20)
    assert says in bad.reason
    assert bad.text == content.decode("utf-8", "backslashreplace").rstrip("\n")
    assert str(bad) in quarantine(loaded.bad, 19, tmp_path / "quarantine.jsonl", max_share=0.1)


def test_a_missing_file_is_met_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file. Check the path"):
        load(tmp_path / "set.jsonl")
