"""Train a latent student from several teachers, which may have other tokenizers, depths, heads and widths.

    python experiments/train_multi_teacher_kv.py --student_model Qwen/Qwen2.5-0.5B-Instruct
    --teacher_models Qwen/Qwen2.5-7B-Instruct meta-llama/Llama-3.1-8B-Instruct --teacher_weights .5 .5
    --train_file data/sample_train.jsonl

The teachers' caches are aligned with the student's and fused to one target (--bridge.kind lower). All flags
of train_with_kv.py are taken too; --help lists them.
"""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "_reexec.py"))

from kvdistill.cli import train_from_flags

if __name__ == "__main__":
    raise SystemExit(train_from_flags("train_multi_teacher_kv.py", __doc__, multi_teacher=True))
