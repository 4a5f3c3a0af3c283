"""What becomes of every causal language model of transformers in the library's hands: right, refused, wrong
or crashed.

    python benchmarks/families.py [family or family/configuration ...] [--table FILE]

Tiny random models of every family, each held against plain calls of transformers on one sample without
padding, cache or packing (``tests/pico_verdicts.py`` is the judge). One line per configuration; ``--table``
also writes the table that the tests compare with: ``--table benchmarks/results/families.md``. About ten
minutes on one core.
"""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "_reexec.py"))

import argparse
import json
import os
import signal
import sys
from collections import Counter

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import torch
import transformers

from pico_variants import CASES, NOT_TINY, Case
from pico_verdicts import judge

LIMIT = 120
"""Seconds for one configuration."""
HEAD = """# Model families

Every causal language model of transformers {version}, as a tiny model with random weights, \
against plain calls of the same model on one
sample without padding, cache or packing: cross entropy of both modes (one and two passes), \
keys, values, importance, answers.
`python benchmarks/families.py --table benchmarks/results/families.md` writes this table; \
`tests/capture/test_families.py` holds it true.

* *right*: every figure within 2e-4, as teacher and as student
* *right as teacher only*: refused as student, with a sentence, before anything is trained
* *refused*: as both
* *not tried*: no tiny model can be built

{counts}

| family | configuration | verdict | worst error, or the reason |
|---|---|---|---|
"""


def too_slow(*_: object) -> None:
    """End a configuration that hangs."""
    raise TimeoutError(f"took longer than {LIMIT} seconds")


def row_of(case: Case) -> tuple[str, str, str, str]:
    """Family, configuration, verdict, and error or reason."""
    signal.alarm(LIMIT)
    try:
        verdict = judge(case)
        detail = f"{verdict.worst:.0e}" if verdict.kind == "right" else short(verdict.reason)
        return case.family, case.name, verdict.kind, detail
    except Exception as error:  # one family must not end the others
        return case.family, case.name, "crashed", f"{type(error).__name__}: {short(str(error))}"
    finally:
        signal.alarm(0)


def short(reason: str) -> str:
    """A reason without its list of other architectures, on one line of a table."""
    first = reason.split(" Choose another ")[0].split("\n")[0].replace("|", "/")
    return first if len(first) <= 240 else first[:237] + "..."


def main() -> int:
    """Judge the chosen configurations; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="families, or family/configuration; all where none is given")
    parser.add_argument("--table", type=Path, help="also write the table here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    signal.signal(signal.SIGALRM, too_slow)
    chosen = [case for case in CASES if not options.names or {case.family, str(case)} & set(options.names)]
    rows: list[tuple[str, str, str, str]] = []
    for case in chosen:
        rows.append(row_of(case))
        sys.stdout.write(" | ".join(rows[-1]) + "\n")
        sys.stdout.flush()
    if not options.names:
        rows += [(family, "default", "not tried", reason) for family, reason in NOT_TINY.items()]
    counts = dict(Counter(row[2] for row in rows).most_common())
    if options.table is not None:
        lines = ["| {} |".format(" | ".join(row)) for row in sorted(rows)]
        told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        options.table.write_text(
            HEAD.format(version=transformers.__version__, counts=told) + "\n".join(lines) + "\n",
            encoding="utf-8",
        )
    sys.stdout.write(json.dumps(counts) + "\n")
    return int(bool({"wrong", "crashed", "refused late"} & set(counts)))


if __name__ == "__main__":
    sys.exit(main())
