"""Models and data sets from the hub into the local cache, ahead of time: on a cluster, run this on the login
node.

    python scripts/download_assets.py --model Qwen/Qwen2.5-7B-Instruct --dataset openai/gsm8k --export_jsonl

After an interruption the same command goes on. Gated models want `hf auth login` first.
"""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "_reexec.py"))

import argparse
import os

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Parse the options, look at names and disk, and fetch."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", nargs="+", action="extend", default=[], help="hub names of models")
    parser.add_argument("--dataset", nargs="+", action="extend", default=[], help="hub names of data sets")
    parser.add_argument(
        "--dataset_config",
        help="configuration of the data set (default: main for openai/gsm8k, else its only one)",
    )
    parser.add_argument("--revision", help="branch, tag or commit of the model (default: main)")
    parser.add_argument(
        "--cache_dir",
        type=Path,
        help="folder for hub/ and datasets/ (default: ~/.cache/huggingface, or as HF_HOME says)",
    )
    parser.add_argument(
        "--export_jsonl", action="store_true", help="also write each split of the data sets to a .jsonl file"
    )
    parser.add_argument(
        "--output_dir",
        type=Path,
        default=ROOT / "data",
        help="folder for the .jsonl files (default: the project's data/)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace .jsonl files with other content")
    known = parser.parse_args()
    for option, names, owner in (
        ("revision", known.model, "model"),
        ("dataset_config", known.dataset, "dataset"),
    ):
        if getattr(known, option) is not None and len(names) != 1:
            parser.error(
                f"--{option} belongs to one --{owner}, and {len(names)} are named; run the command once for "
                "each"
            )
    if not known.model + known.dataset or (known.export_jsonl and not known.dataset):
        parser.error(
            "name a data set with --dataset"
            if known.model
            else "name what to fetch with --model or --dataset"
        )
    cache = (
        {}
        if known.cache_dir is None
        else {
            f"HF_{name.upper()}_CACHE": str(known.cache_dir.resolve() / name) for name in ("hub", "datasets")
        }
    )
    os.environ.update(cache)

    # Only now: the libraries read the environment when they are imported, and help should not wait for them.
    from kvdistill.commands.assets.errors import RESUME
    from kvdistill.commands.assets.hub import download, find_data, find_model
    from kvdistill.console.exits import exit_code

    def work() -> None:
        assets = [find_model(name, known.revision) for name in known.model]
        assets += [find_data(name, known.dataset_config) for name in known.dataset]
        download(assets, known.output_dir if known.export_jsonl else None, known.overwrite)
        if cache:
            print(
                "Where these are used, set: export", *(f"{name}='{folder}'" for name, folder in cache.items())
            )

    return exit_code("download_assets.py", work, RESUME)


if __name__ == "__main__":
    raise SystemExit(main())
