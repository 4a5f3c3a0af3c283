"""The house checks itself: where files stand, how large they are, what they say, and what is promised as
built.
"""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE, TESTS = ROOT / "src" / "kvdistill", ROOT / "tests"
CODE_FOLDERS = ("src", "tests", "scripts", "experiments", "benchmarks", "examples")
TESTS_WITHOUT_SOURCE = {
    "test_house.py",
    "test_manifest.py",
    "test_configs.py",
    "test_setup_scripts.py",
    "test_matrix.py",
    "test_extension.py",
    "test_one_road.py",
    "test_phases.py",
    "test_rivals.py",
    "test_metadata.py",
}
TESTS_WITHOUT_SOURCE |= {"capture/test_families.py"}
MANIFEST_DOCUMENTS = {
    "QUICKSTART.md",
    "HPC_SETUP.md",
    "QWEN3_LARGE_SCALE.md",
    "MULTI_TEACHER_KV_PLAN.md",
    "MULTI_TEACHER_README.md",
}
ROOT_ENTRIES = MANIFEST_DOCUMENTS | {
    *(
        "README.md",
        "README.zh-CN.md",
        "QUICKSTART.zh-CN.md",
        "FILE_MANIFEST.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "LICENSE",
    ),
    *("Makefile", "pyproject.toml", "requirements.txt", "setup.sh"),
    *("src", "experiments", "examples", "scripts", "data", "tests", "benchmarks", "docs", "logs"),
}
WRITTEN_DOCUMENTS = {"report.md"}
"""Documents that the program writes."""
VERBS = {"score", "weigh", "pair", "move", "compare", "forward"}
"""Methods whose contract stands on the base class or in CONTRIBUTING.md."""


def code_files(suffix: str) -> list[Path]:
    return sorted(path for folder in CODE_FOLDERS for path in (ROOT / folder).rglob(f"*{suffix}"))


def text_files() -> list[Path]:
    folders = [*CODE_FOLDERS, "docs", "data", ".ci", ".github"]
    nested = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    known = {".py", ".sh", ".md", ".toml", ".yaml", ".yml", ".cff", ".txt", ""}
    paths = [
        path
        for path in [*nested, *ROOT.iterdir()]
        if path.is_file() and path.suffix in known and path.name not in (".git", ".coverage")
    ]
    return [path for path in paths if "__pycache__" not in path.parts and ".egg-info" not in str(path)]


def nodes(*kinds: type[ast.AST], folders: tuple[Path, ...] = (SOURCE,)) -> Iterator[tuple[str, Any]]:
    """Every node of these kinds, with the place to name in a complaint."""
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, kinds):
                    line, name = getattr(node, "lineno", 1), getattr(node, "name", "")
                    yield f"{path.relative_to(ROOT)}:{line} {name}".strip(), node


def everywhere() -> tuple[Path, ...]:
    return tuple(ROOT / folder for folder in CODE_FOLDERS)


def num_lines(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    """Lines of a function or class, without its docstring."""
    first = node.body[0]
    documented = ast.get_docstring(node, clean=False) is not None
    return node.end_lineno - node.lineno + 1 - (first.end_lineno - first.lineno + 1 if documented else 0)


def is_frozen_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(d) and "frozen=True" in ast.unparse(d) for d in node.decorator_list)


def kind_of(node: ast.ClassDef) -> str | None:
    """The name a method goes by in the unions; None where the class is no method."""
    for field in node.body:
        if (
            isinstance(field, ast.AnnAssign)
            and ast.unparse(field.target) == "kind"
            and isinstance(field.value, ast.Constant)
        ):
            return field.value.value
    return None


def methods(*folders: str) -> list[tuple[str, ast.ClassDef, str]]:
    found = nodes(ast.ClassDef, folders=tuple(SOURCE / folder for folder in folders))
    return [
        (place, node, kind)
        for place, node in found
        if is_frozen_dataclass(node) and (kind := kind_of(node)) is not None
    ]


# Where files stand.


def test_every_source_file_has_its_mirror_test() -> None:
    sources = [path for path in SOURCE.rglob("*.py") if path.name != "__init__.py"]
    mirrors = [
        TESTS / path.relative_to(SOURCE).with_name(f"test_{path.stem.strip('_')}.py") for path in sources
    ]
    missing = [str(path.relative_to(ROOT)) for path in mirrors if not path.exists()]
    assert sources
    assert not missing, f"write these tests: {sorted(missing)}"


def test_every_test_file_has_its_source() -> None:
    homes = {"scripts": ROOT, "experiments": ROOT, "benchmarks": ROOT, "examples": ROOT}
    orphans = []
    for path in TESTS.rglob("test_*.py"):
        inside = path.relative_to(TESTS)
        folder = homes.get(inside.parts[0], SOURCE) / inside.parent
        stem = path.stem.removeprefix("test_")
        names = (f"{stem}.py", f"_{stem}.py", f"__{stem}__.py", f"{stem}.sh", f"{stem}.ipynb")
        if str(inside) not in TESTS_WITHOUT_SOURCE and not any((folder / name).exists() for name in names):
            orphans.append(str(inside))
    assert not orphans, f"these tests have no source file: {sorted(orphans)}"


def test_helpers_of_tests_are_few() -> None:
    others = [path.relative_to(TESTS) for path in TESTS.rglob("*.py") if not path.name.startswith("test_")]
    strangers = [
        str(path)
        for path in others
        if path.name != "conftest.py" and not re.fullmatch(r"pico\w*\.py", str(path))
    ]
    assert not strangers, f"helpers of tests are conftest.py or tests/pico*.py: {strangers}"


def test_root_is_short_and_as_agreed() -> None:
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode != 0:
        pytest.skip(
            "not a git checkout: what belongs to the project cannot be told from what a user put beside it"
        )
    entries = {line.split("/")[0] for line in listing.stdout.splitlines()}
    visible = {name for name in entries if not name.startswith(".")}
    assert visible <= ROOT_ENTRIES, f"move these out of the root: {sorted(visible - ROOT_ENTRIES)}"
    assert len(visible - MANIFEST_DOCUMENTS) <= 21


# How large they are, and what they hold.


def test_files_stay_short() -> None:
    too_long = {}
    for path in code_files(".py") + code_files(".sh"):
        inside = path.relative_to(ROOT)
        length = len(path.read_text(encoding="utf-8").splitlines())
        if length > (300 if inside.parts[0] in ("src", "experiments") else 400):
            too_long[str(inside)] = length
    assert not too_long


def test_functions_and_classes_stay_short() -> None:
    limits = {ast.FunctionDef: 50, ast.AsyncFunctionDef: 50, ast.ClassDef: 220}
    found = [
        (place, num_lines(node), limits[type(node)] + (0 if place.startswith("src") else 30))
        for place, node in nodes(*limits, folders=everywhere())
    ]
    assert len(found) > 100
    assert not [f"{place}: {length} lines" for place, length, limit in found if length > limit]


def test_functions_take_at_most_six_parameters() -> None:
    long = []
    for place, node in nodes(ast.FunctionDef, ast.AsyncFunctionDef, folders=everywhere()):
        names = [
            argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        ]
        first_line = (ROOT / place.split(":")[0]).read_text(encoding="utf-8").splitlines()[node.lineno - 1]
        # A signature that another library dictates says so in the words that ruff knows.
        if len(names) - (names[:1] in (["self"], ["cls"])) > 6 and "noqa: PLR0913" not in first_line:
            long.append(place)
    assert not long


def test_no_exception_is_swallowed() -> None:
    for place, handler in nodes(ast.ExceptHandler, folders=everywhere()):
        assert handler.type is not None, f"{place}: name the exception"
        broad = ast.unparse(handler.type) in ("Exception", "BaseException")
        assert not (broad and all(isinstance(line, ast.Pass) for line in handler.body)), (
            f"{place}: this hides every error"
        )


def test_public_methods_say_what_they_do() -> None:
    silent = []
    for place, node in nodes(ast.ClassDef):
        public = [
            f
            for f in node.body
            if isinstance(f, ast.FunctionDef) and not f.name.startswith("_") and f.name not in VERBS
        ]
        silent += [
            f"{place}.{f.name}"
            for f in public
            if ast.get_docstring(f) is None and not node.name.startswith("_")
        ]
    assert not silent


def test_every_method_names_its_source() -> None:
    found = methods("compress", "losses")
    assert found
    assert not [place for place, node, _ in found if "Source:" not in (ast.get_docstring(node) or "")]


def test_every_method_stands_in_the_readme() -> None:
    readme = ROOT / "README.md"
    if not readme.exists() or "|---" not in readme.read_text(encoding="utf-8").replace(" ", ""):
        pytest.skip("README.md has no table of methods")
    table = "\n".join(
        line for line in readme.read_text(encoding="utf-8").splitlines() if line.startswith("|")
    )
    assert not [
        kind for _, _, kind in methods("align", "fuse", "compress", "losses") if f"`{kind}`" not in table
    ]
    named = re.findall(r"`((?:align|compress|losses|target|tests)/[\w/]+\.py)`", table)
    assert named
    assert not [path for path in named if not (SOURCE / path).exists() and not (ROOT / path).exists()]


def test_old_pythons_can_parse_what_they_have_to_leave() -> None:
    for path in code_files(".py"):
        text = path.read_text(encoding="utf-8")
        if path.name == "_reexec.py" or ("_reexec.py" in text and "tests" not in path.parts):
            ast.parse(text, filename=str(path), feature_version=(3, 8))


# What they say.


def test_the_project_speaks_only_of_itself() -> None:
    paths = text_files()
    ours = {path.name for path in paths} | ROOT_ENTRIES | WRITTEN_DOCUMENTS
    machine = re.compile(r"(?<![\w./-])/(?:work|root)(?![\w-])")
    assert len(paths) > 30
    for path in paths:
        text = path.read_text(encoding="utf-8")
        strangers = set(re.findall(r"[\w.-]+\.md\b", text)) - ours
        assert not strangers, (
            f"{path.relative_to(ROOT)} names documents that the project does not have: {strangers}"
        )
        if path != Path(__file__):
            assert not machine.search(text), f"{path.relative_to(ROOT)} names a folder of one machine"
            assert not re.search(r"\.\./shared(?!/data)", text), (
                f"{path.relative_to(ROOT)} reaches outside the project"
            )


def test_walls_are_complete() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    doors = next(contract for contract in contracts if contract["id"] == "doors")
    built = {
        name for name in ("align", "fuse", "compress", "losses") if (SOURCE / name / "__init__.py").exists()
    }
    assert {f"kvdistill.{name}" for name in built} <= set(doors["source_modules"]), (
        "name the package without stars, its __init__ counts"
    )


# What is promised, and what of it is built.


def manifest_lines() -> list[str]:
    """Every line of the manifest that promises something: files, features, goals and outputs."""
    text = (TESTS / "data" / "manifest.txt").read_text(encoding="utf-8")
    found = [re.match(r"(?:- |✅ |\d\. (?=\*\*))(.*\S)", line) for line in text.splitlines()]
    return [match.group(1) for match in found if match]


def manifest_rows() -> list[list[str]]:
    text = (ROOT / "FILE_MANIFEST.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    return [row for row in rows if row[3] in ("built", "in part", "not built yet")]


def test_every_line_of_the_manifest_has_its_row() -> None:
    assert len(manifest_lines()) == 63
    assert [row[0] for row in manifest_rows()] == manifest_lines()


@pytest.mark.parametrize("row", manifest_rows(), ids=lambda row: f"{row[2]}: {row[3]}")
def test_rows_tell_the_truth(row: list[str]) -> None:
    _, english, places, state, test = row
    paths = [ROOT / name for name in re.findall(r"`([^`]+)`", places)]
    assert english
    assert paths
    if state == "not built yet":
        assert not any(path.exists() for path in paths), (
            f"{places} is there: say that it is built, and which test runs it"
        )
        return
    proofs = [ROOT / name for name in re.findall(r"`([^`]+)`", test)]
    assert all(path.exists() for path in paths), f"{places} is said to be built"
    assert proofs
    assert all(proof.is_file() or any(proof.glob("test_*.py")) for proof in proofs), f"{test} does not exist"


def test_commands_of_the_manifest_call_files_with_a_row() -> None:
    text = (TESTS / "data" / "manifest.txt").read_text(encoding="utf-8")
    commands = "\n".join(re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL))
    called = set(re.findall(r"\b(?:scripts/)?\w+\.(?:sh|py)\b", commands))
    assert len(called) == 7
    assert called <= {name for line in manifest_lines() for name in re.findall(r"`([^`]+)`", line)}
