"""A training step, a compression and the saving of a checkpoint, of this working tree over an earlier commit.

    python benchmarks/against.py REVISION [rounds]

The commit is checked out beside (git worktree), and each tree works in a process of its own, in turns: a
round runs every case once in both, and the figure is the median over rounds of the ratio, now / then. Steps
and compression are measured in processor time, saving in wall time (250 MB of weights and optimizer state,
brought to the disk). Each tree brings its own ``step.py`` and ``compress.py``.
"""

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
runpy.run_path(str(ROOT / "scripts" / "_reexec.py"))

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import torch

BAR = {"save": 1.2}
"""Largest ratio of a case; 1.03 where none is named."""
Case = Callable[[], float]


def processor_time(run: Callable[[], object]) -> Case:
    """Seconds of processor time of a call."""

    def measured() -> float:
        start = time.process_time()
        run()
        return time.process_time() - start

    return measured


def saving(folder: Path) -> Case:
    """Seconds until a checkpoint has its name: its files are written, hashed where this tree does, and on the
    disk.

    The median of three in a row, since the first one after a pause may wait for the disk.
    """
    from safetensors.torch import save_file

    from kvdistill.training.checkpoint import publish

    tensors = {f"layer{index}": torch.randn(1024, 1024) for index in range(20)}
    moments = {
        index: {"exp_avg": torch.randn(1024, 1024), "exp_avg_sq": torch.randn(1024, 1024)}
        for index in range(20)
    }

    def once() -> float:
        partial, final = folder / ".checkpoint-ep1.partial", folder / "checkpoint-ep1"
        partial.mkdir()
        start = time.perf_counter()
        save_file(tensors, partial / "model.safetensors")
        torch.save(moments, partial / "optimizer.pt")
        (partial / "trainer_state.json").write_text('{"global_step": 1}')
        publish(partial, final)
        seconds = time.perf_counter() - start
        shutil.rmtree(final)
        return seconds

    return lambda: statistics.median(once() for _ in range(3))


def worker(tree: Path, folder: Path) -> None:
    """Answer each case's name on a line of its own with the seconds that it took."""
    sys.path.insert(0, str(tree / "benchmarks"))
    import step

    import compress

    torch.set_num_threads(1)
    torch.manual_seed(0)
    cache = compress.cases_of(8192)
    cases = {
        f"step {kind}{' LoRA' * lora}": processor_time(step.kava(kind, lora, 5003))
        for kind in ("llama", "gpt2")
        for lora in (False, True)
    }
    cases |= {name: processor_time(cache[name]) for name in ("rkv", "rkv padded")} | {"save": saving(folder)}
    print(json.dumps(list(cases)), flush=True)
    for line in sys.stdin:
        print(cases[line.strip()](), flush=True)


class Tree:
    """A worker process on one tree."""

    def __init__(self, tree: Path, folder: Path) -> None:
        folder.mkdir()
        words = [
            sys.executable,
            "-W",
            "ignore",
            str(Path(__file__).resolve()),
            "--worker",
            str(tree),
            str(folder),
        ]
        environment = os.environ | {"PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.cases: list[str] = json.loads(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("A worker has ended; what it printed tells why.")
        return line

    def run(self, case: str) -> float:
        """Seconds of one case."""
        assert self.process.stdin is not None
        self.process.stdin.write(case + "\n")
        self.process.stdin.flush()
        return float(self._line())


def main(revision: str, rounds: int) -> None:
    """Measure, print the table, then the line of JSON."""
    with tempfile.TemporaryDirectory(dir=ROOT / "logs") as temporary:
        beside = Path(temporary)
        subprocess.run(
            [
                "git",
                "-C",
                str(ROOT),
                "worktree",
                "add",
                "--quiet",
                "--detach",
                str(beside / "tree"),
                revision,
            ],
            check=True,
        )
        try:
            now, then = Tree(ROOT, beside / "now"), Tree(beside / "tree", beside / "then")
            times = measure(now, then, rounds)
        finally:
            subprocess.run(
                ["git", "-C", str(ROOT), "worktree", "remove", "--force", str(beside / "tree")], check=True
            )
    results: dict[str, object] = {"revision": revision, "rounds": rounds}
    print(f"{'case':16}{'now ms':>10}{'then ms':>10}{'ratio':>8}{'bar':>7}")
    for case, pairs in times.items():
        ratio, bar = statistics.median(ours / theirs for ours, theirs in pairs), BAR.get(case, 1.03)
        ours, theirs = (1e3 * statistics.median(column) for column in zip(*pairs, strict=True))
        print(
            f"{case:16}{ours:>10.1f}{theirs:>10.1f}{ratio:>8.3f}{bar:>7.2f}  "
            f"{'met' if ratio <= bar else 'MISSED'}"
        )
        results[case] = round(ratio, 4)
    print(json.dumps(results))


def measure(now: Tree, then: Tree, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Case -> seconds of each round, now and then; the first two rounds warm up. Every other round begins
    with the other tree.
    """
    times: dict[str, list[tuple[float, float]]] = {case: [] for case in now.cases}
    for turn in range(rounds + 2):
        for case, pairs in times.items():
            if turn % 2:
                theirs, ours = then.run(case), now.run(case)
            else:
                ours, theirs = now.run(case), then.run(case)
            pairs += [(ours, theirs)] if turn >= 2 else []
    return times


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(Path(sys.argv[2]), Path(sys.argv[3]))
    elif len(sys.argv) < 2:
        raise SystemExit(__doc__)
    else:
        main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 11)
