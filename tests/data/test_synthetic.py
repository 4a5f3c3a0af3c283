import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvdistill.data.sources import load
from kvdistill.data.synthetic import Chain, write_jsonl
from kvdistill.text import Example

ROOT = Path(__file__).resolve().parents[2]

line = (
    st.text(st.characters(exclude_characters="\n#", exclude_categories=["Cs", "Cc"]), min_size=1)
    .map(str.strip)
    .filter(bool)
)


def test_the_sample_file_is_what_its_page_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "data/README.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(recipe, {})
    made, shipped = (
        (tmp_path / "data/sample_train.jsonl").read_bytes(),
        (ROOT / "data/sample_train.jsonl").read_bytes(),
    )
    assert made == shipped
    assert hashlib.sha256(shipped).hexdigest() in page
    assert shipped.count(b"\n") == 64


def test_a_row_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rows.jsonl"
    write_jsonl(
        [Example("Who?", ("Bob", "Eve"), "Eve", "x", teacher_cue="briefly", student_cue="briefly")], path
    )
    assert (
        path.read_text(encoding="utf-8") == '{"question": "Who? briefly", "answer": "Bob\\nEve\\n#### Eve"}\n'
    )


@given(
    rows=st.lists(
        st.tuples(line, st.lists(line, max_size=3), st.integers(-999, 999).map(str)), min_size=1, max_size=5
    )
)
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, list[str], str]]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    examples = [
        Example(question, tuple(steps), answer, f"rows:{i}")
        for i, (question, steps, answer) in enumerate(rows, start=1)
    ]
    write_jsonl(examples, path)
    assert load(path, "gsm8k").examples == examples


@pytest.mark.parametrize("step", ["two\nlines", "a #### b"])
def test_what_the_form_cannot_carry_is_refused_and_leaves_the_old_file(tmp_path: Path, step: str) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(Chain().make(2, "train", 0), path)
    before = path.read_bytes()
    with pytest.raises(
        ValueError,
        match=r"Sample x: .* holds a line break or '####', which a GSM8K row cannot carry. Split the step",
    ):
        write_jsonl([Example("q", (step,), "1", "x")], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
