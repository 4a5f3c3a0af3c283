"""Each figure of form on a small package, with numbers counted by hand."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import house  # noqa: E402
from _imports import (  # noqa: E402
    child_graph,
    components,
    cycles,
    first_level_graph,
    longest_chain,
    module_graph,
)

SOURCE = '''"""Label: nobody says the whole."""
import os  # noqa: F401

X = 1 if os else 2  # why
"""Value."""
# goes
# on the way
y = f"a {X} b"
z = (
    "one "
    "round the two"
)
'''


def test_a_file_is_counted_as_by_hand() -> None:
    found = house.count(SOURCE)
    # import os | X = 1 if os else 2 | y = f"..." | z = ( "one " "round the two" )
    assert found.tokens == 2 + 7 + 3 + 6
    assert found.lines == 1 + 1 + 1 + 4
    assert found.comments == 3, "why, goes, on the way; noqa is a directive"
    assert found.conditionals == 1
    # docstring, Value, a b, one round the two, why, goes on the way
    assert found.words == 5 + 1 + 2 + 4 + 1 + 4
    assert found.idioms == 5, "nobody, says, whole, round the, goes on"


def test_a_string_over_several_lines_covers_them_all() -> None:
    found = house.count('def f():\n    """Docs\n    of f."""\n    return """a\n\nb"""\n')
    assert (found.tokens, found.lines) == (5 + 2, 1 + 3)


@pytest.mark.parametrize(
    ("text", "num"),
    [
        ("said in words", 1),
        ("The whole row, wholesale", 1),
        ("it SAYS so; essays", 1),
        ("what stands there lies elsewhere", 2),
        ("training goes\n    on", 1),
        ("nobody reads it anew", 2),
        ("a line a station, a line an epoch", 2),
        ("walk round the block, the other way round", 2),
        ("rounded to the next; to round the loss; three rounds; a round of it", 0),
        ("words in order", 0),
    ],
)
def test_idioms_are_found_and_other_words_are_not(text: str, num: int) -> None:
    assert house.count(f'x = """{text}"""\n').idioms == num


FILES = {
    "__init__.py": "",
    "__main__.py": "from pico.cli import main\n",
    "cli.py": "def main() -> None:\n    from pico.run import job\n",
    "run/__init__.py": "",
    "run/job.py": "import os\nfrom pico import losses\nfrom pico.run.log import write\n",
    "run/log.py": "from pico.run import job\n",
    "losses/__init__.py": "from pico.losses.mse import mse\n",
    "losses/mse.py": (
        "from typing import TYPE_CHECKING\n"
        "from pico.kv import KV\n"
        "if TYPE_CHECKING:\n"
        "    from pico.run import job\n"
        "# the mean square\n"
        "mse = 0 if KV else 1\n"
    ),
    "kv.py": f"KV = 1\nNAME = '{'x' * 105}'\n",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "pico" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "pico"


def test_imports_are_those_of_a_running_program(package: Path) -> None:
    assert module_graph(package) == {
        "pico.__init__": set(),
        "pico.__main__": {"pico.cli"},
        "pico.cli": {"pico.run.job"},
        "pico.run.__init__": set(),
        "pico.run.job": {"pico.losses.__init__", "pico.run.log"},
        "pico.run.log": {"pico.run.job"},
        "pico.losses.__init__": {"pico.losses.mse"},
        "pico.losses.mse": {"pico.kv"},
        "pico.kv": set(),
    }


def test_relative_imports_and_the_else_of_type_checking_count(package: Path) -> None:
    (package / "run" / "log.py").write_text(
        "from .. import kv\nfrom . import job\nfrom ..losses.mse import mse\n"
        "if TYPE_CHECKING:\n    import pico.cli\nelse:\n    import pico.run\n"
    )
    found = module_graph(package)["pico.run.log"]
    assert found == {"pico.kv", "pico.run.job", "pico.losses.mse", "pico.run.__init__"}


def test_layers_and_cycles(package: Path) -> None:
    graph = module_graph(package)
    assert first_level_graph(graph) == {"cli": {"run"}, "run": {"losses"}, "losses": {"kv"}, "kv": set()}
    assert longest_chain(first_level_graph(graph)) == [{"cli"}, {"run"}, {"losses"}, {"kv"}]
    assert cycles(graph) == ["pico.run: job, log"]
    (package / "losses" / "mse.py").write_text("import pico.run.log\nimport pico.kv\n")
    graph = module_graph(package)
    assert cycles(graph) == ["pico: losses, run", "pico.run: job, log"]
    assert longest_chain(first_level_graph(graph)) == [{"cli"}, {"run", "losses"}, {"kv"}]


def test_folders_can_form_a_cycle_that_no_modules_form(package: Path) -> None:
    (package / "run" / "free.py").write_text("")
    (package / "losses" / "mse.py").write_text("import pico.run.free\n")
    (package / "run" / "log.py").write_text("")
    graph = module_graph(package)
    assert all(len(component) == 1 for component in components(graph))
    assert child_graph(graph, "pico")["losses"] == {"run"}
    assert cycles(graph) == ["pico: losses, run"]


def test_figures_of_a_package_as_by_hand(package: Path) -> None:
    found = house.figures_of_sources(package, [package])
    # __main__, cli, run/job, run/log, losses, losses/mse, kv; a dot is a token
    tokens = 6 + (7 + 6) + (2 + 4 + 8) + 6 + 8 + (4 + 6 + 3 + 6 + 7) + (3 + 3)
    lines = 1 + 2 + 3 + 1 + 1 + 5 + 2
    assert found["tokens_per_line"] == tokens / lines
    assert found["comments_per_100"] == 100 * 1 / 6, "one comment in losses, which has 1 + 5 lines of code"
    assert found["conditionals_per_kline"] == 1000 * 1 / lines
    assert found["lines_over_110"] == 1
    assert found["layers"] == 4
    assert found["cycles"] == 1
    assert found["top_level_modules"] == 2, "cli, kv"
    assert found["idiolect_per_10k"] == 0
    assert set(found) | {"config_import_s"} == set(house.BARS)


def test_idioms_are_given_for_ten_thousand_words(package: Path) -> None:
    (package / "kv.py").write_text("# one whole of five words\nKV = 1\n")
    # five here, three in losses/mse.py
    assert house.figures_of_sources(package, [])["idiolect_per_10k"] == 1e4 * 1 / (5 + 3)


def test_bars() -> None:
    assert house.reached(8.8, "<= 8.8")
    assert not house.reached(8.81, "<= 8.8")
    assert house.reached(6, ">= 6")
    assert not house.reached(5.9, ">= 6")


def test_the_worst_files_come_first() -> None:
    counts = {
        "dense": house.Counts(tokens=200, lines=10, conditionals=1),
        "long": house.Counts(tokens=1000, lines=100, idioms=2),
        "sparse": house.Counts(tokens=100, lines=100, conditionals=3),
    }
    found = house.worst(counts, num=2)
    assert [name for _, name in found["tokens above the bar"]] == ["long", "dense"]
    assert [share for share, _ in found["tokens above the bar"]] == pytest.approx([120, 112])
    assert found["conditional expressions"] == [(3, "sparse"), (1, "dense")]
    assert found["idioms"] == [(2, "long")]


def test_the_time_of_an_import_is_that_beyond_torch(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import time, torch\nend = time.process_time() + 0.5\nwhile time.process_time() < end:\n    pass\n"
    )
    assert 0.5 <= house.import_seconds("slow", tmp_path, rounds=1) < 0.7


def test_docstrings_and_messages_use_the_words_of_the_field() -> None:
    """None of the words that the style guide replaces stands in a docstring, comment or message."""
    counts = house.counts_by_file(ROOT / "src" / "kvdistill")
    assert {name: count.idioms for name, count in counts.items() if count.idioms} == {}
