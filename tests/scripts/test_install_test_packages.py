"""What the tests need is installed where it is absent and may be installed; elsewhere a sentence and no
failure.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "install_test_packages.sh"


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """A PATH with the few programs that the script calls."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "tail", "mktemp", "rm", "env"):
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


def program(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!{folder}/bash\n{body}\n")
    path.chmod(0o755)


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(folder), "TMPDIR": os.environ.get("TMPDIR", "/tmp")}
    return subprocess.run(
        [str(folder / "bash"), str(SCRIPT)], env=environment, capture_output=True, text=True, check=False
    )


def test_nothing_is_done_where_all_is_there(bin_folder: Path) -> None:
    program(bin_folder, "chromium", "exit 1")
    done = run(bin_folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_root_installs_what_is_absent(bin_folder: Path) -> None:
    program(bin_folder, "id", "echo 0")
    program(bin_folder, "apt-get", f'echo "$*" >> {bin_folder}/calls')
    done = run(bin_folder)
    assert (
        done.returncode == 0
        and done.stdout == "install_test_packages.sh: installing chromium for the tests\n"
    )
    assert (bin_folder / "calls").read_text().splitlines() == [
        "update -qq",
        "install -y -qq --no-install-recommends chromium",
    ]


def test_others_install_with_sudo(bin_folder: Path) -> None:
    program(bin_folder, "id", "echo 1000")
    program(bin_folder, "sudo", 'shift\n[ "$1" = true ] || "$@"')
    program(bin_folder, "apt-get", f'echo "$1" >> {bin_folder}/calls')
    assert run(bin_folder).returncode == 0 and (bin_folder / "calls").read_text() == "update\ninstall\n"


@pytest.mark.parametrize(
    ("programs", "reason"),
    [
        ({}, "there is no apt-get here"),
        ({"apt-get": "exit 0", "id": "echo 1000"}, "this takes root: sudo apt-get install chromium"),
        (
            {"apt-get": "exit 0", "id": "echo 1000", "sudo": "exit 1"},
            "this takes root: sudo apt-get install chromium",
        ),
        ({"apt-get": "echo no network; exit 100", "id": "echo 0"}, "apt-get failed (no network)"),
    ],
)
def test_what_cannot_be_installed_is_said_and_fails_nothing(
    bin_folder: Path, programs: dict[str, str], reason: str
) -> None:
    for name, body in programs.items():
        program(bin_folder, name, body)
    done = run(bin_folder)
    assert done.returncode == 0
    assert f"chromium not installed, since {reason}. The tests that need it are skipped.\n" in done.stdout
