"""Set-up and re-execution, run for real in a folder whose name holds a space; only pip and the machine's
programs are stood in for.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SYSTEM = "/usr/bin:/bin"
PREAMBLE = (
    "import runpy\nfrom pathlib import "
    'Path\n\nrunpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "_reexec.py"))\n'
)

STAND_IN = """#!/usr/bin/env bash
# Makes environments that hold this same program and writes down what pip is asked for.
case "$1 $2" in
  "-m venv")
    echo venv >>"$CALLS"
    rm -rf .venv && mkdir -p .venv/bin && cp "$HOME/python3" .venv/bin/python &&
      echo "$PWD/.venv/bin/python" >.venv/bin/pip ;;
  "-m pip")
    shift 2; echo "$*" >>"$CALLS"
    [[ -z "${FAIL_ON:-}" || "$*" != *$FAIL_ON* ]] || { echo "no space left on device"; exit 1; } ;;
  "-c import ensurepip"*) [ -z "${NO_VENV:-}" ] ;;
  "-c "*) [ -z "${OLD:-}" ] && echo 3.11.7 || echo 3.9.2 ;;
  *) echo "torch           stand-in" ;;
esac
"""


@dataclass(frozen=True)
class Clone:
    """A copy of what set-up needs, with a Python that stands in for the real one."""

    root: Path
    tools: Path

    def setup(self, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run setup.sh from another folder."""
        clean = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("KVDISTILL_", "PIP_", "HF_"))
        }
        settings = {
            "PATH": f"{self.tools}:{SYSTEM}",
            "CALLS": str(self.calls_file),
            "HOME": str(self.tools),
        } | environment
        return subprocess.run(
            ["bash", str(self.root / "setup.sh")],
            cwd="/",
            env=clean | settings,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    @property
    def calls_file(self) -> Path:
        return self.tools / "calls.txt"

    def calls(self) -> list[str]:
        """What was asked of venv and pip since the last time."""
        text = self.calls_file.read_text(encoding="utf-8") if self.calls_file.exists() else ""
        self.calls_file.unlink(missing_ok=True)
        return text.splitlines()

    @property
    def stamp(self) -> Path:
        return self.root / ".venv" / "kvdistill.stamp"

    def tool(self, name: str, text: str = "#!/bin/sh\n") -> None:
        """Put a program on the PATH."""
        (self.tools / name).write_text(text, encoding="utf-8")
        (self.tools / name).chmod(0o755)


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    if Path("/proc/driver/nvidia/version").exists() or any(
        shutil.which(name, path=SYSTEM) for name in ("nvidia-smi", "sbatch")
    ):
        pytest.skip(
            "this machine has an NVIDIA driver or SLURM: what set-up chooses without them cannot be seen here"
        )
    made = Clone(tmp_path / "my clone", tmp_path / "tools")
    made.root.mkdir()
    made.tools.mkdir()
    for name in ("setup.sh", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, made.root)
    made.tool("python3", STAND_IN)
    return made


CPU_TORCH = "install --progress-bar off --retries 1 torch==2.13.0+cpu"
PACKAGES = "install --progress-bar off -r .venv/requirements-without-torch.txt"
ITSELF = "install --progress-bar off --no-deps --no-build-isolation -e ."


def test_a_fresh_set_up_goes_through_every_stage_in_order(clone: Clone) -> None:
    run = clone.setup()
    assert run.returncode == 0, run.stderr
    assert clone.calls() == ["venv", CPU_TORCH, PACKAGES, ITSELF]
    kept = (clone.root / ".venv" / "requirements-without-torch.txt").read_text(encoding="utf-8")
    assert "transformers==" in kept
    assert "torch==" not in kept
    assert all((clone.root / folder).is_dir() for folder in ("outputs", "logs", "data"))
    assert [line for line in run.stdout.splitlines() if "ok (" in line] != []
    assert "hf auth login" in run.stdout
    assert "bash scripts/test_setup.sh" in run.stdout


def test_the_second_run_is_quiet_and_quick(clone: Clone) -> None:
    clone.setup()
    clone.calls()
    start = time.monotonic()
    run = clone.setup()
    assert time.monotonic() - start < 3
    assert (run.returncode, run.stdout, run.stderr) == (0, "kvdistill is set up.\n", "")
    assert clone.calls() == []


def test_an_environment_behind_a_link_is_not_emptied(clone: Clone) -> None:
    elsewhere = clone.root.parent / "elsewhere"
    (elsewhere / "bin").mkdir(parents=True)
    (elsewhere / "bin" / "pip").write_text("#!/another/project/.venv/bin/python")
    (clone.root / ".venv").symlink_to(elsewhere)
    run = clone.setup()
    assert run.returncode == 1
    assert (
        f".venv is a link to {elsewhere}, and what lies there was not made for {clone.root}; setting up "
        "would delete it." in run.stderr
    )
    assert (elsewhere / "bin" / "pip").is_file()
    shutil.rmtree(elsewhere / "bin")
    assert clone.setup().returncode == 0, "an empty folder may be filled"


def test_two_set_ups_at_once_do_not_get_in_each_others_way(clone: Clone) -> None:
    if shutil.which("flock") is None:
        pytest.skip("no flock here: two set-ups cannot be told apart")
    (clone.root / "logs").mkdir()
    with (clone.root / "logs" / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = clone.setup()
    assert (run.returncode, run.stdout) == (1, "")
    assert f"Another setup.sh is running in {clone.root}: wait until it has ended." in run.stderr
    assert clone.calls() == []


def test_a_failure_names_the_log_and_is_never_taken_for_whole(clone: Clone) -> None:
    run = clone.setup(FAIL_ON="requirements-without-torch")
    assert run.returncode == 1
    assert "Packages (requirements.txt) failed; the whole output is in" in run.stderr
    assert f"{clone.root}/logs/setup.log" in run.stderr
    assert "no space left on device" in run.stderr
    assert not clone.stamp.exists()
    clone.calls()
    assert clone.setup().returncode == 0
    assert clone.calls() == [CPU_TORCH, PACKAGES, ITSELF], "what is whole stays, the rest is done again"


def test_without_a_cpu_build_the_pytorch_index_and_then_the_standard_build_are_tried(clone: Clone) -> None:
    index = (
        "install --progress-bar off --retries 1 --index-url https://download.pytorch.org/whl/cpu "
        "torch==2.13.0"
    )
    assert clone.setup(FAIL_ON="+cpu").returncode == 0
    assert clone.calls() == ["venv", CPU_TORCH, index, PACKAGES, ITSELF]
    shutil.rmtree(clone.root / ".venv")
    assert clone.setup(FAIL_ON="--retries").returncode == 0
    assert clone.calls() == [
        "venv",
        CPU_TORCH,
        index,
        "install --progress-bar off torch==2.13.0",
        PACKAGES,
        ITSELF,
    ]


@pytest.mark.parametrize("program", ["nvidia-smi", "sbatch"])
def test_a_gpu_machine_or_a_login_node_gets_the_standard_build(clone: Clone, program: str) -> None:
    clone.tool(program)
    assert clone.setup().returncode == 0
    assert clone.calls()[2] == "install --progress-bar off torch==2.13.0"


def test_another_torch_reaches_pip_word_by_word_and_replaces_the_old_one(clone: Clone) -> None:
    clone.setup()
    clone.calls()
    wish = "torch==2.12.1 --index-url https://download.pytorch.org/whl/cu126"
    assert clone.setup(KVDISTILL_TORCH=wish).returncode == 0
    assert clone.calls() == ["uninstall -y torch", f"install --progress-bar off {wish}", PACKAGES, ITSELF]
    assert clone.setup(KVDISTILL_TORCH=wish).stdout == "kvdistill is set up.\n"


def test_new_pins_are_installed(clone: Clone) -> None:
    clone.setup()
    clone.calls()
    with (clone.root / "requirements.txt").open("a", encoding="utf-8") as pins:
        pins.write("einops==0.8.2\n")
    assert clone.setup().returncode == 0
    assert clone.calls() == [CPU_TORCH, PACKAGES, ITSELF]


def test_an_environment_copied_from_elsewhere_is_built_anew(clone: Clone) -> None:
    clone.setup()
    clone.calls()
    moved = Clone(clone.root.rename(clone.root.with_name("quickly check")), clone.tools)
    assert moved.setup().returncode == 0
    assert moved.calls() == ["venv", CPU_TORCH, PACKAGES, ITSELF]


def test_an_old_python_is_named_with_the_way_out(clone: Clone) -> None:
    run = clone.setup(OLD="1", KVDISTILL_PYTHON=str(clone.tools / "python3"))
    assert run.returncode == 1
    assert f"Python 3.11 or newer is needed; found: {clone.tools}/python3 (3.9.2)." in run.stderr
    assert "KVDISTILL_PYTHON=/path/to/python3.11 bash setup.sh" in run.stderr
    lost = clone.setup(KVDISTILL_PYTHON="/no/such/python")
    assert "found: none that runs as /no/such/python." in lost.stderr
    assert clone.calls() == []


def test_a_missing_venv_module_is_named_with_the_package_that_has_it(clone: Clone) -> None:
    run = clone.setup(NO_VENV="1")
    assert run.returncode == 1
    assert "its venv or ensurepip module is missing" in run.stderr
    assert "sudo apt install python3.11-venv" in run.stderr


@pytest.mark.parametrize("script", ["setup.sh", "scripts/test_setup.sh", ".ci/run"])
def test_scripts_parse_and_can_be_executed(script: str) -> None:
    assert subprocess.run(["bash", "-n", script], cwd=ROOT, check=False).returncode == 0
    assert os.access(ROOT / script, os.X_OK)


def test_this_installation_passes_its_check() -> None:
    if not (ROOT / ".venv" / "kvdistill.stamp").exists():
        pytest.skip("this checkout was not set up by setup.sh: run bash setup.sh")
    run = subprocess.run(
        ["bash", "scripts/test_setup.sh"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=180
    )
    assert run.returncode == 0, run.stdout
    assert run.stdout.count("ok    ") == 11
    assert run.stdout.endswith("This installation works.\n")


def test_the_check_fails_line_by_line_where_nothing_is_installed(clone: Clone) -> None:
    (clone.root / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "test_setup.sh", clone.root / "scripts")
    run = subprocess.run(
        ["bash", str(clone.root / "scripts" / "test_setup.sh")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 1
    assert run.stdout.count("FAIL  ") == 9, "all but the two folders that can be written"
    assert run.stdout.count("bash setup.sh") >= 8
    assert "9 of the lines above failed." in run.stdout


# Re-execution.


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project with one script, and an environment that has the package."""
    root = tmp_path / "my clone"
    for folder in ("scripts", "experiments", ".venv/bin"):
        (root / folder).mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "_reexec.py", root / "scripts")
    (root / "experiments" / "say.py").write_text(
        f"{PREAMBLE}import os, sys\nimport kvdistill\nprint(sys.argv[1:], "
        "os.environ.get('KVDISTILL_REEXECUTED'))\n"
    )
    python = root / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT / "src"}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return root


def run_bare(root: Path) -> subprocess.CompletedProcess[str]:
    """Run the script with a Python that has no packages, from another folder."""
    bare = getattr(sys, "_base_executable", sys.executable)
    if (
        subprocess.run(
            [bare, "-c", "import torch"], capture_output=True, env={"PATH": SYSTEM}, check=False
        ).returncode
        == 0
    ):
        pytest.skip(f"{bare} has torch: there is no Python here that a script would have to leave")
    command = [bare, str(root / "experiments" / "say.py"), "two words", "--flag=1"]
    return subprocess.run(
        command, cwd="/", env={"PATH": SYSTEM}, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_bare_python_starts_over_in_the_environment(tree: Path) -> None:
    run = run_bare(tree)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "['two words', '--flag=1'] None\n"


def test_without_an_environment_the_message_says_what_to_do(tree: Path) -> None:
    shutil.rmtree(tree / ".venv")
    run = run_bare(tree)
    assert run.returncode == 1
    assert run.stderr.endswith(
        f"lacks kvdistill and torch, and there is no {tree}/.venv/bin/python. Run: bash '{tree}/setup.sh'\n"
    )


def test_an_environment_without_the_package_is_named_once(tree: Path) -> None:
    (tree / ".venv" / "bin" / "python").write_text(
        f'#!/bin/sh\nexec "{getattr(sys, "_base_executable", sys.executable)}" "$@"\n'
    )
    run = run_bare(tree)
    assert run.returncode == 1
    assert (
        run.stderr == f"The environment {tree}/.venv lacks kvdistill and torch. Run: bash '{tree}/setup.sh'\n"
    )


def test_a_python_that_has_the_package_stays(tree: Path) -> None:
    assert find_spec("torch") is not None
    shutil.rmtree(tree / ".venv")
    environment = {"PATH": SYSTEM, "PYTHONPATH": str(ROOT / "src")}
    run = subprocess.run(
        [sys.executable, str(tree / "experiments" / "say.py")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.stdout == "[] None\n", run.stderr
