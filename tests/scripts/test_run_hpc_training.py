"""One run by SLURM's script: what it asks for, which devices it finds, and a real run of two processes."""

from pathlib import Path

import pytest

from kvdistill.config import RunConfig, from_flags, load, resolved
from pico_project import SYSTEM, Project, put

SCRIPT = "run_hpc_training.sh"
TINY = {"CONFIG": "experiments/configs/chain.toml", "MAX_STEPS": "2", "BATCH_SIZE": "2"}
SMALL = (
    "--data.train.num 8 --data.test.num 2 --evaluation.max_new_tokens 4 --training.progress false "
    "--training.tensorboard false"
)
TWO_GPUS = """#!/bin/sh
case $1 in -L) printf 'GPU 0: A\\n  MIG 1g.5gb\\nGPU 1: A\\n' ;; *) printf '9.0\\n9.0\\n' ;; esac
"""


def config_of(clerk: Project) -> RunConfig:
    (words,) = clerk.calls()
    script = words.index("experiments/train_with_kv.py")
    return from_flags(words[script + 1 :], words[script], "")


def test_by_default_qwen_learns_gsm8k(clerk: Project) -> None:
    done = clerk.run(SCRIPT)
    assert done.returncode == 0, done.stderr
    assert "No GPU is visible: training on the CPU." in done.stdout
    config = config_of(clerk)
    data, training = resolved(config)["data"], config.training
    assert config.model.name == "Qwen/Qwen2.5-0.5B-Instruct"
    assert [data[role]["split"] for role in ("train", "validation", "test")] == [
        "train[:95%]",
        "train[95%:]",
        "test",
    ]
    assert (training.output_dir, training.resume, training.precision) == (
        "outputs/hpc_training",
        True,
        "float32",
    )
    assert (training.batch_size, training.gradient_accumulation_steps, training.eval_steps) == (16, 8, 50)


def test_every_variable_reaches_its_option(clerk: Project) -> None:
    values = {
        **{
            "MODEL_NAME": "a/b",
            "TEACHER_NAME": "c/d",
            "TRAIN_FILE": "my data/*.jsonl",
            "VALIDATION_FILE": "v",
            "TEST_FILE": "t",
        },
        **{
            "STREAMING": "true",
            "OUTPUT_DIR": "my outputs",
            "PRECISION": "fp16",
            "TORCH_DTYPE": "float16",
            "GRADIENT_CHECKPOINTING": "true",
        },
        **{
            "EPOCHS": "3",
            "MAX_STEPS": "9",
            "BATCH_SIZE": "2",
            "GRADIENT_ACCUMULATION": "5",
            "LR": "1e-5",
            "LORA_R": "4",
            "MAX_LENGTH": "77",
        },
        **{
            "SUBSET_SIZE": "66",
            "TARGET_LEN": "6",
            "NUM_ITERATIONS": "2",
            "KV_METHOD": "right_crop",
            "KV_LOSS": "smooth_l1",
        },
        **{
            "KV_WEIGHT": "auto",
            "CODI_WEIGHT": "3",
            "SEED": "8",
            "SAVE_STEPS": "11",
            "EVAL_STEPS": "12",
            "LOGGING_STEPS": "13",
        },
        **{"NUM_WORKERS": "1", "EXTRA_ARGS": "--training.warmup_steps 7"},
    }
    done = clerk.run(SCRIPT, **values)
    assert done.returncode == 0, done.stderr
    tree = resolved(config_of(clerk))
    assert (tree["model"]["name"], tree["teacher"]["name"], tree["data"]["train"]["path"]) == (
        "a/b",
        "c/d",
        "my data/*.jsonl",
    )
    assert (tree["data"]["validation"]["path"], tree["data"]["test"]["path"]) == ("v", "t")
    assert (
        tree["data"]["train"]["streaming"],
        tree["data"]["train"]["limit"],
        tree["data"]["max_length"],
    ) == (True, 66, 77)
    assert (tree["model"]["dtype"], tree["model"]["tuning"]["r"]) == ("float16", 4)
    assert (tree["latent"]["slots"], tree["latent"]["passes"]) == (6, 2)
    assert (tree["target"]["method"]["kind"], tree["loss"]["kv"]["distance"]) == ("right_crop", "smooth_l1")
    assert (tree["loss"]["kv_weight"], tree["loss"]["codi_weight"]) == ("auto", 3)
    wanted = {
        "output_dir": "my outputs",
        "precision": "fp16",
        "gradient_checkpointing": True,
        "epochs": 3,
        "max_steps": 9,
    }
    wanted |= {
        "batch_size": 2,
        "gradient_accumulation_steps": 5,
        "lr": 1e-5,
        "seed": 8,
        "save_steps": 11,
        "eval_steps": 12,
    }
    wanted |= {"logging_steps": 13, "num_workers": 1, "warmup_steps": 7, "resume": True}
    assert {name: tree["training"][name] for name in wanted} == wanted


def test_a_configuration_keeps_what_no_variable_changes(clerk: Project) -> None:
    path = "experiments/configs/kava_qwen2.5_0.5b_aug.toml"
    assert clerk.run(SCRIPT, CONFIG=path, LR="1e-6").returncode == 0
    before = load(clerk.root / path)
    training = {"lr": 1e-6, "output_dir": "outputs/hpc_training", "resume": True}
    assert config_of(clerk) == before.model_copy(
        update={"training": before.training.model_copy(update=training)}
    )


@pytest.mark.parametrize(
    ("settings", "num"),
    [
        ({"SLURM_GPUS_ON_NODE": "4", "CUDA_VISIBLE_DEVICES": "0,1"}, 4),
        ({"CUDA_VISIBLE_DEVICES": "2,5,7"}, 3),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, 1),
        ({"CUDA_VISIBLE_DEVICES": ""}, 1),
        ({}, 2),
        ({"NUM_GPUS": "1"}, 1),
        ({"NUM_GPUS": "0"}, 1),
    ],
)
def test_gpus_are_those_of_the_job_and_share_the_batch(
    clerk: Project, tmp_path: Path, settings: dict[str, str], num: int
) -> None:
    put(tmp_path / "nvidia" / "nvidia-smi", TWO_GPUS)
    done = clerk.run(SCRIPT, PATH=f"{tmp_path}/nvidia:{SYSTEM}", **settings)
    assert done.returncode == 0, done.stderr
    (words,) = clerk.calls()
    launch = words[: words.index("experiments/train_with_kv.py")]
    assert launch == (
        [] if num == 1 else ["-m", "kvdistill.training.launch", "--standalone", "--nproc_per_node", str(num)]
    )
    config = from_flags(words[len(launch) + 1 :], "train_with_kv.py", "")
    assert config.training.gradient_accumulation_steps == 128 // (16 * num)
    has_gpu = num > 1 or settings.get("NUM_GPUS") == "1"
    assert config.training.precision == ("bf16" if has_gpu else "float32")


def test_without_an_environment_it_says_so(clerk: Project, tmp_path: Path) -> None:
    (clerk.root / ".venv" / "bin" / "python").unlink()
    put(tmp_path / "bare" / "python3", "#!/bin/sh\nexit 1\n")
    done = clerk.run(SCRIPT, PATH=f"{tmp_path}/bare:{SYSTEM}")
    assert done.returncode == 2
    assert (
        done.stderr
        == f"run_hpc_training.sh: python3 in {clerk.root} lacks kvdistill or torch. Run: bash setup.sh\n"
    )


def test_two_processes_train_together_and_a_second_time_nothing_is_left_to_do(
    project: Project, tmp_path: Path
) -> None:
    put(tmp_path / "nvidia" / "nvidia-smi", TWO_GPUS)
    settings = TINY | {
        "PATH": f"{tmp_path}/nvidia:{SYSTEM}",
        "EXTRA_ARGS": SMALL,
        "PRECISION": "float32",
        "OUTPUT_DIR": "outputs/two",
    }
    done = project.run(SCRIPT, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = project.root / "outputs" / "two"
    assert "steps:                      2\n" in (folder / "TRAINING_COMPLETED.txt").read_text(
        encoding="utf-8"
    )
    assert (folder / "checkpoint-ep1").is_dir() and (folder / "training_log.txt").is_file()
    again = project.run(SCRIPT, **settings | {"NUM_GPUS": "1"})
    assert again.returncode == 0, again.stderr
    assert "Everything is in outputs/two" in again.stdout


def test_a_mistake_is_the_sentence_of_the_training_script(project: Project) -> None:
    done = project.run(SCRIPT, KV_METHOD="rkw", NUM_GPUS="0")
    assert done.returncode == 2
    assert (
        "train_with_kv.py: the command line: --kv_method has no kind 'rkw'. Did you mean 'rkv'?"
        in done.stderr
    )
