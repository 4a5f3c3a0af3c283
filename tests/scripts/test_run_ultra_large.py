"""The script for large models: what it asks for, and a small run of it."""

import json
import subprocess
from pathlib import Path

from kvdistill.config import from_flags, resolved
from pico_project import SBATCH, SYSTEM, Project, put, save_qwen

SCRIPT = "run_ultra_large.sh"
EIGHT_GPUS = '#!/bin/sh\nfor i in 0 1 2 3 4 5 6 7; do echo "GPU $i: H"; done\n'


def test_a_large_model_is_streamed_to_on_eight_gpus(clerk: Project, tmp_path: Path) -> None:
    put(tmp_path / "nvidia" / "nvidia-smi", EIGHT_GPUS)
    done = clerk.run(SCRIPT, PATH=f"{tmp_path}/nvidia:{SYSTEM}")
    assert done.returncode == 0, done.stderr
    (words,) = clerk.calls()
    assert words[:5] == ["-m", "kvdistill.training.launch", "--standalone", "--nproc_per_node", "8"]
    config = from_flags(words[6:], words[5], "")
    data, training = resolved(config)["data"], config.training
    assert (config.model.name, config.model.dtype, config.model.tuning.kind) == (
        "Qwen/Qwen2.5-7B-Instruct",
        "bfloat16",
        "lora",
    )
    assert (data["train"]["name"], data["train"]["streaming"]) == ("whynlp/gsm8k-aug", True)
    assert [data[role]["split"] for role in ("train", "validation", "test")] == [
        "train",
        "validation",
        "test",
    ]
    assert (training.precision, training.gradient_checkpointing, training.resume) == ("bf16", True, True)
    assert 8 * training.batch_size * training.gradient_accumulation_steps == 128
    assert (training.max_steps, training.save_steps, training.save_total_limit) == (3000, 100, 3)


def test_sbatch_takes_it(clerk: Project, tmp_path: Path) -> None:
    (clerk.root / "logs").mkdir()
    sbatch = put(tmp_path / "tools" / "sbatch", SBATCH)
    done = subprocess.run(
        [sbatch, f"scripts/{SCRIPT}"],
        cwd=clerk.root,
        env=clerk.environment(SLURM_GPUS_ON_NODE="8"),
        check=False,
    )
    assert done.returncode == 0
    assert (
        f"In {clerk.root}: .venv/bin/python -m kvdistill.training.launch"
        in (clerk.root / "logs" / "kvdistill_large_1.out").read_text()
    )


def test_it_streams_files_and_goes_on_from_its_newest_checkpoint(project: Project, tmp_path: Path) -> None:
    rows = [
        {"question": f"what is {i} plus 1", "answer": f"{i}+1=<<{i}+1={i + 1}>>{i + 1}\n#### {i + 1}"}
        for i in range(12)
    ]
    for part in ("part-1", "part-2", "test"):
        (tmp_path / f"{part}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows[: 2 if part == "test" else 12])
        )
    settings = {
        **{
            "MODEL_NAME": str(tmp_path / "model"),
            "TRAIN_FILE": f"{tmp_path}/part-*.jsonl",
            "TEST_FILE": f"{tmp_path}/test.jsonl",
        },
        **{
            "NUM_GPUS": "0",
            "OUTPUT_DIR": "outputs/large",
            "BATCH_SIZE": "2",
            "GRADIENT_ACCUMULATION": "1",
            "LORA_R": "2",
        },
        **{
            "TARGET_LEN": "2",
            "NUM_ITERATIONS": "1",
            "EVAL_STEPS": "0",
            "SAVE_STEPS": "1",
            "PRECISION": "float32",
        },
        "EXTRA_ARGS": "--evaluation.max_new_tokens 2 --training.progress false --training.tensorboard false",
    }
    save_qwen(tmp_path / "model", [row["question"] + row["answer"] for row in rows])
    done = project.run(SCRIPT, **settings, MAX_STEPS="5")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = project.root / "outputs" / "large"
    kept = sorted(path.name for path in folder.glob("checkpoint-*"))
    assert kept == ["checkpoint-ep1", "checkpoint-ep1-step3", "checkpoint-ep1-step4"]
    (folder / "TRAINING_COMPLETED.txt").unlink()
    again = project.run(SCRIPT, **settings, MAX_STEPS="5")
    assert again.returncode == 0, again.stderr
    assert "resumed:                    1 times" in (folder / "TRAINING_COMPLETED.txt").read_text(
        encoding="utf-8"
    )
