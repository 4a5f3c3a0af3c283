"""Extras: what is missing and how to install it, and training where only the core is installed."""

import json
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from kvdistill.console import extras
from kvdistill.console.extras import EXTRAS, how_to_install, missing_packages, require_extra
from pico_runs import toml

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOT_LINKED = {"..", "__pycache__"}
CORE_MODULES = """
import pkgutil, sys
from importlib import import_module
import kvdistill
needs_an_extra = (
    *("kvdistill.reporting.", "kvdistill.commands.assets.", "kvdistill.commands.demo.run"),
    *("kvdistill.commands.study.export", "kvdistill.commands.study.pilot"),
)
for module in pkgutil.walk_packages(kvdistill.__path__, "kvdistill."):
    if not module.name.startswith(needs_an_extra) and module.name != "kvdistill.__main__":
        import_module(module.name)
assert not {"matplotlib", "scipy", "tensorboard", "datasets"} & set(sys.modules)
"""


def missing(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name in names else object())


def test_extras_are_those_of_pyproject() -> None:
    declared = {
        extra: {canonicalize_name(Requirement(line).name) for line in lines}
        for extra, lines in PROJECT["optional-dependencies"].items()
        if extra != "test"
    }
    names = packages_distributions()
    assert {
        extra: {canonicalize_name(names[name][0]) for name in modules} for extra, modules in EXTRAS.items()
    } == declared


def test_missing_packages_are_named_with_the_command_that_installs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require_extra("reporting", "a report")
    missing(monkeypatch, "scipy", "matplotlib")
    assert missing_packages("hub") == ()
    assert how_to_install("reporting") == (
        "matplotlib, scipy are not installed. Run: pip install 'kvdistill[reporting]'"
    )
    with pytest.raises(ValueError, match=r"a report needs the extra 'reporting': matplotlib, scipy are not"):
        require_extra("reporting", "a report")
    missing(monkeypatch, "datasets")
    assert how_to_install("hub") == "datasets is not installed. Run: pip install 'kvdistill[hub]'"


@pytest.fixture(scope="session")
def core_packages(session_tmp: Path) -> Path:
    """A folder of links to the packages that the core requires, directly or not, and to no others."""
    folder = session_tmp / "core"
    folder.mkdir()
    waiting, found = [Requirement(line).name for line in PROJECT["dependencies"]], set()
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found.add(name)
        needs = [Requirement(line) for line in distribution(name).requires or []]
        waiting += [need.name for need in needs if not need.marker or need.marker.evaluate({"extra": ""})]
    for name in (*found, "kvdistill"):
        installed = distribution(name)
        for top in {file.parts[0] for file in installed.files or [] if file.parts[0] not in NOT_LINKED}:
            link = folder / top
            if not link.exists():
                link.symlink_to(Path(str(installed.locate_file(top))))
    return folder


def run_core(packages: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Python with the core's packages alone: -S leaves out the environment's own."""
    return subprocess.run(
        [sys.executable, "-S", *arguments],
        cwd=cwd,
        env={"PYTHONPATH": f"{ROOT / 'src'}:{packages}", "HOME": str(cwd), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_the_core_imports_without_extras(core_packages: Path, tmp_path: Path) -> None:
    done = run_core(core_packages, "-c", CORE_MODULES, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_core_trains_without_extras(core_packages: Path, tmp_path: Path) -> None:
    options = ("--training.output_dir", "run", "--training.max_steps", "2", "--training.tensorboard", "true")
    command = ("-m", "kvdistill", "train", "--config", str(toml(tmp_path)), *options)
    done = run_core(core_packages, *command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    note = "No report.html and no TensorBoard files: matplotlib, scipy, tensorboard are not installed."
    assert note in done.stderr
    assert note in (tmp_path / "run" / "TRAINING_COMPLETED.txt").read_text(encoding="utf-8")
    assert not (tmp_path / "run" / "report.html").exists()
    assert not list((tmp_path / "run").rglob("events.out.tfevents*"))
    run = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert run["config"]["training"]["tensorboard"], "what was asked for is recorded"


def test_commands_that_need_an_extra_name_it(core_packages: Path, tmp_path: Path) -> None:
    done = run_core(core_packages, "-m", "kvdistill", "report", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("kvdistill report: kvdistill report needs the extra 'reporting': ")
