"""Compare the runs of E1 to E5: write EXPERIMENT_REPORT.txt, .json and .html into the folder that holds them,
and print the text.

python scripts/analyze_results.py --output_base outputs/
"""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "_reexec.py"))

import argparse

from kvdistill.console.exits import exit_code
from kvdistill.reporting.studies.experiment_report import DELTA, write_experiment_report


def main() -> int:
    """Write and print the report; 2 where there is nothing to report on."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output_base", type=Path, default=Path("outputs"), help="folder of the runs (default: outputs)"
    )
    parser.add_argument(
        "--delta",
        type=float,
        default=DELTA,
        help="smallest difference of accuracy that matters (default: 0.02)",
    )
    given = parser.parse_args()

    def work() -> None:
        path = write_experiment_report(given.output_base, given.delta)
        print(path.read_text(encoding="utf-8"))
        print(f"Written: {path}, and beside it the same as .html (with figures) and .json")

    return exit_code("analyze_results.py", work)


if __name__ == "__main__":
    raise SystemExit(main())
