"""All experiments on the embedded task, twice; and their order, with a Python that only records calls."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from kvdistill.config import from_flags, load, resolved
from kvdistill.records.schema import Metrics, RunRecord
from kvdistill.reporting.studies.comparability import CLAIMED
from kvdistill.reporting.studies.experiment_names import classify
from kvdistill.reporting.studies.record import ExperimentReport
from pico_project import Project

SCRIPT = "run_all_experiments.sh"
FOLDERS = {
    "E1": "E1_baseline",
    "E2": "E2_full_kv",
    "E3": "E3_right_crop",
    "E4": "E4_rkv",
    "E5": "E5_shuffled",
    "direct": "direct",
    "CoT": "cot",
}
TINY = {
    "EMBEDDED": "gpt2",
    "SEEDS": "0 1",
    "EPOCHS": "1",
    "BATCH_SIZE": "4",
    "SUBSET_SIZE": "8",
    "TEST_SIZE": "2",
    "EVAL_STEPS": "1",
}
SETTINGS = {
    **TINY,
    "JOBS": "2",
    "EXTRA_ARGS": "--logging_steps 1 --evaluation.max_new_tokens 4 --training.tensorboard false",
}
EXPERIMENTS = {folder: experiment for experiment, folder in FOLDERS.items()}
RUNS = {f"{folder}/seed{seed}" for folder in FOLDERS.values() for seed in (0, 1)}


def said(output: str, verb: str) -> set[str]:
    return set(re.findall(rf"^(\S+) {verb}", output, flags=re.MULTILINE))


def records(project: Project) -> dict[str, RunRecord]:
    return {name: RunRecord.read(project.root / "outputs" / name / "run.json") for name in RUNS}


def first_loss(project: Project, name: str) -> float:
    return Metrics(project.root / "outputs" / name / "metrics.jsonl").series()["ce_student"][1]


# For real, and in one test, so that no two processes of the test run train the same.


def test_two_seeds_of_everything_go_on_where_they_were_cut_off(project: Project) -> None:
    done = project.run(SCRIPT, **SETTINGS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert said(done.stdout, "begins") == said(done.stdout, "is complete") == RUNS
    require_runs(project)
    require_report(project, done.stdout)
    # Runs of a seed share start and order, and so their first loss; another seed has another.
    by_seed = [
        {first_loss(project, f"{folder}/seed{seed}") for name, folder in FOLDERS.items() if name in CLAIMED}
        for seed in (0, 1)
    ]
    assert [len(losses) for losses in by_seed] == [1, 1] and by_seed[0] != by_seed[1]

    begun = {name: record.started for name, record in records(project).items()}
    again = project.run(SCRIPT, **SETTINGS)
    assert again.returncode == 0, again.stderr
    assert said(again.stdout, "is complete already") == RUNS
    assert {name: record.started for name, record in records(project).items()} == begun

    (project.root / "outputs" / "E4_rkv" / "seed1" / "TRAINING_COMPLETED.txt").unlink()
    shutil.rmtree(project.root / "outputs" / "E2_full_kv" / "seed0")
    mended = project.run(SCRIPT, **SETTINGS)
    assert mended.returncode == 0, mended.stderr
    assert said(mended.stdout, "begins") == {"E4_rkv/seed1", "E2_full_kv/seed0"}
    # It was evaluated, and not trained again.
    assert records(project)["E4_rkv/seed1"].started == begun["E4_rkv/seed1"]

    other = project.run(SCRIPT, **SETTINGS, LR="3e-3", EXPERIMENTS="cot")
    assert other.returncode == 2
    assert "holds another run: its training.lr is 0.002, now it is 0.003." in other.stdout
    assert "could not begin, so the rest is not tried" in other.stderr


def require_runs(project: Project) -> None:
    """Every folder holds a complete run of the experiment and seed that it is named after."""
    for name, record in records(project).items():
        folder, seed = name.split("/")
        assert (classify(record.config), f"seed{record.seed}") == (EXPERIMENTS[folder], seed)
        run = project.root / "outputs" / name
        assert (run / "TRAINING_COMPLETED.txt").is_file() and (run / "training_log.txt").is_file()
        saved = json.loads((run / "checkpoint-ep1" / "config.json").read_text(encoding="utf-8"))
        assert saved["backbone"]["model_type"] == "gpt2"


def require_report(project: Project, output: str) -> None:
    """Both seeds of everything count, and may be compared."""
    report = ExperimentReport.read(project.root / "outputs" / "EXPERIMENT_REPORT.json")
    assert [claim.outcome for claim in report.studies[0].claims] == ["inconclusive"] * 3
    text = (project.root / "outputs" / "EXPERIMENT_REPORT.txt").read_text(encoding="utf-8")
    assert text in output
    assert not report.studies[0].unlike, "the runs differ in target and KV loss alone"
    assert not [line for line in report.studies[0].warnings if "nothing to distil" not in line], (
        "a few steps teach nobody to reason"
    )
    assert len(re.findall(r"^(E\d|direct|CoT) .* 0–1 +–$", text, flags=re.MULTILINE)) == 7


# With a Python that only writes down.


@pytest.mark.parametrize("script", [SCRIPT, "run_hpc_training.sh", "run_ultra_large.sh"])
def test_scripts_parse_and_can_be_executed(clerk: Project, script: str) -> None:
    path = clerk.root / "scripts" / script
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    assert os.access(path, os.X_OK)


def test_commands_on_a_real_model_are_the_experiments(clerk: Project) -> None:
    done = clerk.run(
        SCRIPT,
        SEEDS="4",
        NUM_GPUS="0",
        EXTRA_ARGS='--loss.codi_weight 5 --model.special_tokens \'{"pad_token": "a b"}\'',
    )
    assert done.returncode == 0, done.stderr
    assert "REPORT --output_base outputs\n" in done.stdout
    configs = [from_flags(words[1:], words[0], "") for words in clerk.calls()]
    assert [classify(resolved(config)) for config in configs] == list(FOLDERS)
    for config, folder in zip(configs, FOLDERS.values(), strict=True):
        training, model, data = config.training, config.model, resolved(config)["data"]
        assert (training.output_dir, training.seed, training.resume) == (f"outputs/{folder}/seed4", 4, True)
        assert (model.name, model.special_tokens) == ("Qwen/Qwen2.5-0.5B-Instruct", {"pad_token": "a b"})
        assert training.batch_size * training.gradient_accumulation_steps == 128
        assert config.loss.codi_weight == 5
        splits = {"train": "train[:95%]", "validation": "train[95%:]", "test": "test"}
        assert {role: (data[role]["name"], data[role]["config"], data[role]["split"]) for role in splits} == {
            role: ("openai/gsm8k", "main", split) for role, split in splits.items()
        }


def test_what_an_experiment_is_comes_from_its_configuration_file(clerk: Project) -> None:
    configs = clerk.root / "experiments" / "configs"
    arms = [next(configs.glob(f"e{number}_*.toml")) for number in range(1, 6)]
    rkv = arms[3].read_text(encoding="utf-8").replace("importance_weight = 0.1", "importance_weight = 0.25")
    arms[3].write_text(rkv, encoding="utf-8")
    done = clerk.run(SCRIPT, SEEDS="0", EXPERIMENTS="E1 E2 E3 E4 E5", NUM_GPUS="0")
    assert done.returncode == 0, done.stderr
    made = [from_flags(words[1:], words[0], "") for words in clerk.calls()]
    for config, path in zip(made, arms, strict=True):
        described = load(path)
        assert config.target.method == described.target.method
        assert config.target.control == described.target.control
        assert config.loss.kv_weight == described.loss.kv_weight
    assert resolved(made[3])["target"]["method"]["importance_weight"] == 0.25
    assert made[3].target.anneal_layers == 0.0, "that is of the small model on the embedded task"

    arms[1].write_text("[target]\nmethod = {kind = 'full'}\n", encoding="utf-8")
    without = clerk.run(SCRIPT, SEEDS="1", EXPERIMENTS="E2", NUM_GPUS="0")
    assert without.returncode == 2
    assert without.stderr.startswith(
        'run_all_experiments.sh: experiments/configs/e2_full.toml has no line such as kv_weight = "auto"'
    )


def test_files_and_sizes_reach_every_run(clerk: Project) -> None:
    sizes = {
        "EPOCHS": "2",
        "MAX_STEPS": "7",
        "BATCH_SIZE": "4",
        "GRADIENT_ACCUMULATION": "3",
        "LR": "1e-5",
        "TARGET_LEN": "6",
    }
    more = {
        "NUM_ITERATIONS": "2",
        "LORA_R": "8",
        "PRECISION": "bf16",
        "SUBSET_SIZE": "9",
        "TEST_SIZE": "5",
        "OUTPUT_BASE": "my outputs",
    }
    files = {"TRAIN_FILE": "a b.jsonl", "VALIDATION_FILE": "v.jsonl", "TEST_FILE": "t.jsonl"}
    done = clerk.run(SCRIPT, SEEDS="0", EXPERIMENTS="E5", **sizes, **more, **files)
    assert done.returncode == 0, done.stderr
    (words,) = clerk.calls()
    config = from_flags(words[1:], words[0], "")
    training, data = config.training, resolved(config)["data"]
    assert (
        training.epochs,
        training.max_steps,
        training.batch_size,
        training.gradient_accumulation_steps,
    ) == (2, 7, 4, 3)
    assert (training.lr, training.precision, config.latent.slots, config.latent.passes) == (
        1e-5,
        "bf16",
        6,
        2,
    )
    assert resolved(config)["model"]["tuning"]["r"] == 8
    assert [data[role]["path"] for role in ("train", "validation", "test")] == [
        "a b.jsonl",
        "v.jsonl",
        "t.jsonl",
    ]
    assert (data["train"]["limit"], config.evaluation.num) == (9, 5)
    assert training.output_dir == "my outputs/E5_shuffled/seed0"


def test_a_failing_run_is_named_at_the_end_and_the_others_go_on(clerk: Project) -> None:
    done = clerk.run(SCRIPT, SEEDS="0 1", FAIL="in training")
    assert done.returncode == 1
    assert said(done.stdout, "is complete") == RUNS - {"E2_full_kv/seed0", "E2_full_kv/seed1"}
    assert "E2_full_kv/seed0 FAILED after" in done.stdout and "    out of memory\n" in done.stdout
    assert "REPORT" in done.stdout
    assert done.stderr.startswith(
        "Not complete: E2_full_kv/seed0 E2_full_kv/seed1 - console.txt in each folder says why."
    )


def test_a_run_that_cannot_begin_stops_everything(clerk: Project) -> None:
    done = clerk.run(SCRIPT, SEEDS="0 1", FAIL="beginning")
    assert done.returncode == 2
    assert "    train_with_kv.py: --lr is wrong.\n" in done.stdout and "REPORT" not in done.stdout
    assert done.stderr == (
        "run_all_experiments.sh: E2_full_kv/seed0 could not begin, so the rest is not tried. Mend what is "
        "said above, then once more.\n"
    )
    assert len(clerk.calls()) == 2


def test_without_a_warm_start_the_rest_of_its_seed_is_left_out(clerk: Project) -> None:
    warm = clerk.root / "outputs" / "cot"
    assert clerk.run(SCRIPT, EMBEDDED="llama", SEEDS="0", EXPERIMENTS="E1").returncode == 0
    first, second = clerk.calls()
    assert ["experiments/configs/e0_warm.toml" in words for words in (first, second)] == [True, False]
    assert second[second.index("--model_name") + 1] == "outputs/cot/seed0/checkpoint-ep2"
    (warm / "seed1" / "TRAINING_COMPLETED.txt").mkdir(parents=True)
    done = clerk.run(SCRIPT, EMBEDDED="llama", SEEDS="1", EXPERIMENTS="E1")
    assert done.returncode == 1
    assert "E1_baseline/seed1 is left out: it starts from cot/seed1, which is not complete.\n" in done.stdout


def test_a_study_of_an_earlier_version_keeps_the_folder_of_its_warm_start(clerk: Project) -> None:
    (clerk.root / "outputs" / "explicit_cot").mkdir(parents=True)
    done = clerk.run(SCRIPT, EMBEDDED="llama", SEEDS="0", EXPERIMENTS="E1")
    assert said(done.stdout, "is complete") == {"explicit_cot/seed0", "E1_baseline/seed0"}
    _, second = clerk.calls()
    assert second[second.index("--model_name") + 1] == "outputs/explicit_cot/seed0/checkpoint-ep2"
    assert not (clerk.root / "outputs" / "cot").exists()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"EXPERIMENTS": "E1 E6"},
            "EXPERIMENTS: there is no experiment 'E6'. Choose from E1 E2 E3 E4 E5 direct cot.",
        ),
        ({"EMBEDDED": "lama"}, "EMBEDDED is 'lama': choose llama or gpt2, or leave it empty."),
        ({"SEEDS": "0 one"}, "seed is 'one': give an integer, 0 or more."),
        ({"JOBS": "0"}, "JOBS is 0: give 1 or more."),
        ({"NUM_GPUS": "two"}, "NUM_GPUS is 'two': give an integer, 0 or more."),
        ({"BATCH_SIZE": "x"}, "BATCH_SIZE is 'x': give an integer, 1 or more."),
        (
            {"TRAIN_FILE": "a.jsonl"},
            "TRAIN_FILE needs a TEST_FILE beside it, or there is nothing to compare.",
        ),
        ({"EXTRA_ARGS": "--model.name 'a"}, "EXTRA_ARGS has a quote that does not end: --model.name 'a"),
        ({"JOBS": "08"}, "JOBS is '08': write the number without leading zeros."),
        ({"BATCH_SIZE": "010"}, "BATCH_SIZE is '010': write the number without leading zeros."),
        ({"SEEDS": "0 07"}, "seed is '07': write the number without leading zeros."),
        ({"JOBS": "99999999999999999999"}, "JOBS is '99999999999999999999': give an integer, 1 or more."),
        ({"SLURM_ARRAY_TASK_ID": "-1"}, "SLURM_ARRAY_TASK_ID is '-1': give an integer, 0 or more."),
        (
            {"OUTPUT_BASE": "~nobody/x"},
            "OUTPUT_BASE is '~nobody/x': write the home folder's path, or ./~nobody/x for a folder of that "
            "name.",
        ),
        (
            {"SEEDS": "3 4", "SLURM_ARRAY_TASK_ID": "2"},
            "SEEDS='3 4' has no seed for task 2: submit with --array=0-1",
        ),
    ],
)
def test_a_wrong_setting_is_one_sentence_before_anything_begins(
    clerk: Project, settings: dict[str, str], sentence: str
) -> None:
    done = clerk.run(SCRIPT, **settings)
    assert (done.returncode, done.stderr) == (2, f"run_all_experiments.sh: {sentence}\n")
    assert clerk.calls() == []


@pytest.mark.parametrize(
    ("script", "variable", "value"),
    [
        (SCRIPT, "SLURM_ARRAY_TASK_ID", "seeds[$(touch marker)0]"),
        (SCRIPT, "SLURM_CPUS_PER_TASK", "processes[$(touch marker)0]"),
        ("run_hpc_training.sh", "SLURM_CPUS_PER_TASK", "processes[$(touch marker)0]"),
        ("run_ultra_large.sh", "BATCH_SIZE", "together[$(touch marker)0]"),
    ],
)
def test_no_number_is_run_as_a_command(clerk: Project, script: str, variable: str, value: str) -> None:
    environment = {name: text for name, text in clerk.environment().items() if name != "OMP_NUM_THREADS"} | {
        variable: value
    }
    done = subprocess.run(
        ["bash", str(clerk.root / "scripts" / script)],
        env=environment,
        cwd=clerk.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not (clerk.root / "marker").exists()
    assert done.returncode == 2
    assert f"{variable} is '{value}': give an integer" in done.stderr


@pytest.mark.parametrize(("base", "folder"), [("-dash", "-dash"), ("~/five", "home/five")])
def test_a_folder_of_any_name_takes_the_runs(clerk: Project, base: str, folder: str) -> None:
    done = clerk.run(SCRIPT, SEEDS="0", EXPERIMENTS="E1", OUTPUT_BASE=base, HOME=str(clerk.root / "home"))
    assert done.returncode == 0, done.stderr
    assert (clerk.root / folder / "E1_baseline" / "seed0" / "TRAINING_COMPLETED.txt").is_file()


def test_an_array_task_trains_its_seed_and_the_last_one_reports(clerk: Project) -> None:
    settings = {"SEEDS": "3 5", "EXPERIMENTS": "E1 E2"}
    first = clerk.run(SCRIPT, **settings, SLURM_ARRAY_TASK_ID="1")
    assert first.returncode == 0, first.stderr
    assert said(first.stdout, "is complete") == {"E1_baseline/seed5", "E2_full_kv/seed5"}
    assert (
        "Not complete yet: E1_baseline/seed3 E2_full_kv/seed3" in first.stdout
        and "REPORT" not in first.stdout
    )
    last = clerk.run(SCRIPT, **settings, SLURM_ARRAY_TASK_ID="0")
    assert last.returncode == 0 and "REPORT" in last.stdout


def test_a_signal_ends_all_that_runs(clerk: Project) -> None:
    command = ["bash", str(clerk.root / "scripts" / SCRIPT)]
    environment = clerk.environment(SEEDS="0 1", JOBS="2", SLEEP="61.25")
    script = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )

    def sleepers() -> list[str]:
        listing = [path for path in Path("/proc").glob("[0-9]*/environ") if os.access(path, os.R_OK)]
        return [
            str(path)
            for path in listing
            if str(clerk.root).encode() in read(path) and b"sleep" in read(path.with_name("cmdline"))
        ]

    def read(path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError:
            return b""

    while len(sleepers()) < 2 and script.poll() is None:
        time.sleep(0.05)
    script.send_signal(signal.SIGTERM)
    output, error = script.communicate(timeout=20)
    assert script.returncode == 143
    assert output.endswith("Stopped by SIGTERM. The same command continues from here.\n")
    assert error == "", "bash is silent about the processes that it has ended"
    assert sleepers() == []


def test_from_a_spool_folder_the_project_is_where_the_job_was_submitted(
    clerk: Project, tmp_path: Path
) -> None:
    spool = tmp_path / "spool" / "job1" / "slurm_script"
    spool.parent.mkdir(parents=True)
    shutil.copy(clerk.root / "scripts" / SCRIPT, spool)
    environment = clerk.environment(SEEDS="0", EXPERIMENTS="E1")
    found = {"env": environment | {"SLURM_SUBMIT_DIR": str(clerk.root)}, "cwd": clerk.root}
    done = subprocess.run(["bash", str(spool)], **found, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(clerk.calls()) == 1
    lost = subprocess.run(
        ["bash", str(spool)], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert lost.returncode == 2
    told = "submit it from the project's folder: cd PROJECT && sbatch scripts/run_all_experiments.sh"
    assert lost.stderr == f"run_all_experiments.sh: {told}\n"
