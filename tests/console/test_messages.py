from pathlib import Path

import pytest

from kvdistill.console.messages import did_you_mean, explain_os_error, printable, quoted, shortened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, 3 × 4 = 12 – 答え 🙂 a\u00a0b", "plain text, 3 × 4 = 12 – 答え 🙂 a\u00a0b"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x9b2J", "\\x9b2J"),
        ("back\x08\rover", "back\\x08\\rover"),
        ("right\u202eto left", "right\\u202eto left"),
        ("half \ud800 of a pair", "half \\ud800 of a pair"),
        ("line\u2028separator", "line\\u2028separator"),
    ],
)
def test_what_steers_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown
    shown.encode("utf-8")


def test_long_quotations_are_cut_and_counted() -> None:
    assert shortened("x" * 200) == "x" * 200
    assert shortened("x" * 1200) == f"{'x' * 200}... (1000 more characters)"
    assert quoted("it's") == repr("it's")
    assert quoted(3) == "3"
    assert quoted("y" * 300, 5) == "'yyyyy'... (300 characters)"


def test_near_names_are_suggested() -> None:
    assert did_you_mean("rvk", ["cosine", "rkv"]) == " Did you mean 'rkv'?"
    assert did_you_mean("kv_metod", ["kv_method"], "--{}") == " Did you mean --kv_method?"
    assert did_you_mean("a/name", {"a/names", "a/named", "b/other"}, "{}", most=3) == (
        " Did you mean a/names or a/named?"
    )
    assert did_you_mean("uniform", ["rkv"]) == ""
    assert did_you_mean("uniform", []) == ""


def test_errors_of_the_system_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cases = {
        tmp_path / "file" / "x": "a part of this path is a file, not a folder",
        tmp_path / "none" / "x": "there is no such file or folder",
        tmp_path / ("n" * 300): "the name is too long for this file system",
        tmp_path: "this is a folder, not a file",
    }
    for path, cause in cases.items():
        with pytest.raises(OSError) as caught:
            path.open("w")
        told = explain_os_error(caught.value)
        assert cause in told
        assert told.startswith(str(path)[:200])
        assert "Errno" not in told
    assert explain_os_error(OSError("the model has no config.json")) == "the model has no config.json"
    assert (
        explain_os_error(OSError(999_999, "Strange Thing"))
        == "A file: strange thing. Check the path, or choose another."
    )
