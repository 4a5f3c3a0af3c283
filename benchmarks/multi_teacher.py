"""What several teachers add to a training step beyond their own forward passes, and how it grows with them.

    python benchmarks/multi_teacher.py [rounds]

The student of ``experiments/configs/chain_mixed.toml`` in batches of 64, with 1, 2 and 4 teachers of random
weights that read other tokens (two GPT-2, two Qwen3, byte pairs of four sizes), through the real loader: the
teachers' texts are tokenized and aligned in its worker. One thread, processor time of the training process.

``overhead_share``: step - step of self-distillation - forward passes of the teachers, as a share of the step;
the highest over the numbers of teachers. ``exponent_teachers``: growth of everything beyond the student's
step. ``worker_share``: time of a batch in the worker, as a share of the step that it has for it.
"""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "_reexec.py"))

import os

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import transformers
from _measure import growth_exponent, print_json

from kvdistill.config import RunConfig, load
from kvdistill.data import Chain
from kvdistill.data.bpe import ByteBPE, MetaspaceBPE
from kvdistill.data.encode import pad_id_of
from kvdistill.kv import TeacherCache, TwoModes
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.run.loading import collate_batch, training_data
from kvdistill.run.samples import Samples
from kvdistill.run.step import step_model
from kvdistill.run.student import build_student
from kvdistill.target.lower import LowerBridge
from kvdistill.teacher.base import Teacher
from kvdistill.text import Batch
from kvdistill.training.ranks import Ranks
from kvdistill.training.sampler import EpochLoader

CONFIG = Path(__file__).resolve().parents[1] / "experiments" / "configs" / "chain_mixed.toml"
WIDTH, WINDOW = 64, 192
ENCODINGS = (ByteBPE(vocab=322), MetaspaceBPE(vocab=152), ByteBPE(vocab=290), MetaspaceBPE(vocab=130))
GROUPS = {1: ((0,), (1,), (2,), (3,)), 2: ((0, 1), (2, 3)), 4: ((0, 1, 2, 3),)}
"""Teachers of each case, by number: every number is a mean over the same four teachers."""
BAR_OVERHEAD, BAR_EXPONENT = 0.10, 1.1
WARM_UP = 3
Times = dict[str, float]


class TimedTeacher:
    """A teacher that counts the processor time of its forward passes."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher, self.seconds = teacher, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.teacher, name)

    def cache(self, batch: Batch, outputs: TwoModes) -> TeacherCache:
        """The teacher's cache."""
        start = time.process_time()
        found = self.teacher.cache(batch, outputs)
        self.seconds += time.process_time() - start
        return found


def save_teachers(folder: Path) -> list[Path]:
    """Teachers with random weights: GPT-2 and Qwen3 in turn, each with an encoding of its own."""
    words = [*Chain(names=8, steps=(1, 4), trace="verbose", filler="repeated", pad=True).words(), "answer"]
    folders = []
    for number, encoding in enumerate(ENCODINGS):
        tokenizer = encoding.train(words)
        torch.manual_seed(number)
        config: Any = transformers.GPT2Config(
            vocab_size=len(tokenizer), n_embd=WIDTH, n_layer=3, n_head=4, n_positions=WINDOW
        )
        if number % 2:
            config = transformers.Qwen3Config(
                vocab_size=len(tokenizer),
                hidden_size=WIDTH,
                num_hidden_layers=3,
                num_attention_heads=4,
                num_key_value_heads=2,
                head_dim=24,
                intermediate_size=4 * WIDTH,
                max_position_embeddings=WINDOW,
            )
        folders.append(folder / f"teacher{number}")
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folders[-1])
        tokenizer.save_pretrained(folders[-1])
    return folders


def configure(folder: Path, teachers: list[Path], samples: int) -> RunConfig:
    """The run's configuration; without teachers it is self-distillation."""
    options = ["--training.output_dir", str(folder / "run"), "--data.train.num", str(samples)]
    options += ["--loss.kv_weight", "1.0"]
    for path in teachers:
        options += [f"--teachers.{path.name}.kind", "live", f"--teachers.{path.name}.name", str(path)]
    return load(CONFIG, options)


class Case:
    """A training run of one number of teachers, step by step."""

    def __init__(self, config: RunConfig, folder: Path) -> None:
        torch.manual_seed(0)
        student: LatentReasoner = build_student(config)
        student.start_feedback()
        self.step = step_model(config, student).train()
        if isinstance(self.step.bridge, LowerBridge):
            # Fitted maps cost what these cost; maps of 0 would make an infinite loss.
            for parameter in self.step.bridge.aligners.parameters():
                torch.nn.init.normal_(parameter, std=WIDTH**-0.5)
        self.teachers = [TimedTeacher(teacher) for teacher in self.step.teachers]
        self.step.teachers = tuple(self.teachers)
        trained = [parameter for parameter in self.step.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4)
        samples = Samples(config.data, student, folder, False, first=False)
        data, batches = training_data(config, samples, Ranks())
        self.collate: Callable[[Any], Any] = partial(
            collate_batch, pad_id=pad_id_of(student.tokenizer), readers=self.step.readers
        )
        self.data, self.batches = data, batches
        loader = EpochLoader(data, batch_sampler=batches, collate_fn=self.collate, num_workers=1)
        self.loaded = iter(loader)
        self.number = 0

    def run(self) -> tuple[float, float]:
        """One step: seconds of all, and of the teachers' forward passes."""
        for teacher in self.teachers:
            teacher.seconds = 0.0
        start = time.process_time()
        batch = next(self.loaded)["batch"]
        self.optimizer.zero_grad()
        self.step(batch=batch, step=self.number, progress=1.0).loss.backward()
        self.optimizer.step()
        self.number += 1
        return time.process_time() - start, sum(teacher.seconds for teacher in self.teachers)

    def worker_seconds(self, repeats: int = 5) -> float:
        """Median time that the loader's worker takes for a batch."""
        samples = [self.data[index] for index in next(iter(self.batches))]
        times = []
        for _ in range(repeats):
            start = time.process_time()
            self.collate(samples)
            times.append(time.process_time() - start)
        return statistics.median(times)


def measure(cases: dict[str, Case], rounds: int) -> dict[str, Times]:
    """Medians over rounds that run every case once: the step, forwards, and what is left."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in cases}
    for turn in range(WARM_UP + rounds):
        own = 0.0
        for name, case in cases.items():
            whole, forwards = case.run()
            if name == "own":
                own = whole
            left = whole - own - forwards
            values = {"step": whole, "forwards": forwards, "teachers": whole - own, "share": left / whole}
            if turn >= WARM_UP:
                for key, value in values.items():
                    found[name].setdefault(key, []).append(value)
    return {
        name: {key: statistics.median(values) for key, values in times.items()}
        for name, times in found.items()
    }


def main(rounds: int) -> None:
    """Measure every number of teachers, print a table and a line of JSON."""
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = save_teachers(folder)
        samples = 64 * (WARM_UP + rounds + 1)
        cases = {"own": Case(configure(folder, [], samples), folder)}
        for groups in GROUPS.values():
            for group in groups:
                config = configure(folder, [paths[index] for index in group], samples)
                cases["+".join(map(str, group))] = Case(config, folder)
        times = measure(cases, rounds)
        worker = {key: case.worker_seconds() for key, case in cases.items()}
    print(f"1 thread, processor time, median of {rounds} rounds, milliseconds a step of 64 samples")
    print(f"{'teachers':>10}{'step':>9}{'forwards':>10}{'overhead':>10}{'worker':>9}")
    rows: dict[int, Times] = {}
    for number, groups in GROUPS.items():
        each = [times["+".join(map(str, group))] for group in groups]
        rows[number] = {key: statistics.fmean(row[key] for row in each) for key in each[0]}
        rows[number]["worker"] = statistics.fmean(worker["+".join(map(str, group))] for group in groups)
    for number, row in ({0: times["own"] | {"worker": worker["own"]}} | rows).items():
        print(
            f"{number:>10}{row['step'] * 1e3:>9.1f}{row['forwards'] * 1e3:>10.1f}{row['share']:>10.1%}"
            f"{row['worker'] * 1e3:>9.1f}"
        )
    overhead = max(row["share"] for row in rows.values())
    exponent = growth_exponent(list(rows), [row["teachers"] for row in rows.values()])
    met = overhead <= BAR_OVERHEAD and exponent <= BAR_EXPONENT
    print(
        f"bars: overhead {overhead:.3f} <= {BAR_OVERHEAD}, growth exponent {exponent:.2f} <= {BAR_EXPONENT}: "
        f"{'met' if met else 'MISSED'}"
    )
    print_json(
        {
            "overhead_share": overhead,
            "exponent_teachers": exponent,
            "worker_share": max(row["worker"] / row["step"] for row in rows.values()),
            **{f"overhead_share_{number}": row["share"] for number, row in rows.items()},
            "bars_met": met,
        }
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 11)
