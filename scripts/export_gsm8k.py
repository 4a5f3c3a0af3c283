"""GSM8K, and data sets of its two forms, from the hub to JSON lines.

    python scripts/export_gsm8k.py
    python scripts/export_gsm8k.py --dataset_name whynlp/gsm8k-aug-nl

A data set owner/some-name becomes data/some_name_train.jsonl, data/some_name_test.jsonl, ...
"""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "_reexec.py"))

import argparse

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Parse the options, and write the files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dataset_name", default="openai/gsm8k", help="hub name, or a folder (default: openai/gsm8k)"
    )
    parser.add_argument(
        "--dataset_config",
        help="configuration of the data set (default: main for openai/gsm8k, else its only one)",
    )
    parser.add_argument("--splits", nargs="+", default=[], help="only these splits (default: all)")
    parser.add_argument(
        "--output_dir",
        type=Path,
        default=ROOT / "data",
        help="folder for the files (default: the project's data/)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files with other content")
    known = parser.parse_args()

    # Only now: help should not wait for the libraries.
    from kvdistill.commands.assets.errors import RESUME
    from kvdistill.commands.assets.export import export, load_splits
    from kvdistill.console.exits import exit_code

    def work() -> None:
        splits = load_splits(known.dataset_name, known.dataset_config, known.splits)
        print(*export(known.dataset_name, splits, known.output_dir, known.overwrite), sep="\n")

    return exit_code("export_gsm8k.py", work, RESUME)


if __name__ == "__main__":
    raise SystemExit(main())
