"""Package metadata: requirements, pins, versions and continuous integration agree with the code."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "kvdistill"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
IMPORTED_BY_OTHERS = {
    "accelerate": "transformers' Trainer",
    "tensorboard": "transformers' Trainer, for its log",
}
"""Requirements that the package uses only through another one."""


def names_of(lines: Iterable[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in lines}


def imported_distributions() -> dict[str, str]:
    """Distributions that the package imports, each with one file that does."""
    distributions = packages_distributions()
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules: list[str] = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [str(node.module)]
            for top in (
                {module.partition(".")[0] for module in modules} - sys.stdlib_module_names - {"kvdistill"}
            ):
                found[canonicalize_name(distributions.get(top, [top])[0])] = str(path.relative_to(ROOT))
    return found


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    extras = [lines for extra, lines in PROJECT["optional-dependencies"].items() if extra != "test"]
    declared = names_of(chain(PROJECT["dependencies"], *extras))
    imported = imported_distributions()
    undeclared = {name: path for name, path in imported.items() if name not in declared}
    unused = declared - set(imported) - set(IMPORTED_BY_OTHERS)
    assert len(imported) > 10
    assert not undeclared, f"declare these in pyproject.toml and pin them in requirements.txt: {undeclared}"
    assert not unused, f"nothing imports these: {unused}"
    assert set(IMPORTED_BY_OTHERS) <= declared - set(imported)


def test_pins_lie_in_the_ranges() -> None:
    ranges = list(chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()))
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in (Requirement(line) for line in lines if line and not line.startswith("#"))
    }
    assert names_of(ranges) | {"setuptools"} == set(pins)
    outside = [line for line in ranges if pins[names_of([line]).pop()] not in Requirement(line).specifier]
    assert not outside


def test_version_is_the_same_in_changelog_and_citation() -> None:
    source, changelog, citation = (
        (ROOT / name).read_text(encoding="utf-8")
        for name in ("src/kvdistill/__init__.py", "CHANGELOG.md", "CITATION.cff")
    )
    (version,) = re.findall(r'^__version__ = "(.+)"$', source, flags=re.MULTILINE)
    assert re.findall(r"^version: (.+)$", citation, flags=re.MULTILINE) == [version]
    headings = re.findall(r"^## \[(.+?)\](.*)$", changelog, flags=re.MULTILINE)
    assert headings[0] == ("Unreleased", "")
    assert headings[1][0] == version
    assert all(re.fullmatch(r" - \d{4}-\d{2}-\d{2}", date) for _, date in headings[1:])


def test_continuous_integration_runs_the_tests_on_the_declared_pythons() -> None:
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    pythons = re.findall(r'"(3\.\d+)"', workflow)
    assert "- run: make test\n" in workflow
    assert pythons[0] == PROJECT["requires-python"].removeprefix(">=")
    assert [f"Programming Language :: Python :: {version}" for version in pythons] == [
        line for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)
    ]
