"""What becomes of bad files, options and folders: some 200 command lines, each of which is refused with a
sentence or accepted as meant.

    python benchmarks/bad_inputs.py [cases, drawn at random; default: all] [seed]

Commands run in this process, those with large inputs in one of their own with at most 8 GB of memory. After
each, every input and the run of an earlier day have to be what they were. The last line is JSON: ``refused``
(exit code 2 and a sentence), ``harmless`` (accepted as meant), ``tracebacks``, ``silent`` (accepted though
wrong), ``unclear`` (a sentence with control characters, a bare error number or more than 2000 characters),
``strict`` (refused though right), ``aborts`` (ended by a signal or after 120 s), ``lost`` (an input changed).
"""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "_reexec.py"))

import contextlib
import io
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from hashlib import blake2b

from _bad_cases import MANY, Case, cases, write_inputs
from _measure import print_json
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from kvdistill import cli
from kvdistill.console.messages import printable
from kvdistill.training.checkpoint import newest_checkpoint

MEMORY = 8 * 2**30
HUGE = 100 * 2**20
ROOT = Path(__file__).resolve().parents[1]
BASE = """
[model]
tokenizer = "{folder}/tokenizer"
tuning.kind = "full"
[model.config]
model_type = "llama"
hidden_size = 32
num_hidden_layers = 2
num_attention_heads = 2
intermediate_size = 48
max_position_embeddings = 256
[data]
max_length = 200
train = {{kind = "file", path = "{folder}/plain.jsonl"}}
[latent]
slots = 4
passes = 2
[training]
output_dir = "{folder}/nowhere"
max_steps = 1
batch_size = 4
gradient_accumulation_steps = 1
progress = false
tensorboard = false
[evaluation]
modes = []
"""


def run(words: list[str]) -> tuple[int | None, str]:
    """Exit code and error output of a command in this process; None where it ends with a traceback."""
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        try:
            return _called(words), errors.getvalue()
        except SystemExit as end:
            return (0 if end.code is None else int(end.code)), errors.getvalue()
        except Exception:
            return None, errors.getvalue() + traceback.format_exc()


def _called(words: list[str]) -> int:
    command, *rest = words
    before = sys.argv
    try:
        if command == "train":
            sys.argv = ["train_with_kv.py", *rest]
            return cli.train_from_flags("train_with_kv.py", "")
        if command == "analyze":
            sys.argv = ["analyze_results.py", *rest]
            runpy.run_path(str(ROOT / "scripts" / "analyze_results.py"), run_name="__main__")
        return cli.main(words)
    finally:
        sys.argv = before


def run_apart(words: list[str]) -> tuple[int | None, str, int]:
    """The same in a process of its own with limited memory, and the largest resident memory in bytes."""
    line = [sys.executable, str(ROOT / "experiments" / "train_with_kv.py"), *words[1:]]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    done = subprocess.run(
        line,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
    )
    code = None if "Traceback (most recent call last)" in done.stderr else done.returncode
    return code, done.stderr, max(before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) * 1024


def verdict(case: Case, code: int | None, told: str) -> str:
    """What became of a case."""
    sentence = told.strip().splitlines()[-1] if told.strip() else ""
    if code is None or "Traceback (most recent call last)" in told:
        return "tracebacks"
    if code not in (0, 2):
        return "aborts"
    if code == 0:
        return "silent" if case.expected == "refuse" else "harmless"
    if case.expected == "accept":
        return "strict"
    steers = any(not letter.isprintable() and letter not in "\n\t\r" for letter in told)
    unclear = not sentence or steers or len(told) > 2000 or "[Errno" in told or "errors.pydantic.dev" in told
    return "unclear" if unclear else "refused"


def digest(folder: Path) -> str:
    """A hash of all files in a folder: of their contents, for large ones of size and time."""
    seen = blake2b(digest_size=16)
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            seen.update(str(path).encode())
            continue
        stat = path.stat()
        large = stat.st_size > 2**20
        seen.update(
            repr((str(path), stat.st_size, stat.st_mtime_ns if large else path.read_bytes())).encode()
        )
    return seen.hexdigest()


def prepare(folder: Path, seed: int) -> None:
    """Inputs, a tokenizer, and two runs of an earlier day, one of which may be reported on again."""
    write_inputs(folder, seed)
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<pad>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([MANY], trainer)
    PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>").save_pretrained(
        folder / "tokenizer"
    )
    text = BASE.format(folder=folder)
    (folder / "base.toml").write_text(text)
    (folder / "marked.toml").write_text(text, encoding="utf-8-sig")
    for name in ("earlier", "reported"):
        code, told = run(["train", "--config", f"{folder}/base.toml", "--output_dir", f"{folder}/{name}"])
        if code != 0:
            raise RuntimeError(f"The run that the cases need was not made: {told}")


def tried(case: Case, inputs: Path, out: Path) -> tuple[int | None, str]:
    """Run a case with the files that only it needs."""
    places = {"{in}": inputs, "{out}": out, "{student}": newest_checkpoint(inputs / "earlier")}
    words = list(case.words)
    for placeholder, place in places.items():
        words = [word.replace(placeholder, str(place)) for word in words]
    if case.words[0] == "train" and "--output_dir" not in words:
        words += ["--output_dir", str(out)]
    pipe = inputs / "pipe"
    if str(pipe) in words:
        os.mkfifo(pipe)
        threading.Thread(target=pipe.write_text, args=(MANY,), daemon=True).start()
    if not case.apart:
        found = run(words)
        pipe.unlink(missing_ok=True)
        return found
    huge = inputs / "huge.jsonl"
    huge.write_text(MANY + MANY.splitlines()[0].replace("Ann", "Ann " * (HUGE // 4)) + "\n")
    code, told, memory = run_apart(words)
    huge.unlink()
    print(f"  {case.name}: {HUGE // 2**20} MiB, {memory / 2**20:.0f} MiB resident at most")
    return code, told


def main() -> None:
    """Try the cases and print what became of them."""
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    chosen = cases()
    if len(sys.argv) > 1 and int(sys.argv[1]) < len(chosen):
        chosen = random.Random(seed).sample([case for case in chosen if not case.apart], int(sys.argv[1]))
    counts: Counter[str] = Counter()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kvdistill-bad-inputs-") as name:
        inputs, out = Path(name) / "in", Path(name) / "out"
        inputs.mkdir()
        prepare(inputs, seed)
        for number, case in enumerate(chosen):
            reported = "reported" in " ".join(case.words)  # whose report is meant to be written again
            before = digest(inputs)
            code, told = tried(case, inputs, out / str(number))
            kind = verdict(case, code, told)
            kind = "lost" if digest(inputs) != before and not reported else kind
            counts[kind] += 1
            last = (
                told.strip().splitlines()[-1].replace(name, "TMP").replace(str(Path.cwd()), "HERE")[:150]
                if told.strip()
                else ""
            )
            line = f"{kind:10} {case.name[:60]:60} {last if kind != 'harmless' else ''}"
            print(printable(line.rstrip()), flush=True)
            if kind not in ("refused", "harmless"):
                print(told[-3000:])
    kinds = ("refused", "harmless", "tracebacks", "silent", "unclear", "strict", "aborts", "lost")
    print_json(
        {
            "tried": len(chosen),
            **{kind: counts[kind] for kind in kinds},
            "seconds": round(time.monotonic() - start),
        }
    )


if __name__ == "__main__":
    main()
