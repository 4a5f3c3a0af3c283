"""Whole runs: what they write, what they refuse before a step is made, and that losses fall on real rows."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

import pico_runs
from conftest import sampled
from kvdistill.config import RunConfig, load, parse, resolved
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.pipeline import Distillation
from kvdistill.records.schema import DepthCount, EvaluationRecord, Metrics, RunRecord
from kvdistill.run.folder import COMPLETED
from kvdistill.run.samples import Samples, examples
from kvdistill.run.step import step_model
from kvdistill.run.student import build_student, to_device
from kvdistill.run.train import train
from kvdistill.training.checkpoint import write_manifest
from kvdistill.training_step import FineTuning


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return pico_runs.toml(tmp_path)


def tiny_run(toml: Path, *words: str) -> RunConfig:
    return load(toml, ["--training.output_dir", str(toml.parent / "run"), *words])


# What a run leaves.


@pytest.mark.parametrize("task", ["latent", "cot", "direct"])
def test_a_run_leaves_its_record_metrics_checkpoints_and_evaluations(tiny: Path, task: str) -> None:
    config = tiny_run(tiny, "--training.task", task, "--training.report", str(task == "latent").lower())
    done = train(config, "kvdistill train --config tiny.toml")
    record = RunRecord.read(done.folder / "run.json")
    assert parse(record.config, "run.json") == config
    assert record.command == "kvdistill train --config tiny.toml"
    assert record.seed == 0
    assert record.seconds is not None
    assert record.seconds > 0
    assert set(record.versions) >= {"torch", "transformers", "python", "kvdistill"}
    assert {path.name for path in done.folder.glob("checkpoint-*")} == {"checkpoint-ep1", "checkpoint-ep2"}
    assert (done.folder / "report.html").is_file() == (task == "latent")
    series = Metrics(done.folder / "metrics.jsonl").series()
    assert list(series["loss"]) == [1, 2, 3, 4, 5, 6]
    terms = {"ce_student", "ce_teacher", "codi", "kv"} if task == "latent" else {"ce_teacher"}
    assert terms == series.keys() & {"ce_student", "ce_teacher", "codi", "kv"}
    assert 0 <= series["validation_accuracy"][6] <= 1
    assert series["validation_nats"].keys() == series["validation_accuracy"].keys()
    assert all(nats < 0 for nats in series["validation_nats"].values())
    modes = ["latent", "cot", "direct"] if task == "latent" else ["cot", "direct"]
    assert [evaluation.mode for evaluation in done.evaluations] == modes
    for evaluation in done.evaluations:
        assert EvaluationRecord.read(done.folder / f"evaluation_test_{evaluation.mode}.json") == evaluation
        assert (evaluation.num, evaluation.data_set) == (5, "test")
        # Without chains of thought in the data (task direct) there is none for the right answer to follow.
        assert (evaluation.nats is None) == (task == "direct" and evaluation.mode == "cot")
        assert evaluation.nats is None or evaluation.nats < 0
        # Both hand-overs of each question are known, also where the chain of thought was left out.
        assert evaluation.by_depth == {2: DepthCount(num=5, correct=evaluation.correct)}
        assert len((done.folder / str(evaluation.answers)).read_text().splitlines()) == 5
    assert LatentReasoner.from_pretrained(done.folder / "checkpoint-ep2").config.latents_trained == (
        task == "latent"
    )


def test_the_last_checkpoint_is_the_model_in_memory(tiny: Path) -> None:
    done = train(tiny_run(tiny))
    saved = LatentReasoner.from_pretrained(done.folder / "checkpoint-ep2").state_dict()
    assert done.model is not None
    assert all(torch.equal(saved[name], value) for name, value in done.model.state_dict().items())


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tiny: Path) -> None:
    def losses(*words: str) -> list[float]:
        folder = train(
            tiny_run(
                tiny,
                "--training.overwrite",
                "true",
                "--training.epochs",
                "1",
                "--evaluation.modes",
                "[]",
                *words,
            )
        ).folder
        return list(Metrics(folder / "metrics.jsonl").series()["loss"].values())

    first = losses()
    assert losses() == first
    assert losses("--training.seed", "1") != first


def test_direct_training_reads_no_chain_of_thought(tiny: Path) -> None:
    config = tiny_run(tiny)
    model = build_student(config)
    with_steps, without = (
        Samples(config.data, model, tiny.parent, direct).read(config.data.train) for direct in (False, True)
    )
    assert all(len(sample.teacher_mode.cot.ids) > 0 for sample in with_steps)
    assert all(len(sample.teacher_mode.cot.ids) == 0 for sample in without)
    assert [sample.teacher_mode.answer.ids for sample in with_steps] == [
        sample.teacher_mode.answer.ids for sample in without
    ]


def test_the_step_is_the_one_that_the_task_asks_for(tiny: Path) -> None:
    config = tiny_run(tiny)
    assert isinstance(step_model(config, build_student(config)), Distillation)
    cot = tiny_run(tiny, "--training.task", "cot")
    assert isinstance(step_model(cot, build_student(cot)), FineTuning)


# What a run refuses, and what it leaves alone.


def test_a_folder_with_a_run_is_not_written_over_unless_asked(tiny: Path) -> None:
    quick = ("--training.epochs", "1", "--evaluation.modes", "[]")
    done = train(tiny_run(tiny, "--training.epochs", "2", "--evaluation.modes", '["direct"]'))
    for name in ("notes.txt", "quarantine_validation.jsonl"):
        (done.folder / name).write_text("mine")
    with pytest.raises(
        ValueError,
        match=r"run already holds a finished run: choose another --training\.output_dir, or say "
        r"--training\.overwrite true\.",
    ):
        train(tiny_run(tiny, *quick))
    train(tiny_run(tiny, *quick, "--training.overwrite", "true"))
    assert {path.name for path in done.folder.glob("checkpoint-*")} == {"checkpoint-ep1"}, (
        "the older run's second epoch is gone"
    )
    assert not list(done.folder.glob("evaluation_*")) + list(done.folder.glob("quarantine_*"))
    assert (done.folder / "notes.txt").read_text() == "mine"


def test_a_teacher_that_nobody_asks_is_said_so(tiny: Path) -> None:
    done = train(
        tiny_run(
            tiny,
            "--training.epochs",
            "1",
            "--evaluation.modes",
            "[]",
            "--teacher.name",
            "nowhere",
            "--loss.kv_weight",
            "0",
        )
    )
    assert (
        "The teacher nowhere is not read: this run compares no caches"
        in (done.folder / "TRAINING_COMPLETED.txt").read_text()
    )


def test_a_run_does_not_write_over_what_it_starts_from(tiny: Path) -> None:
    done = train(tiny_run(tiny, "--training.epochs", "1", "--evaluation.modes", "[]"))
    start = [
        "--model.config",
        "null",
        "--model.name",
        str(done.folder / "checkpoint-ep1"),
        "--training.overwrite",
        "true",
    ]
    with pytest.raises(
        ValueError, match=r"checkpoint-ep1 is in .*run, which the run would write over: choose another"
    ):
        train(tiny_run(tiny, *start))
    assert (done.folder / "checkpoint-ep1" / "model.safetensors").is_file()
    again = train(
        tiny_run(tiny, *start, "--training.output_dir", str(tiny.parent / "next"), "--training.epochs", "1")
    )
    assert again.folder.name == "next"


FILES = {
    "empty.jsonl": "",
    "prose.jsonl": "Once upon a time\n",
    "no_question.jsonl": '{"answer": "1\\n#### 1"}\n',
    "no_answer.jsonl": '{"question": "q"}\n',
    "no_number.jsonl": "".join(
        f'{{"question": "q", "answer": "a\\n#### {n}"}}\n' for n in (*range(9), "many")
    ),
}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--data.test", '{"kind": "file", "path": "nowhere.jsonl"}'],
            r"nowhere\.jsonl: there is no such file",
        ),
        (
            ["--data.validation", '{"kind": "file", "path": "nowhere.jsonl"}'],
            r"nowhere\.jsonl: there is no such file",
        ),
        (
            ["--data.train", '{"kind": "file", "path": "nowhere.jsonl"}'],
            r"nowhere\.jsonl: there is no such file",
        ),
        (
            ["--data.test", '{"kind": "file", "path": "{folder}/empty.jsonl"}'],
            r"empty\.jsonl: the file is empty\. Write one JSON object",
        ),
        (
            ["--data.test", '{"kind": "file", "path": "{folder}/prose.jsonl"}'],
            r"prose\.jsonl.* line 1.*not JSON",
        ),
        (
            ["--data.test", '{"kind": "file", "path": "{folder}/no_question.jsonl"}'],
            r"no_question\.jsonl, line 1: .*answer.* known form",
        ),
        (
            ["--data.test", '{"kind": "file", "path": "{folder}/no_answer.jsonl"}'],
            r"no_answer\.jsonl, line 1: .*question.* known form",
        ),
        (
            ["--data.test", '{"kind": "file", "path": "{folder}/no_number.jsonl"}'],
            r"no_number\.jsonl, line 10: the answer 'many' has no number",
        ),
        (
            ["--data.train", '{"kind": "file", "path": "{folder}/no_number.jsonl"}'],
            r"model\.tokenizer is missing",
        ),
        (
            ["--data.max_length", "8"],
            r"No test example is left of 5: all are longer than data\.max_length = 8\. Raise it",
        ),
        (
            ["--data.max_length", "30", "--data.on_long", "error"],
            r"Sample chain-test-0-\d+ has \d+ tokens .* Raise max_length",
        ),
        (["--model.config.model_type", "lama"], r"Did you mean 'llama'"),
        (
            [
                "--model.config",
                '{"model_type": "gptj", "n_embd": 32, "n_layer": 1, "n_head": 2, "rotary_dim": 8}',
            ],
            r"computes its attention by itself",
        ),
        (["--teacher.name", "{folder}"], r"teacher\.name: .* could not be loaded"),
        (
            ["--training.output_dir", "{folder}/empty.jsonl"],
            r"empty\.jsonl is a file: choose another training\.output_dir",
        ),
        (["--training.resume", "true", "--training.overwrite", "true"], "choose one of them"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_what_cannot_work_is_refused_before_a_step_is_made(
    tiny: Path, words: list[str], sentence: str
) -> None:
    for name, text in FILES.items():
        (tiny.parent / name).write_text(text)
    with pytest.raises(ValueError, match=sentence):
        train(tiny_run(tiny, *(word.replace("{folder}", str(tiny.parent)) for word in words)))
    assert not (tiny.parent / "run" / "run.json").exists(), (
        "a run that never began does not block the next one"
    )


def test_nothing_pickled_is_ever_loaded(tiny: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (Path.touch, (tiny.parent / "trapped",))

    quick = ("--training.resume", "true", "--evaluation.modes", "[]")
    done = train(tiny_run(tiny, *quick))
    (done.folder / COMPLETED).unlink()
    shutil.rmtree(done.folder / "checkpoint-ep2")
    torch.save({"state": Trap()}, done.folder / "checkpoint-ep1" / "optimizer.pt")
    write_manifest(done.folder / "checkpoint-ep1")
    with pytest.raises(
        ValueError,
        match=r"checkpoint-ep1/optimizer\.pt is damaged, or holds more than plain tensors .* or delete "
        r"\S*checkpoint-ep1: training",
    ):
        train(tiny_run(tiny, *quick))
    (done.folder / "checkpoint-ep1" / "model.safetensors").unlink()
    torch.save({"state": Trap()}, done.folder / "checkpoint-ep1" / "pytorch_model.bin")
    write_manifest(done.folder / "checkpoint-ep1")
    with pytest.raises((ValueError, OSError), match="safetensors"):
        train(tiny_run(tiny, *quick))
    assert not (tiny.parent / "trapped").exists()


@pytest.mark.parametrize(("num", "control"), [(17, "shuffled"), (17, "other_sample"), (17, "mean_target")])
def test_no_sample_is_left_without_a_partner(tiny: Path, num: int, control: str) -> None:
    """Batches of 8: the seventeenth would be alone."""
    words = (
        "--data.train.num",
        str(num),
        "--target.control.kind",
        control,
        "--evaluation.modes",
        "[]",
        "--training.epochs",
        "1",
    )
    done = train(tiny_run(tiny, *words))
    steps = max(Metrics(done.folder / "metrics.jsonl").series()["loss"])
    assert steps == (3 if control == "mean_target" else 2)


# Small things.


def test_the_device_is_that_of_the_machine(tiny: Path) -> None:
    model = to_device(build_student(tiny_run(tiny)))
    gpu = torch.cuda.is_available()
    assert model.device.type == ("cuda" if gpu else "cpu")


def test_a_record_is_complete_json(tiny: Path) -> None:
    config = tiny_run(tiny, "--loss.kv_weight", "auto", "--target.method.kind", "full")
    assert json.loads(json.dumps(resolved(config)))["target"]["method"] == {"kind": "full"}


# Real rows.


def real_rows(folder: Path, name: str, output: Path, max_length: int, steps: int) -> RunConfig:
    """A tiny Llama with GPT-2's tokenizer. Distances are l1 over the standard deviation, which no growth of
    the weights changes.
    """
    backbone = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    backbone |= {"model_type": "llama", "max_position_embeddings": 256, "tie_word_embeddings": True}
    tokens = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    tokenizer = str(folder / "tokenizers" / "gpt2" / "tokenizer.json")
    training = {
        "output_dir": str(output),
        "max_steps": steps,
        "batch_size": 4,
        "gradient_accumulation_steps": 1,
        "lr": 3e-3,
    }
    training |= {
        "logging_steps": 1,
        "progress": False,
        "tensorboard": False,
        "scheduler": "constant_with_warmup",
    }
    tree = {
        "model": {
            "config": backbone,
            "tokenizer": tokenizer,
            "special_tokens": tokens,
            "tuning": {"kind": "full"},
        },
        "data": {
            "train": {"kind": "file", "path": str(folder / "math" / name / "train.jsonl")},
            "max_length": max_length,
        },
        "latent": {"slots": 4, "passes": 1},
        "loss": {"codi_weight": 10.0, "kv": {"distance": "l1"}, "codi": {"distance": "l1"}},
        "training": training,
    }
    return parse(tree, "a test")


REAL_ROWS = [("gsm8k_eq", 6973, (60, 200)), ("gsm8k", 7473, (72, 200))]


@pytest.mark.parametrize(("name", "rows", "size"), sampled(REAL_ROWS))
def test_losses_fall_on_real_rows(
    shared_data: Path, name: str, rows: int, size: tuple[int, int], tmp_path: Path, capsys
) -> None:
    """Every term is lower over the last 20 steps than over the first 20. The short rows only, to be quick."""
    max_length, steps = size
    config = real_rows(shared_data, name, tmp_path / "run", max_length, steps)
    assert len(examples(config.data.train).examples) == rows, "every row is parsed"
    done = train(config)
    dropped = re.search(rf"(\d+) of {rows} train examples left out: \d+ tokens", capsys.readouterr().err)
    assert dropped is not None, "none is lost in silence"
    assert 0 < int(dropped[1]) < rows
    series = Metrics(done.folder / "metrics.jsonl").series()
    assert series["epoch"][steps] == pytest.approx(steps / -(-(rows - int(dropped[1])) // 4)), (
        "all that is kept is trained on"
    )
    for term in ("ce_student", "ce_teacher", "codi", "kv"):
        values = list(series[term].values())
        assert len(values) == steps
        assert sum(values[-20:]) < 0.8 * sum(values[:20]), term
