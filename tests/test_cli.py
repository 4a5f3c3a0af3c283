"""The command line, called as a user calls it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers.utils import logging

import pico_runs
from kvdistill.cli import COMMANDS, CONFIGURED, main
from kvdistill.evaluation.evaluate import Evaluator
from kvdistill.records.schema import EvaluationRecord, RunRecord
from kvdistill.run.student import build_student


@pytest.fixture(autouse=True)
def loud() -> Iterator[None]:
    """Each test starts, and leaves, transformers as talkative as it comes."""
    logging.set_verbosity_warning()
    logging.enable_progress_bar()
    yield
    logging.set_verbosity_warning()
    logging.enable_progress_bar()


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    return str(pico_runs.toml(tmp_path))


@pytest.fixture(scope="module")
def run_folder(session_tmp: Path) -> Path:
    """A run made from the command line, with TensorBoard and a progress bar."""
    folder = session_tmp / "cli"
    folder.mkdir()
    words = [
        "--training.output_dir",
        str(folder / "run"),
        "--training.tensorboard",
        "true",
        "--training.progress",
        "true",
    ]
    assert main(["train", "--config", str(pico_runs.toml(folder)), *words, "--training.epochs=1"]) == 0
    return folder / "run"


# train


def test_train_writes_the_whole_folder(run_folder: Path) -> None:
    names = {path.name for path in run_folder.iterdir()}
    assert names >= {"run.json", "metrics.jsonl", "checkpoint-ep1", "report.html", "figures", "runs"}
    assert names >= {f"evaluation_test_{mode}.json" for mode in ("latent", "cot", "direct")}
    assert list(run_folder.glob("runs/**/events.out.tfevents*")), "TensorBoard's events"
    assert str(RunRecord.read(run_folder / "run.json").command).startswith("kvdistill train --config ")


def test_train_says_what_came_out_and_shows_its_progress(
    tiny: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--training.output_dir",
        str(tmp_path / "run"),
        "--training.epochs",
        "1",
        "--training.progress",
        "true",
    ]
    assert main(["train", "--config", tiny, *words]) == 0
    out, err = capfd.readouterr()
    assert [line.split(" on test: ")[0].strip() for line in out.splitlines() if " on test: " in line] == [
        "latent",
        "cot",
        "direct",
    ]
    assert f"Everything is in {tmp_path / 'run'}; open {tmp_path / 'run' / 'report.html'}" in out
    assert "step 3/3  epoch 1.00  loss" in out, "the lines of the log"
    assert "\r" not in out + err and "\x1b" not in out + err, "no bar where nobody watches"
    assert "Writing model shards" not in err, "the bars of saving are left out"


@pytest.mark.parametrize("task", ["latent", "cot", "direct"])
def test_lora_trains_on_a_named_model(tiny: str, tmp_path: Path, task: str) -> None:
    from kvdistill.config import load

    student = build_student(load(tiny))
    student.backbone.config._attn_implementation = "sdpa"
    student.backbone.save_pretrained(tmp_path / "base")
    assert student.tokenizer is not None
    student.tokenizer.save_pretrained(tmp_path / "base")
    model = [
        "--model.config",
        "null",
        "--model.name",
        str(tmp_path / "base"),
        "--model.tuning.kind",
        "lora",
        "--model.tuning.r",
        "2",
    ]
    run = ["--training.output_dir", str(tmp_path / "run"), "--training.task", task, "--training.epochs", "1"]
    assert main(["train", "--config", tiny, *model, *run]) == 0
    checkpoint = tmp_path / "run" / "checkpoint-ep1" / "model.safetensors"
    assert checkpoint.stat().st_size < (tmp_path / "base" / "model.safetensors").stat().st_size
    assert (
        main(
            [
                "evaluate",
                "--checkpoint",
                str(checkpoint.parent),
                "--data",
                tiny,
                "--modes",
                "direct",
                "--max-new-tokens",
                "3",
            ]
        )
        == 0
    )


# evaluate


def test_evaluate_repeats_what_the_run_found(run_folder: Path, tmp_path: Path) -> None:
    words = [
        "--checkpoint",
        str(run_folder / "checkpoint-ep1"),
        "--data",
        str(run_folder / "run.json"),
        "--output",
        str(tmp_path),
    ]
    assert main(["evaluate", *words, "--modes", "cot", "--max-new-tokens", "6", "--batch-size", "4"]) == 0
    again, before = (
        EvaluationRecord.read(tmp_path / "evaluation_run_cot.json"),
        EvaluationRecord.read(run_folder / "evaluation_test_cot.json"),
    )
    assert (again.num, again.correct, again.tokens_mean) == (before.num, before.correct, before.tokens_mean)
    assert (tmp_path / str(again.answers)).read_text() == (run_folder / str(before.answers)).read_text()


# walk


def test_walk_with_and_without_a_configuration(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--config", tiny, "--training.batch_size", "2"]):
        assert main(["trace", *words]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len([line for line in lines if not line.startswith(" ")]) == 11
        assert lines[-1].startswith("backward")


# What goes wrong is one sentence on stderr and exit code 2.


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["train", "--config", "nowhere.toml"],
            "kvdistill train: There is no configuration file nowhere.toml.",
        ),
        (
            ["train", "--config", "{tiny}", "--training.lrr", "1"],
            "there is no option training.lrr. Did you mean 'lr'?",
        ),
        (
            ["train", "--config", "{tiny}", "--target.method.kind", "rvk"],
            "target.method has no kind 'rvk'. Did you mean 'rkv'?",
        ),
        (
            ["train", "--config", "{tiny}", "--training.output_dir", "{run}"],
            "run already holds a finished run: choose another",
        ),
        (
            ["train", "--config", "{tiny}", "--model.config.model_type", "bloom"],
            "model.config: bloom has no setting",
        ),
        (
            ["trace", "--training.task", "cot"],
            "kvdistill trace: training.task is 'cot', so there are no latents",
        ),
        (["trace", "--config", "{tiny}", "--latent.slots"], "--latent.slots has no value"),
        (
            ["evaluate", "--checkpoint", "{run}", "--data", "{tiny}"],
            "holds no config.json: give a folder that kvdistill train wrote",
        ),
        (
            ["evaluate", "--checkpoint", "{checkpoint}", "--data", "{tiny}", "--modes", "latnt"],
            "--modes: there is no mode 'latnt'; choose from",
        ),
        (
            ["evaluate", "--checkpoint", "{checkpoint}", "--data", "nowhere.jsonl"],
            "nowhere.jsonl: there is no such file",
        ),
        (["evaluate", "--checkpoint", "{checkpoint}", "--data", "{base}"], "names no data.test."),
    ],
)
def test_errors_are_sentences(
    words: list[str],
    sentence: str,
    tiny: str,
    run_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = tmp_path / "base.toml"
    base.write_text('[model]\nname = "x"\n[data.train]\nkind = "synthetic"\n')
    places = {
        "tiny": tiny,
        "run": str(run_folder),
        "checkpoint": str(run_folder / "checkpoint-ep1"),
        "base": str(base),
    }
    assert main([word.format(**places) for word in words]) == 2
    out, err = capsys.readouterr()
    assert sentence in err
    assert err.startswith(f"kvdistill {words[0]}: ")
    assert err.count("\n") == 1
    assert "Traceback" not in out + err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["evaluate", "--checkpoint", "x", "--data", "y", "--nmu", "3"],
            "there is no option --nmu; `kvdistill evaluate --help` lists them",
        ),
        (
            ["demo", "--training.lr", "3"],
            "there is no option --training.lr; `kvdistill demo --help` lists them",
        ),
        (["train"], "the following arguments are required: --config"),
        (["tarin"], "invalid choice: 'tarin'"),
    ],
)
def test_wrong_usage_ends_with_exit_code_2(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err


def test_a_full_disk_is_said_in_words(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device", "outputs/report.html")

    monkeypatch.setattr("kvdistill.reporting.report.report", full)
    assert main(["report", str(run_folder)]) == 2
    said = "there is no room on the disk for outputs/report.html. Free some, then run the same command"
    assert said in capsys.readouterr().err


def test_errors_of_the_program_are_not_hidden(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user cannot mend keeps its traceback."""

    def broken(*args: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Evaluator, "evaluate", broken)
    with pytest.raises(RuntimeError, match="broken"):
        main(
            [
                "evaluate",
                "--checkpoint",
                str(run_folder / "checkpoint-ep1"),
                "--data",
                str(run_folder / "run.json"),
            ]
        )


# Help, and quiet.


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"    {name}" in text
        assert command.does.split(",")[0] in " ".join(text.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_shows_its_options_and_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    options = {
        "trace": ["--config"],
        "train": ["--config"],
        "align": ["inspect", "fit", "--config", "--output"],
        "sample": ["--config", "--teacher", "--output", "--sampling.num_samples"],
        "competence": ["--config", "--output", "--traces"],
        "demo": ["--output", "--seed"],
        "demo-teachers": ["--output", "--seed", "--jobs", "--study"],
        "report": ["folder"],
        "study": ["run", "report", "pilot", "export"],
        "doctor": ["--help"],
    }
    for option in options.get(
        name,
        ["--checkpoint", "--data", "--format", "--modes", "--num", "--batch-size", "--probes", "--output"],
    ):
        assert option in text
    assert f"kvdistill {name} " in text.partition("options:")[2] or name == "doctor", (
        "an example stands at the end"
    )
    assert ("--section.option value" in text) == (name in CONFIGURED)


def test_transformers_is_quiet_once_a_command_runs(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.get_verbosity()
    assert main(["walk"]) == 0
    assert logging.get_verbosity() == logging.ERROR
    assert not logging.is_progress_bar_enabled()
    assert before == logging.WARNING
    assert capsys.readouterr().err == ""


def test_help_comes_before_torch_is_loaded() -> None:
    code = (
        "import sys; from kvdistill.cli import main; main([]); sys.exit('torch' in sys.modules or "
        "'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0


def test_help_into_a_closed_pipe_has_no_traceback() -> None:
    code = "from kvdistill.cli import main; main(['train', '--help'])"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_no_checkpoint_or_not_printable_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    for checkpoint, sentence in (
        (file, "is a file; name the folder that holds it"),
        (tmp_path / "none", "does not exist: check the path"),
    ):
        assert main(["evaluate", "--checkpoint", str(checkpoint), "--data", "x.jsonl"]) == 2
        assert f"--checkpoint: {checkpoint} {sentence}, such as" in capsys.readouterr().err
    config = tmp_path / "run.json"
    config.write_text('{"config": {"\\u001b[31mmodel": 1}}')
    assert main(["train", "--config", str(config)]) == 2
    told = capsys.readouterr().err
    assert "there is no option \\x1b[31mmodel." in told
    assert "\x1b" not in told
    with pytest.raises(SystemExit):
        main(["evaluate", "--checkpoint", "x", "--data", "y", "--max-new-tokens", "99999999"])
    assert "99999999 is more than 131072" in capsys.readouterr().err
    assert (
        main(["train", "--config", str(pico_runs.toml(tmp_path)), "--training.output_dir", "/dev/null/x"])
        == 2
    )
    told = capsys.readouterr().err
    assert "/dev/null/x: a part of this path is a file, not a folder" in told
