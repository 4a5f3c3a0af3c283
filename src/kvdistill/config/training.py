"""Section of the training loop: duration, optimizer, precision, logging, checkpoints."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from kvdistill.console.paths import expanded

FREE = frozenset(
    f"training.{name}"
    for name in (
        "overwrite",
        "resume",
        "progress",
        "tensorboard",
        "report",
        "num_workers",
        "save_total_limit",
        "output_dir",
    )
)
"""Options that do not change the result: a run may resume with other values of them."""


class TrainingSection(BaseModel):
    """The training loop: duration, optimizer, precision, logging and checkpoints.

    Source of the defaults: https://arxiv.org/abs/2510.02312, table 6.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    output_dir: str = Field(default="outputs/run", min_length=1)
    task: Literal["latent", "cot", "direct"] = "latent"
    """``latent`` distills into latent slots; ``cot`` (fine-tuning on chains of thought) and ``direct``
    (on answers alone) are the baselines.
    """
    epochs: float = Field(default=10.0, gt=0, le=10**6)
    max_steps: int = Field(default=-1, ge=-1, le=10**9)
    """Stop after this many optimizer steps, whatever ``epochs`` is; -1 leaves it to ``epochs``."""
    batch_size: int = Field(default=16, ge=1, le=65536)
    """Examples per device and step."""
    gradient_accumulation_steps: int = Field(default=8, ge=1, le=65536)
    lr: float = Field(default=5e-4, gt=0, le=100)
    adam_beta2: float = Field(default=0.999, gt=0, lt=1)
    weight_decay: float = Field(default=0.1, ge=0, le=100)
    warmup_steps: float = Field(default=0.03, ge=0, le=10**9)
    """Warmup of the learning rate in steps; below 1 a share of all steps."""
    scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    max_grad_norm: float = Field(default=2.0, ge=0, le=10**9)
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """Mixed precision of the computation; the weights keep ``model.dtype``."""
    gradient_checkpointing: bool = False
    cuda_graphs: bool = False
    """Record a step's kernels once for each shape of a batch and replay them: on a GPU several times as fast
    where models or batches are small. Takes the memory of a second set of gradients.
    """
    pad_to_multiple_of: int | None = Field(default=None, ge=1, le=4096)
    """Pad every segment of a training batch to a multiple of this many tokens; default: 16 with
    ``cuda_graphs``, else 1.
    """
    resume: bool = False
    """Resume from the newest checkpoint in ``output_dir``; start from scratch where there is none."""
    overwrite: bool = False
    """Delete the run that ``output_dir`` already holds, and train there."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    logging_steps: int = Field(default=10, ge=1, le=10**9)
    eval_steps: int = Field(default=0, ge=0, le=10**9)
    """Evaluate on the validation set every this many steps; 0: only at the end."""
    stop_at_accuracy: float | None = Field(default=None, gt=0, le=1)
    """Stop once the accuracy on the validation set, from 0 to 1, reaches this."""
    save_steps: int = Field(default=0, ge=0, le=10**9)
    """Also save a checkpoint every this many steps; 0: only at the end of each epoch."""
    save_total_limit: int | None = Field(default=None, ge=1, le=10**6)
    """Keep only this many checkpoints, the newest; default: all."""
    num_workers: int = Field(default=0, ge=0, le=64)
    tensorboard: bool = True
    report: bool = True
    """Write ``report.html`` at the end; ``kvdistill report`` writes it at any time."""
    progress: bool = True

    @field_validator("output_dir")
    @classmethod
    def _home(cls, path: str) -> str:
        return expanded(path)

    @field_validator("max_steps")
    @classmethod
    def _some(cls, steps: int) -> int:
        if steps == 0:
            raise ValueError("give 1 or more, or -1 to leave it to epochs")
        return steps
