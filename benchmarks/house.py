"""Figures of the code's form, measured from the sources, each beside its bar.

    python benchmarks/house.py [--worst]

* ``tokens_per_line``: tokens over lines of code in src; comments, docstrings, line ends and indentation are
  not code, an f-string is one token
* ``comments_per_100``: lines with a comment for 100 lines of code in tensor code; directives such as noqa do
  not count
* ``conditionals_per_kline``: expressions ``a if b else c`` for 1000 lines of code in src
* ``lines_over_110``: longer lines of Python in src, tests, scripts, experiments and benchmarks
* ``layers``: longest chain of imports between the first-level folders and modules, a cycle being one link
* ``cycles``: import cycles between modules and folders of the same folder
* ``top_level_modules``: modules directly in the package besides ``__init__`` and ``__main__``
* ``config_import_s``: processor seconds to import the configuration, beyond importing torch
* ``idiolect_per_10k``: house idioms for 10,000 words of docstrings, comments and strings in src

``--worst`` also lists the cycles and the 20 files that add most to three of them. The last line is JSON.
"""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "_reexec.py"))

import argparse
import ast
import io
import itertools
import os
import re
import statistics
import subprocess
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass

from _imports import cycles, first_level_graph, longest_chain, module_graph
from _measure import print_json

ROOT = Path(__file__).resolve().parents[1]
TENSOR_CODE = (
    *("capture", "compress", "align", "fuse", "target", "losses", "latent", "teacher"),
    *("ops.py", "pipeline.py"),
)
CODE_FOLDERS = ("src", "tests", "scripts", "experiments", "benchmarks")
BARS = {
    "tokens_per_line": "<= 8.8",
    "comments_per_100": ">= 6",
    "conditionals_per_kline": "<= 20",
    "lines_over_110": "<= 0",
    "layers": "<= 10",
    "cycles": "<= 0",
    "top_level_modules": "<= 6",
    "config_import_s": "<= 0.5",
    "idiolect_per_10k": "<= 3",
}
NOT_CODE = ("NEWLINE", "NL", "INDENT", "DEDENT", "COMMENT", "ENCODING", "ENDMARKER")
DIRECTIVE = re.compile(r"#\s*(!|noqa|type:|pyright:|pragma|ruff:|fmt:|isort:|-\*-)")
WORD = re.compile(r"[A-Za-z]+(?:['’-][A-Za-z]+)*")
DETERMINERS = "the|a|an|it|them|him|her|this|that|these|those|its|their|each|every|all|which|such|one"
IDIOLECT = re.compile(
    r"\b(?:in words|whole|says|stands|lies|goes on|nobody|anew|a line an? \w+"
    rf"|(?<!\bto )round (?:{DETERMINERS})|(?:all|way) round)\b",
    re.IGNORECASE,
)
IMPORT_TIME = """
import time, torch
start = time.process_time()
import {}
print(time.process_time() - start)
"""


@dataclass(frozen=True)
class Counts:
    """What is counted in a file, or in several."""

    tokens: int = 0
    lines: int = 0
    comments: int = 0
    conditionals: int = 0
    words: int = 0
    idioms: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


def count(text: str) -> Counts:
    """All counts of a source text."""
    tree = ast.parse(text)
    tokens, rows, comments = count_tokens(text, tree)
    passages = [*strings(tree), *comment_passages(comments)]
    return Counts(
        tokens=tokens,
        lines=len(rows),
        comments=len(comments),
        conditionals=sum(isinstance(node, ast.IfExp) for node in ast.walk(tree)),
        words=sum(len(WORD.findall(passage)) for passage in passages),
        idioms=sum(len(IDIOLECT.findall(" ".join(passage.split()))) for passage in passages),
    )


def count_tokens(text: str, tree: ast.AST) -> tuple[int, set[int], dict[int, str]]:
    """The number of tokens of code, the rows that they cover, and the comments by row, without directives."""
    documented = docstring_rows(tree)
    tokens, rows, comments = 0, set(), {}
    depth = 0  # of f-strings, which are tokens of their own from Python 3.12 on
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        kind = tokenize.tok_name[token.type]
        if kind == "COMMENT" and not DIRECTIVE.match(token.string):
            comments[token.start[0]] = token.string
        if kind in NOT_CODE or (kind == "STRING" and token.start[0] in documented):
            continue
        if depth == 0:
            tokens += 1
        depth += kind.endswith("STRING_START") - kind.endswith("STRING_END")
        rows.update(range(token.start[0], token.end[0] + 1))
    return tokens, rows, comments


def docstring_rows(tree: ast.AST) -> set[int]:
    """Rows of the strings that are statements of their own: docstrings, those of attributes included."""
    return {
        row
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for row in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def strings(tree: ast.AST) -> Iterator[str]:
    """Docstrings, string literals, and the literal parts of f-strings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def comment_passages(comments: dict[int, str]) -> list[str]:
    """Comments without their signs, those on neighboring rows in one."""
    passages: list[str] = []
    previous = None
    for row, comment in sorted(comments.items()):
        words = comment.lstrip("#!: ")
        if previous == row - 1:
            passages[-1] += f" {words}"
        else:
            passages.append(words)
        previous = row
    return passages


def python_files(places: Iterable[Path]) -> list[Path]:
    """The Python files below folders, and files as they are."""
    found = [[place] if place.suffix == ".py" else sorted(place.rglob("*.py")) for place in places]
    return [path for path in itertools.chain(*found) if path.is_file()]


def lines_over(limit: int, paths: Iterable[Path]) -> int:
    """How many lines are longer than ``limit`` characters."""
    lines = [path.read_text(encoding="utf-8").splitlines() for path in paths]
    return sum(len(line) > limit for line in itertools.chain(*lines))


def figures_of_sources(package: Path, code: Iterable[Path]) -> dict[str, float]:
    """Every figure of a package that its sources tell.

    Args:
        package: the folder of the package.
        code: the folders whose lines are to stay short.
    """
    total = sum(counts_by_file(package).values(), Counts())
    tensor_files = python_files(package / name for name in TENSOR_CODE)
    tensor = sum((count(path.read_text(encoding="utf-8")) for path in tensor_files), Counts())
    graph = module_graph(package)
    top_level = {path.stem for path in package.glob("*.py")} - {"__init__", "__main__"}
    return {
        "tokens_per_line": total.tokens / total.lines,
        "comments_per_100": 100 * tensor.comments / max(1, tensor.lines),
        "conditionals_per_kline": 1000 * total.conditionals / total.lines,
        "lines_over_110": lines_over(110, python_files(code)),
        "layers": len(longest_chain(first_level_graph(graph))),
        "cycles": len(cycles(graph)),
        "top_level_modules": len(top_level),
        "idiolect_per_10k": 1e4 * total.idioms / max(1, total.words),
    }


def counts_by_file(package: Path) -> dict[str, Counts]:
    """Counts of each file of the package."""
    return {
        str(path.relative_to(package)): count(path.read_text(encoding="utf-8"))
        for path in python_files([package])
    }


def import_seconds(module: str, source: Path, rounds: int = 5) -> float:
    """Processor seconds to import a module after torch: the median over fresh interpreters."""
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", IMPORT_TIME.format(module)]
    answers = [subprocess.check_output(command, env=environment, text=True) for _ in range(rounds)]
    return statistics.median(map(float, answers))


def reached(value: float, bar: str) -> bool:
    """Whether a value meets a bar such as ``<= 8.8``."""
    sign, limit = bar.split()
    return value <= float(limit) if sign == "<=" else value >= float(limit)


def worst(counts: dict[str, Counts], num: int = 20) -> dict[str, list[tuple[float, str]]]:
    """The files that add most to a figure: tokens above the bar, conditional expressions, idioms."""
    bar = float(BARS["tokens_per_line"].split()[1])
    shares = {
        "tokens above the bar": {name: each.tokens - bar * each.lines for name, each in counts.items()},
        "conditional expressions": {name: each.conditionals for name, each in counts.items()},
        "idioms": {name: each.idioms for name, each in counts.items()},
    }
    return {
        figure: sorted(((share, name) for name, share in files.items() if share > 0), reverse=True)[:num]
        for figure, files in shares.items()
    }


def print_worst(package: Path) -> None:
    """Print the longest chain of imports, the cycles, and the files to clean first."""
    graph = module_graph(package)
    chain = ["/".join(sorted(group)) for group in longest_chain(first_level_graph(graph))]
    print(f"longest chain of imports: {' > '.join(chain)}")
    print(f"import cycles: {'; '.join(cycles(graph)) or 'none'}")
    for figure, files in worst(counts_by_file(package)).items():
        print(f"{figure}:")
        for share, name in files:
            print(f"{share:>8.0f}  {name}")


def main(words: list[str] | None = None) -> None:
    """Measure, print the table, then the line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worst", action="store_true", help="also list cycles and the files to clean first")
    known = parser.parse_args(words)
    package = ROOT / "src" / "kvdistill"
    figures = figures_of_sources(package, [ROOT / name for name in CODE_FOLDERS])
    figures["config_import_s"] = import_seconds("kvdistill.config", ROOT / "src")
    if known.worst:
        print_worst(package)
    print(f"{'figure':24}{'value':>8}{'bar':>9}")
    for name, bar in BARS.items():
        verdict = "met" if reached(figures[name], bar) else "MISSED"
        print(f"{name:24}{figures[name]:>8.4g}{bar:>9}  {verdict}")
    print_json({name: figures[name] for name in BARS})


if __name__ == "__main__":
    main()
