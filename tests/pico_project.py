"""Copies of the project's scripts in a path with a space, and stand-ins for the programs that they call."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from transformers import Qwen2Config, Qwen2ForCausalLM

from pico_tokenizer import byte_bpe

ROOT = Path(__file__).resolve().parents[1]
SYSTEM = "/usr/bin:/bin"
CLERK = """#!/usr/bin/env bash
# Writes down the command line, and leaves of a run what other runs ask for; FAIL sets how far E2 comes.
case $1 in -c) exit ;; *analyze_results.py) echo "REPORT ${*:2}"; exit ;; esac
trap 'sleep 0.5; exit 1' TERM # as a training run does, it takes a moment to end
printf '%s\\n' "$@" "" >>"$CALLS"
folder=; for word; do [ "$before" != --output_dir ] || folder=$word; before=$word; done
sleep "${SLEEP:-0}" && mkdir -p "$folder"
[[ "$folder" != *E2_full_kv* ]] || [ "${FAIL:-}" != beginning ] ||
  { echo "train_with_kv.py: --lr is wrong." >&2; exit 2; }
touch "$folder/run.json"
[[ "$folder" != *E2_full_kv* ]] || [ -z "${FAIL:-}" ] || { echo "out of memory" >&2; exit 1; }
echo "checkpoint:   checkpoint-ep2" >"$folder/TRAINING_COMPLETED.txt"
"""


@dataclass(frozen=True)
class Project:
    """A copy of the scripts."""

    root: Path

    def environment(self, **settings: str) -> dict[str, str]:
        """What a script sees: these settings and little else."""
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        return (
            kept
            | {
                "PATH": SYSTEM,
                "CALLS": str(self.root / "calls.txt"),
                "HF_HUB_OFFLINE": "1",
                "OMP_NUM_THREADS": "1",
            }
            | settings
        )

    def run(self, script: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a script with bash from another folder."""
        command = ["bash", str(self.root / "scripts" / script)]
        return subprocess.run(
            command,
            cwd="/",
            env=self.environment(**settings),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def calls(self) -> list[list[str]]:
        """The command lines that were written down since the last time."""
        path = self.root / "calls.txt"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        path.unlink(missing_ok=True)
        return [call.split("\n") for call in text.removesuffix("\n\n").split("\n\n") if call]


def copied(root: Path, python: Path) -> Project:
    """The scripts in ``root``, with this Python as that of its environment."""
    for folder in ("scripts", "experiments"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (root / ".venv" / "bin").mkdir(parents=True)
    (root / ".venv" / "bin" / "python").symlink_to(python)
    return Project(root)


SBATCH = f"""#!/bin/sh
'''exec' "{sys.executable}" -I "$0" "$@"
' '''
import argparse, os, pathlib, shutil, subprocess, sys, tempfile

parser = argparse.ArgumentParser(allow_abbrev=False)
for name in ("job-name", "nodes", "ntasks", "gres", "cpus-per-task", "mem", "time", "output", "open-mode"):
    parser.add_argument("--" + name, required=True)
script = pathlib.Path(sys.argv[1])
lines = script.read_text(encoding="utf-8").splitlines()
assert lines[0].startswith("#!"), "sbatch: This does not look like a batch script."
first = next(number for number, line in enumerate(lines) if line.strip() and not line.startswith("#"))
options = [line.split()[1:] for line in lines[:first] if line.startswith("#SBATCH ")]
head = parser.parse_args([word for words in options for word in words])
late = [line for line in lines[first:] if line.startswith("#SBATCH")]
assert not late, "options after the first command are ignored"
spool = pathlib.Path(tempfile.mkdtemp()) / "slurm_script"
shutil.copy(script, spool)
output = head.output.replace("%x", head.job_name).replace("%j", "1")
print("Submitted batch job 1", flush=True)
with open(output, "w") as file:
    job = {{**os.environ, "SLURM_JOB_ID": "1", "SLURM_SUBMIT_DIR": os.getcwd()}}
    sys.exit(subprocess.run(["bash", str(spool)], env=job, stdout=file, stderr=file).returncode)
"""
"""Reads the script's head as SLURM's sbatch does, runs a copy of it from a spool folder, and unlike sbatch
waits for its end.
"""


def put(path: Path, text: str) -> Path:
    """A program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def save_qwen(folder: Path, texts: list[str]) -> None:
    """A tiny Qwen2 with a tokenizer for these texts."""
    tokenizer = byte_bpe(texts)
    tokenizer.save_pretrained(folder)
    shape = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 16,
    }
    ids = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    Qwen2ForCausalLM(Qwen2Config(**shape, **ids)).save_pretrained(folder)
