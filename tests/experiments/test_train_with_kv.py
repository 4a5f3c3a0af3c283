"""The script as a user runs it: what it leaves, what kills do to it, and several processes as one."""

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf

import pico_process
from conftest import chosen_repeats, sampled
from kvdistill.config import RunConfig, from_flags
from kvdistill.data import Chain, word_tokenizer, write_jsonl
from kvdistill.latent.reasoner import LatentReasoner, add_latent_tokens
from kvdistill.records.schema import RunRecord
from kvdistill.run.train import train
from kvdistill.training.checkpoint import checkpoints, load_extra_state, newest_checkpoint
from pico_compare import curves, weights
from pico_training import distance

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "train_with_kv.py"
TASK = Chain(names=5, steps=2, trace="verbose")
KILLS = {"small": 4, "large": 20}[chosen_repeats()]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A small model with its tokenizer, and data files, in a folder whose name holds a space."""
    folder = tmp_path_factory.mktemp("given files")
    tokenizer = word_tokenizer([*TASK.words(), "The", "answer", "is:"])
    add_latent_tokens(tokenizer)
    shape = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 128,
    }
    own = {"vocab_size": len(tokenizer), "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    torch.manual_seed(0)
    tf.AutoModelForCausalLM.from_config(tf.LlamaConfig(**shape, **own)).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    files = {}
    for name, num in (("train", 30), ("validation", 4), ("test", 5)):
        write_jsonl(TASK.make(num, name, 0), folder / f"{name}.jsonl")  # pyright: ignore[reportArgumentType]
        files[f"{name}_file"] = str(folder / f"{name}.jsonl")
    return {"model_name": str(folder / "base"), **files}


def flags(given: dict[str, str], output: Path, *more: str) -> list[str]:
    """A short run: 30 samples, batches of 2, two to a step, logs that span checkpoints."""
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    words += [
        "--output_dir",
        str(output),
        "--epochs",
        "2",
        "--batch_size",
        "2",
        "--gradient_accumulation_steps",
        "2",
        "--lr",
        "1e-3",
    ]
    words += [
        "--target_len",
        "2",
        "--num_iterations",
        "1",
        "--logging_steps",
        "3",
        "--save_steps",
        "2",
        "--eval_steps",
        "5",
        "--lora_r",
        "0",
    ]
    words += [
        "--training.progress",
        "false",
        "--training.tensorboard",
        "false",
        "--evaluation.max_new_tokens",
        "4",
    ]
    return [*words, "--evaluation.modes", '["latent"]', *more]


def config(given: dict[str, str], output: Path, *more: str) -> RunConfig:
    return from_flags(flags(given, output, *more), "train_with_kv.py", "")


STREAM = ("--streaming", "--subset_size", "30")
VARIANTS = {
    "LoRA, streamed": (*STREAM, "--lora_r", "4"),
    "auto weight, mean target": ("--kv_weight", "auto", "--target.control.kind", "mean_target"),
    "full": (),
    "LoRA": ("--lora_r", "4"),
    "full, streamed": STREAM,
}


@pytest.mark.parametrize("name", sampled(VARIANTS, 2))
def test_a_run_that_is_killed_again_and_again_ends_as_if_nothing_had_happened(
    name: str, given: dict[str, str], tmp_path: Path
) -> None:
    """kill -9 at chosen calls: between steps, inside the writing of a checkpoint, of the log, of the closing
    files.
    """
    whole, parts = tmp_path / "whole", tmp_path / "parts"

    def run(output: Path) -> Callable[[], object]:
        return lambda: train(config(given, output, *VARIANTS[name], "--resume"))

    events = pico_process.events_of(run(whole), tmp_path / "events")
    draw = random.Random(name)
    places = ("save_extra_state", "publish")
    writing = [index for index, event in enumerate(events) if any(place in event for place in places)]
    kills = [draw.choice(writing), *(draw.randrange(len(events)) for _ in range(KILLS - 1))]
    for kill in kills:
        assert pico_process.killed_at(run(parts), kill) in (0, -9)
    assert pico_process.wait(pico_process.forked(run(parts))) == 0
    assert curves(parts) == curves(whole), f"killed at {[events[kill] for kill in kills]}"
    assert distance(weights(parts), weights(whole)) == 0
    kept = [[path.name for path in checkpoints(folder)] for folder in (whole, parts)]
    assert kept[0] == kept[1]
    assert not list(parts.glob(".checkpoint-*")), "nothing half-written is left"
    assert [(folder / "TRAINING_COMPLETED.txt").is_file() for folder in (whole, parts)] == [True, True]
    words = [(folder / "training_log.txt").read_text().splitlines()[:-1] for folder in (whole, parts)]
    assert words[0] == words[1]


TWICE = {
    "separate teacher": (),
    "map-style": (),
    "streamed": STREAM,
    "cot": ("--training.task", "cot"),
}


@pytest.mark.parametrize("name", sampled(TWICE))
def test_two_processes_equal_one_with_twice_the_batch(
    name: str, given: dict[str, str], tmp_path: Path
) -> None:
    """Full batches and rests, accumulation, the weight that ``auto`` finds, the mean over the data set."""
    shared = ("--kv_weight", "auto", "--target.control.kind", "mean_target", *TWICE[name])
    if name == "separate teacher":
        shared += ("--teacher_name", given["model_name"], "--bridge.kind", "lift")
        shared += ("--bridge.projector", "trained")
    pair = config(given, tmp_path / "two", "--batch_size", "2", *shared)
    assert pico_process.together(lambda: train(pair), 2) == [0, 0]
    train(config(given, tmp_path / "one", "--batch_size", "4", *shared))
    one, two = curves(tmp_path / "one"), curves(tmp_path / "two")
    assert one.keys() == two.keys()
    for term in (
        name for name in one if not name.endswith(("_min", "_max"))
    ):  # the range inside a batch depends on the batch
        assert list(two[term].values()) == pytest.approx(list(one[term].values()), abs=2e-4), term
    assert distance(weights(tmp_path / "one"), weights(tmp_path / "two")) < 1e-5
    extra = [load_extra_state(newest_checkpoint(tmp_path / folder))[0] for folder in ("one", "two")]
    assert any("projector" in key for key in extra[0]) == (name == "separate teacher")
    for key in (key for key in extra[0] if key.startswith("step/")):
        torch.testing.assert_close(extra[0][key], extra[1][key], rtol=1e-4, atol=1e-5)


def test_two_processes_that_are_killed_go_on_as_if_nothing_had_happened(
    given: dict[str, str], tmp_path: Path
) -> None:
    def run(output: Path) -> Callable[[], object]:
        return lambda: train(config(given, output, "--resume"))

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert pico_process.together(run(whole), 2) == [0, 0]
    assert pico_process.together(pico_process.killing(run(parts), "compute_loss begins", 11), 2) == [-9, -9]
    assert [path.name for path in checkpoints(parts)] == ["checkpoint-ep1-step2", "checkpoint-ep1"]
    with pytest.raises(
        ValueError,
        match=r"parts was begun by 2 processes, and 1 would see other batches: .*torchrun --nproc_per_node 2",
    ):
        run(parts)()
    assert pico_process.together(run(parts), 2) == [0, 0]
    assert distance(weights(parts), weights(whole)) == 0
    one, two = curves(whole), curves(parts)
    assert one.keys() == two.keys()
    for term in one:
        assert list(two[term].values()) == pytest.approx(list(one[term].values()), abs=2e-6), term


def script(
    words: list[str], launcher: list[str] | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    clean = {
        key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    }
    command = [*(launcher or [sys.executable]), str(SCRIPT), *words]
    return subprocess.run(
        command, cwd="/", env=clean | environment, capture_output=True, text=True, check=False, timeout=300
    )


def test_torchrun_trains_one_run_and_leaves_all_that_is_promised(
    given: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "a run"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = script(
        flags(given, folder, "--epochs", "1", "--training.progress", "true"), launcher, OMP_NUM_THREADS="1"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("latent on test:") == 1, "one process speaks"
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "checkpoint-ep1",
        "checkpoint-ep1-step2",
        "training_log.txt",
        "metrics.jsonl",
        "run.json",
        "TRAINING_COMPLETED.txt",
    }
    record = RunRecord.read(folder / "run.json")
    assert record.command is not None
    assert record.command.startswith("train_with_kv.py --model_name")
    assert {"torch", "transformers", "python"} <= record.versions.keys()
    log = (folder / "training_log.txt").read_text()
    assert re.search(r"step 3/4  epoch 0\.\d+  loss", log), (
        "two processes, two batches to a step, two samples to a batch"
    )
    assert "step 4/4  epoch 1 ended, means over it: loss" in log
    for term in ("ce_student", "kv", "codi"):
        assert term in log.splitlines()[-2]
    completed = (folder / "TRAINING_COMPLETED.txt").read_text()
    assert "accuracy, latent:" in completed
    assert "checkpoint-ep1" in completed
    LatentReasoner.from_pretrained(folder / "checkpoint-ep1")


def test_the_script_finds_its_environment_and_says_what_is_wrong(
    given: dict[str, str], tmp_path: Path
) -> None:
    done = script(["--kv_metod", "rkv"])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "train_with_kv.py: There is no option --kv_metod. Did you mean --kv_method? --help lists all; every "
        "other option is "
        "--section.option value.\n"
    )


def bad(given: dict[str, str], output: Path, *more: str) -> str:
    """What a run with these flags is refused with."""
    with pytest.raises((ValueError, OSError)) as refused:
        train(config(given, output, *more))
    return str(refused.value)


def rows(path: Path, *texts: str) -> tuple[str, ...]:
    path.write_text("".join(f"{text}\n" for text in texts))
    return "--train_file", str(path)


def test_a_finished_run_and_another_run_are_left_alone(given: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "run"
    done = train(config(given, output, "--epochs", "1"))
    stamp = (output / "checkpoint-ep1" / "model.safetensors").stat().st_mtime_ns
    assert "already holds a finished run" in bad(given, output, "--epochs", "1")
    assert "its training.lr is 0.001, now it is 0.1" in bad(
        given, output, "--epochs", "1", "--lr", "0.1", "--resume"
    )
    again = train(config(given, output, "--epochs", "1", "--resume"))
    assert again.evaluations == done.evaluations
    assert (output / "checkpoint-ep1" / "model.safetensors").stat().st_mtime_ns == stamp
    assert again.model is None, "nothing is loaded that is not needed"
    (output / "TRAINING_COMPLETED.txt").unlink()
    assert "holds an unfinished run (--resume continues it)" in bad(given, output, "--epochs", "1")


def test_a_run_does_not_go_on_with_other_rows(given: dict[str, str], tmp_path: Path) -> None:
    lines = Path(given["train_file"]).read_text().splitlines()
    more = (*rows(tmp_path / "train.jsonl", *lines), "--epochs", "1", "--resume")
    train(config(given, tmp_path / "run", *more))
    (tmp_path / "run" / "TRAINING_COMPLETED.txt").unlink()
    rows(tmp_path / "train.jsonl", *lines[1:], lines[0])
    assert "The training data is not what" in bad(given, tmp_path / "run", *more)
    rows(tmp_path / "train.jsonl", *lines)
    train(config(given, tmp_path / "run", *more))
    assert (tmp_path / "run" / "TRAINING_COMPLETED.txt").is_file()


def test_bad_rows_are_reported_at_the_end(given: dict[str, str], tmp_path: Path) -> None:
    lines = Path(given["train_file"]).read_text().splitlines()
    more = rows(tmp_path / "damaged.jsonl", *lines[:20], '{"question": "q"}', *lines[20:])
    assert "1 of 31 rows" in bad(given, tmp_path / "strict", *more)
    train(config(given, tmp_path / "run", *more, "--data.max_bad_rows", "0.05", "--epochs", "1"))
    completed = (tmp_path / "run" / "TRAINING_COMPLETED.txt").read_text()
    assert "1 of 31 rows" in completed
    kept: dict[str, Any] = json.loads((tmp_path / "run" / "quarantine_train.jsonl").read_text())
    assert kept["line"] == 21
