"""Does this working tree train bit for bit as an earlier commit does?

    python benchmarks/identical.py REVISION [--only demo|e1_e5|teacher|resume|load]

The commit is checked out beside (git worktree). Both trees run the same commands, each in a process of its
own with one thread, through the scripts and the command line only: modules have other names in other commits.

* ``demo``: ``kvdistill demo`` with one percent of its steps
* ``e1_e5``: the warm start and E1 to E5 from their shipped configurations, six steps each
* ``teacher``: a separate teacher of another depth and width
* ``resume``: a run of this tree, killed with SIGKILL and resumed, beside an undisturbed one of the commit
* ``load``: unfinished runs of the commit, resumed by both, and its checkpoints, evaluated by both

Compared are metrics by step (without times), every tensor of weights and optimizer in every checkpoint,
random number generators, and evaluations. The last line is JSON; the exit code is 1 where something differs.
"""

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
runpy.run_path(str(ROOT / "scripts" / "_reexec.py"))

import argparse
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
import transformers as tf
from _comparison import Comparison, compare_records, compare_runs
from _trees import RunError, Tree, together
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

tf.utils.logging.disable_progress_bar()
SHARE = "0.01"
QUIET = {"training.progress": "false", "training.tensorboard": "false"}
FEW = QUIET | {
    "data.train.num": 512,
    "evaluation.num": 32,
    "evaluation.during_training": 32,
    "max_steps": 6,
    "logging_steps": 1,
    "eval_steps": 6,
    "seed": 3,
}
"""Options of an experiment that is over soon."""
EXPERIMENTS = {
    "e1_baseline": ("--kv_weight", "0"),
    "e2_full": ("--kv_method", "full", "--kv_weight", "auto"),
    "e3_right_crop": ("--kv_method", "right_crop", "--kv_weight", "auto"),
    "e4_rkv": ("--kv_method", "rkv", "--kv_weight", "auto"),
    "e5_shuffled": ("--kv_method", "rkv", "--kv_weight", "auto", "--shuffle_kv"),
}
"""As scripts/run_all_experiments.sh gives them, by configuration."""
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
}
LARGER = SMALL | {
    "hidden_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
}


@dataclass(frozen=True)
class Inputs:
    """Files that both trees read."""

    student: Path
    teacher: Path
    train: Path
    test: Path

    def flags(self, *more: str) -> list[str]:
        """Options of a run of 16 steps on the files, with a checkpoint every four."""
        files = {"model_name": self.student, "train_file": self.train, "test_file": self.test}
        values = {
            "epochs": 2,
            "batch_size": 4,
            "gradient_accumulation_steps": 2,
            "lr": 1e-3,
            "target_len": 3,
            "num_iterations": 2,
            "kv_weight": "auto",
            "lora_r": 0,
            "logging_steps": 1,
            "save_steps": 4,
            "seed": 1,
            "evaluation.modes": '["latent"]',
            "evaluation.max_new_tokens": 8,
        }
        return [*options(files | values | QUIET), *more]

    @property
    def teacher_flags(self) -> list[str]:
        """The same with the separate teacher."""
        return self.flags("--teacher_name", str(self.teacher))


def options(values: Mapping[str, object]) -> list[str]:
    """Options of a command line."""
    return [word for name, value in values.items() for word in (f"--{name}", str(value))]


def make_inputs(folder: Path) -> Inputs:
    """A student and a larger teacher with one tokenizer and random weights, and the sample data."""
    lines = (ROOT / "data" / "sample_train.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [text for line in lines for text in json.loads(line).values()]
    words = dict.fromkeys(word for text in texts for word in text.split())
    special = ("<pad>", "</s>", "<unk>")
    backend = Tokenizer(
        WordLevel({word: index for index, word in enumerate((*special, *words))}, unk_token="<unk>")
    )
    backend.pre_tokenizer = WhitespaceSplit()
    tokenizer = tf.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    ids = {"vocab_size": len(tokenizer), "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    for name, shape in (("student", SMALL), ("teacher", LARGER)):
        torch.manual_seed(0)
        tf.LlamaForCausalLM(tf.LlamaConfig(**shape, **ids)).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "test.jsonl").write_text("\n".join(lines[:8]) + "\n", encoding="utf-8")
    return Inputs(folder / "student", folder / "teacher", folder / "train.jsonl", folder / "test.jsonl")


def demo(now: Tree, then: Tree, inputs: Inputs) -> Iterator[Comparison]:
    """Every stage of the demo, its evaluations, curves and probes."""
    words = ("-m", "kvdistill", "demo", "--share", SHARE, "--output", "demo")
    together(partial(now.run, *words), partial(then.run, *words))
    stages = sorted(path.parent.name for path in (then.work / "demo").glob("*/metrics.jsonl"))
    for stage in stages:
        yield from compare_runs(f"demo, {stage}", now.work / "demo" / stage, then.work / "demo" / stage)
    yield from compare_records("demo", now.work / "demo", then.work / "demo")


def e1_e5(now: Tree, then: Tree, inputs: Inputs) -> Iterator[Comparison]:
    """The shipped experiments with few steps and questions, from a warm start."""
    together(partial(train_experiments, now), partial(train_experiments, then))
    for name in ("e0_warm", *EXPERIMENTS):
        yield from compare_runs(name, now.work / name, then.work / name)


def train_experiments(tree: Tree) -> None:
    """The warm start and what begins from it."""
    configs = tree.code / "experiments" / "configs"
    tree.train("e0_warm", options(FEW | {"config": configs / "e0_warm.toml", "evaluation.modes": '["cot"]'}))
    (start,) = (tree.work / "e0_warm").glob("checkpoint-*")
    shared = FEW | {"model_name": start.relative_to(tree.work), "evaluation.modes": '["latent"]'}
    for name, own in EXPERIMENTS.items():
        tree.train(name, [*options(shared | {"config": configs / f"{name}.toml"}), *own])


def teacher(now: Tree, then: Tree, inputs: Inputs) -> Iterator[Comparison]:
    """A student that learns from a separate model."""
    flags = inputs.teacher_flags
    together(partial(now.train, "teacher", flags), partial(then.train, "teacher", flags))
    yield from compare_runs("teacher", now.work / "teacher", then.work / "teacher")


def resume(now: Tree, then: Tree, inputs: Inputs) -> Iterator[Comparison]:
    """A run that is killed and resumed ends as an undisturbed one."""
    flags = inputs.flags()

    def killed() -> None:
        now.train_until_killed("resume", flags)
        now.train("resume", [*flags, "--resume"])

    together(killed, partial(then.train, "resume", flags))
    yield from compare_runs("resume", now.work / "resume", then.work / "resume")


def load(now: Tree, then: Tree, inputs: Inputs) -> Iterator[Comparison]:
    """What the commit wrote is read as the commit reads it: unfinished runs and checkpoints."""
    kinds = {"load_lora": inputs.flags("--lora_r", "4"), "load_teacher": inputs.teacher_flags}
    together(*(partial(then.train_until_killed, name, flags) for name, flags in kinds.items()))
    for name, flags in kinds.items():
        shutil.copytree(then.work / name, now.work / name)
        resumed = [*flags, "--resume"]
        together(partial(now.train, name, resumed), partial(then.train, name, resumed))
        yield from compare_runs(name, now.work / name, then.work / name)
        yield from compare_evaluations(name, now, then, inputs.test)


def compare_evaluations(name: str, now: Tree, then: Tree, data: Path) -> Iterator[Comparison]:
    """Evaluate the last checkpoint of the commit's run in both trees."""
    last = max((then.work / name).glob("checkpoint-*"), key=lambda path: path.stat().st_mtime)
    words = ["-m", "kvdistill", "evaluate", "--checkpoint", str(last), "--data", str(data)]
    words += ["--modes", "latent,cot", "--max-new-tokens", "8", "--output", f"{name}_evaluated"]
    together(partial(now.run, *words), partial(then.run, *words))
    yield from compare_records(
        f"{name}, evaluate", now.work / f"{name}_evaluated", then.work / f"{name}_evaluated"
    )


Case = Callable[[Tree, Tree, Inputs], Iterator[Comparison]]
CASES: dict[str, Case] = {
    "demo": demo,
    "e1_e5": e1_e5,
    "teacher": teacher,
    "resume": resume,
    "load": load,
}


def compare_case(case: Case, now: Tree, then: Tree, inputs: Inputs) -> Iterator[Comparison]:
    """The comparisons of a case; a command that fails is a difference."""
    try:
        yield from case(now, then, inputs)
    except RunError as error:
        yield Comparison(case.__name__, False, str(error))


def report(comparisons: Iterable[Comparison]) -> int:
    """Print a line for each, then the counts; 1 where something differs or nothing was compared."""
    compared = equal = 0
    for found in comparisons:
        compared += 1
        equal += found.equal
        print(f"{'equal' if found.equal else 'DIFFERENT':>9}  {found.name}: {found.note}", flush=True)
    print(json.dumps({"compared": compared, "equal": equal, "different": compared - equal}))
    return int(not compared or equal < compared)


def main(words: list[str] | None = None) -> int:
    """Check the commit out, run and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("revision", help="the commit to compare with")
    parser.add_argument("--only", choices=CASES, help="only this case")
    known = parser.parse_args(words)
    cases = [CASES[known.only]] if known.only else list(CASES.values())
    git = ["git", "-C", str(ROOT), "worktree"]
    with tempfile.TemporaryDirectory(dir=ROOT / "logs") as temporary:
        beside = Path(temporary)
        subprocess.run([*git, "add", "--quiet", "--detach", str(beside / "tree"), known.revision], check=True)
        try:
            now, then = Tree(ROOT, beside / "now"), Tree(beside / "tree", beside / "then")
            for tree in (now, then):
                tree.work.mkdir()
                if not tree.package().is_relative_to(tree.code):
                    raise SystemExit(f"Processes import {tree.package()}, which is not in {tree.code}.")
            inputs = make_inputs(beside)
            return report(found for case in cases for found in compare_case(case, now, then, inputs))
        finally:
            subprocess.run([*git, "remove", "--force", str(beside / "tree")], check=True)


if __name__ == "__main__":
    raise SystemExit(main())
