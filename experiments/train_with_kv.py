"""Train a latent student from one teacher: its own teacher mode, or a separate model (--teacher_name).

    python experiments/train_with_kv.py --model_name Qwen/Qwen2.5-0.5B-Instruct --train_file
    data/sample_train.jsonl torchrun --nproc_per_node 8 experiments/train_with_kv.py --config
    experiments/configs/kava_llama_3.2_1b_aug.toml --bf16 --resume

--help lists all flags.
"""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "_reexec.py"))

from kvdistill.cli import train_from_flags

if __name__ == "__main__":
    raise SystemExit(train_from_flags("train_with_kv.py", __doc__))
