"""Start the calling script again under the project's virtual environment where the running Python lacks the
package.

A script in scripts/, experiments/ or benchmarks/ begins with::

    import runpy
    from pathlib import Path

    runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "_reexec.py"))

Old Pythons have to parse this file and the scripts before they can be left: both keep to the syntax of Python
3.8.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV_PYTHON = ROOT / ".venv" / "bin" / "python"
# Holds the process id: exec keeps it, a child process has another and may start over.
MARK = "KVDISTILL_REEXECUTED"


def ensure_package() -> None:
    """Return where ``kvdistill`` and torch can be imported, else start over under ``.venv``.

    Raises:
        SystemExit: if there is no such environment, or the package is missing there too.
    """
    started_over = os.environ.pop(MARK, "") == str(os.getpid())
    lacking = " and ".join(name for name in ("kvdistill", "torch") if find_spec(name) is None)
    if not lacking:
        return
    advice = f"Run: bash '{ROOT / 'setup.sh'}'"
    if started_over:
        raise SystemExit(f"The environment {VENV_PYTHON.parents[1]} lacks {lacking}. {advice}")
    if not VENV_PYTHON.exists():
        raise SystemExit(f"{sys.executable} lacks {lacking}, and there is no {VENV_PYTHON}. {advice}")
    os.environ[MARK] = str(os.getpid())
    arguments = getattr(sys, "orig_argv", [sys.executable, *sys.argv])[1:]
    os.execv(str(VENV_PYTHON), [str(VENV_PYTHON), *arguments])


ensure_package()
