"""Damage a checkpoint in every way, then resume training from it and load the model: is it refused, harmless,
or silent?

    python benchmarks/damage.py [--only TEXT] [--flips 4] [--seed 0]

A run of six steps on the embedded task is copied as it was after its fourth step, once for each damage (of
its weights and adapters alike). ``refused``: an error message of a sentence or two that names the folder.
``harmless``: training ends with the same bytes in every file of the last checkpoint as the run that nothing
happened to, and the model that is loaded is the same. ``silent``: training or loading goes through with
something else. ``tracebacks``: any other error, or no end within a minute. ``unnoticed`` lists what should
have been refused, since it changes a byte that is read, and was harmless. The last line is JSON; 0
tracebacks, 0 silent and nothing unnoticed are the bar, and the exit code says whether it is reached.
"""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "_reexec.py"))

import argparse
import contextlib
import hashlib
import io
import json
import random
import shutil
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from _damages import Damage, Place, of_bytes, of_files, of_weights, older_files
from _edits import edits, of_earlier_versions, of_others, of_the_run

from kvdistill.cli import _quiet
from kvdistill.config import RunConfig, parse
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.run.folder import COMPLETED
from kvdistill.run.train import train

SECONDS = 60
"""A damage that takes longer hangs."""
CHAIN = {"kind": "chain", "names": 5, "steps": 2, "trace": "verbose"}
SHAPE = {
    "model_type": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}
TRAINING = {
    "batch_size": 8,
    "gradient_accumulation_steps": 1,
    "epochs": 2,
    "lr": 1e-3,
    "save_steps": 2,
    "logging_steps": 1,
}
LAST, NEWEST, OLDER = "checkpoint-ep2", "checkpoint-ep2-step4", "checkpoint-ep1"
RESULT = (
    "model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "carried.safetensors",
    "config.json",
    "tokenizer.json",
)


class Subject(NamedTuple):
    """A run that was interrupted, and what it and its newest checkpoint come to where nothing happens to
    them.
    """

    folder: Path
    model: dict[str, Any]
    trained: str
    loaded: str


def configuration(model: dict[str, Any], folder: Path, resume: bool = False) -> RunConfig:
    """A run of six steps, two epochs, checkpoints after steps 2, 3, 4 and 6."""
    quiet = {"progress": False, "tensorboard": False, "resume": resume, "output_dir": str(folder)}
    data = {"train": {"kind": "synthetic", "num": 24, "task": CHAIN}}
    latent = {"slots": 2, "passes": 1, "delimiters": "both"}
    return parse(
        {
            "model": model,
            "data": data,
            "latent": latent,
            "training": TRAINING | quiet,
            "evaluation": {"modes": []},
        },
        "damage.py",
    )


def trained(model: dict[str, Any], folder: Path, resume: bool = True) -> str:
    """Train, and hash the last checkpoint."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        train(configuration(model, folder, resume))
    found = hashlib.blake2b()
    for name in RESULT:
        found.update((folder / LAST / name).read_bytes())
    return found.hexdigest()


def loaded(checkpoint: Path) -> str:
    """Load the model, and hash what it is."""
    model = LatentReasoner.from_pretrained(checkpoint)
    found = hashlib.blake2b()
    for name, value in model.state_dict().items():
        found.update(name.encode() + value.contiguous().numpy().tobytes())
    settings = model.config.to_dict()
    vocabulary = None if model.tokenizer is None else model.tokenizer.get_vocab()
    found.update(
        json.dumps([settings, vocabulary], sort_keys=True, default=str).replace(str(checkpoint), "").encode()
    )
    return found.hexdigest()


def subject(folder: Path, model: dict[str, Any]) -> Subject:
    """Train, and keep the run as it was after step 4."""
    run = folder / "run"
    result = trained(model, run)
    for name in (COMPLETED, "report.html", "report.md", "figures"):
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    shutil.rmtree(run / LAST)
    return Subject(run, model, result, loaded(run / NEWEST))


def adapters(folder: Path) -> dict[str, Any]:
    """A model section that trains adapters on a base model, which is made here."""
    start = subject(folder / "base run", {"config": SHAPE, "tuning": {"kind": "full"}})
    student = LatentReasoner.from_pretrained(start.folder / NEWEST)
    assert student.tokenizer is not None
    student.backbone.config._attn_implementation = "sdpa"
    student.backbone.save_pretrained(folder / "base")
    student.tokenizer.save_pretrained(folder / "base")
    return {"name": str(folder / "base"), "tuning": {"kind": "lora", "r": 2, "alpha": 4}}


def damages(files: list[str], flips: int) -> Iterator[Damage]:
    """All of them."""
    for name in files:
        yield from of_bytes(name, flips)
        yield from of_files(name)
    yield from older_files(
        [name for name in files if name not in ("config.json", "tokenizer.json", "tokenizer_config.json")]
    )
    yield from of_weights()
    yield from edits()
    yield from of_others()
    yield from of_the_run()
    yield from of_earlier_versions()


def judged(work: Callable[[], str], expected: str, folder: Path) -> tuple[str, str]:
    """What came of it, and what was said."""

    def hangs(*_: object) -> None:
        raise TimeoutError("no end within a minute")

    signal.signal(signal.SIGALRM, hangs)
    signal.alarm(SECONDS)
    try:
        found = work()
    except TimeoutError as error:
        return "tracebacks", str(error)
    except (
        ValueError,
        OSError,
        FloatingPointError,
    ) as error:  # the errors that the command line prints as a sentence
        clear = str(folder) in str(error) and len(str(error).splitlines()) == 1
        return ("refused" if clear else "tracebacks"), str(error)
    except Exception:
        return "tracebacks", traceback.format_exc()
    finally:
        signal.alarm(0)
    return ("harmless" if found == expected else "silent"), ""


def tried(
    subject: Subject, damage: Damage, chance: random.Random, folder: Path
) -> Iterator[tuple[str, str, str]]:
    """The outcomes of one damage: name, outcome, message."""
    ways: dict[str, Callable[[Path], str]] = {"resume": lambda run: trained(subject.model, run)}
    if damage.loads:
        ways = {"load": lambda run: loaded(run / NEWEST), **ways}
    run = folder / "run"
    shutil.copytree(subject.folder, run)
    before = hashes(run)
    damage.apply(Place(run, run / NEWEST, run / OLDER), chance)
    try:
        if hashes(run) == before:
            return
        for way, work in ways.items():
            expected = subject.trained if way == "resume" else subject.loaded
            outcome, message = judged(lambda work=work: work(run), expected, run)
            if any(run.rglob("code_was_run")):
                outcome = "silent"
            yield f"{way}: {damage.name}", outcome, message.replace(str(run), "RUN")
    finally:
        shutil.rmtree(run)


def hashes(run: Path) -> dict[str, Any]:
    """What is where, so that a damage that changed nothing is not counted."""
    paths = [path for path in run.rglob("*") if not path.is_dir()]
    return {str(path): path.read_bytes() if path.is_file() else path.lstat().st_mode for path in paths} | {
        str(path): None for path in run.rglob("*") if path.is_dir()
    }


def main(words: list[str] | None = None) -> int:
    """Run, print a line for each damage and the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="only the damages whose name holds this text")
    parser.add_argument("--flips", type=int, default=4, help="single bits to flip in each file (default: 4)")
    parser.add_argument("--seed", type=int, default=0)
    known = parser.parse_args(words)
    _quiet()
    counts, wrong = Counter(), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds = {"full": {"config": SHAPE, "tuning": {"kind": "full"}}, "lora": adapters(folder)}
        for kind, model in kinds.items():
            made = subject(folder / kind, model)
            files = sorted(path.name for path in (made.folder / NEWEST).iterdir())
            for damage in damages(files, known.flips if kind == "full" else 1):
                if known.only not in damage.name:
                    continue
                chance = random.Random(f"{known.seed} {kind} {damage.name}")
                for what, outcome, message in tried(made, damage, chance, folder):
                    unread = what.startswith(
                        "load: contents.json"
                    )  # name and step, which only resuming compares
                    missed = damage.read and outcome == "harmless" and not unread
                    counts[outcome] += 1
                    print(
                        f"{'UNNOTICED' if missed else outcome:>10}  {kind}, {what}  {message}"[:600],
                        flush=True,
                    )
                    if missed or outcome in ("silent", "tracebacks"):
                        wrong.append(f"{kind}, {what}")
    results = {"tried": counts.total()} | {
        name: counts[name] for name in ("refused", "harmless", "tracebacks", "silent")
    }
    results["unnoticed"] = len(wrong) - counts["silent"] - counts["tracebacks"]
    print(json.dumps(results))
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
