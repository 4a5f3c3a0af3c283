"""The training stages of the demo.

One small Llama is trained on chains of thought, terse and verbose, for questions of one to four hand-overs.
Its latents are then distilled from verbose traces of four words a step (three fillers and the step's result),
while the student is asked to be brief: with the KV loss, one run per compressor; with the KV loss on another
question's shuffled target (negative control); and without it (E1). A last run trains direct answers. All arms
make the same number of steps.

Every trace has four steps: after the last hand-over the holder is repeated. So a slot has the same role in
every question, and R-KV, which drops the redundant fillers, keeps the results.

The KV loss counts the first layer only. Its keys and values encode which name a slot holds. Those of the
second layer also encode that a verbose trace continues with "then", and a brief student that imitates them
gets stuck; R-KV keeps few results there. Its selection is shared by the heads, since a single head may keep
fillers.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kvdistill.config import RunConfig
from kvdistill.console.wording import counted
from kvdistill.data import Chain

NAMES, HOPS = 8, 4
LONG = Chain(names=NAMES, steps=NAMES - 1, trace="terse")
"""The longest terse chains: a look-up of the next holder is learnt from them in few steps."""
MIXED = Chain(names=NAMES, steps=(1, HOPS), trace="mixed", filler="repeated", pad=True)
GIVER = replace(MIXED, filler="giver")
"""Verbose steps name the giver, so that the next holder is easy to look up. Some seeds never learn verbose
chains from the repeated filler alone.
"""
TERSE = replace(MIXED, trace="terse")
VERBOSE = replace(MIXED, trace="verbose")
"""Verbose traces, from which the latents are distilled, while the student is asked to be brief."""
COMPRESSORS: dict[str, dict[str, Any]] = {
    "step_end": {"kind": "step_end"},
    "rkv": {"kind": "rkv", "selection": "shared"},
    "right_crop": {"kind": "right_crop"},
}
"""Options of the compressors that are compared."""
METHODS = tuple(COMPRESSORS)
CONTROL = "shuffled"
"""R-KV with another question's target, its slots in another order."""
KV_WEIGHT = 2.5
"""Weight of the KV loss: three times what ``auto`` finds from these warm starts (.73 to .88).

With the weight of ``auto`` the answer's own loss can find a question's names although the target is another
question's: the shuffled control learned on one seed of eight.
"""
LATENT_STEPS = 250
"""Steps of every arm after the warm start."""


@dataclass(frozen=True)
class Stage:
    """One training run of the demo."""

    name: str
    """Also the name of the run folder."""
    task: Chain
    steps: int
    """Maximum number of optimizer steps."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the ``training`` section."""
    loss: dict[str, Any] = field(default_factory=dict)
    """Options of the ``loss`` section."""
    target: dict[str, Any] = field(default_factory=dict)
    """Options of the ``target`` section."""

    def shortened(self, share: float) -> "Stage":
        """The same stage with a share (0 to 1) of its steps, at least two."""
        return replace(self, steps=max(2, round(self.steps * share)))

    @property
    def stop_at(self) -> float | None:
        """Validation accuracy (0 to 1) at which the stage ends early; None where all steps are made."""
        return self.options.get("stop_at_accuracy")

    @property
    def goal(self) -> str:
        """One phrase on when the stage ends."""
        if self.stop_at is None:
            return counted(self.steps, "step")
        return f"until validation accuracy {self.stop_at:g}, at most {counted(self.steps, 'step')}"

    def config(self, folder: Path, start: Path | None, seed: int) -> RunConfig:
        """The configuration of the stage's run.

        Args:
            folder: the demo's folder; the run folder is made in it.
            start: checkpoint to start from; None starts from random weights.
            seed: seed of data, weights and order.
        """
        return RunConfig.model_validate(
            {
                "model": _model(start),
                "data": self._data(seed),
                "latent": {"slots": HOPS, "passes": HOPS, "delimiters": "both"},
                "target": self.target,
                "loss": self.loss,
                "training": self._training(folder, seed),
                "evaluation": {"batch_size": 128, "max_new_tokens": 5 * HOPS + 8},
            }
        )

    def _data(self, seed: int) -> dict[str, Any]:
        """The ``data`` section."""
        some = {"kind": "synthetic", "task": self.task, "seed": seed}
        return {
            "train": some | {"num": min(24576, 64 * self.steps)},
            "validation": some | {"num": min(256, 64 * self.steps), "split": "validation"},
            "template": {"kind": "plain", "prompt": "answer"},
        }

    def _training(self, folder: Path, seed: int) -> dict[str, Any]:
        """The ``training`` section: what all stages share, and the stage's own options."""
        shared = {
            "output_dir": str(folder / self.name),
            "overwrite": True,
            "max_steps": self.steps,
            "batch_size": 64,
            "gradient_accumulation_steps": 1,
            "scheduler": "constant_with_warmup",
            "warmup_steps": 40,
            "adam_beta2": 0.98,
            "weight_decay": 0.01,
            "max_grad_norm": 1.0,
            "logging_steps": 25,
            "tensorboard": False,
            "report": False,
            "seed": seed,
        }
        return shared | self.options


def _model(start: Path | None) -> dict[str, Any]:
    """The ``model`` section: a checkpoint, or a small Llama with random weights."""
    tuning = {"kind": "full"}
    if start is not None:
        return {"name": str(start), "tuning": tuning}
    backbone = {
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "max_position_embeddings": 128,
        "initializer_range": 0.06,
        "tie_word_embeddings": False,
    }
    return {"config": backbone, "tuning": tuning}


def warm_stages(share: float = 1.0) -> list[Stage]:
    """The warm start on chains of thought: long terse ones, both styles with the giver's name, then with the
    repeated filler, at last with a falling learning rate.

    Args:
        share: share (0 to 1) of each stage's steps.
    """
    cot = {"task": "cot", "lr": 2e-3}
    measured = cot | {"eval_steps": 25}
    stages = [
        Stage("warm_terse", LONG, 900, measured | {"stop_at_accuracy": 0.95}),
        Stage("warm_giver", GIVER, 900, measured | {"stop_at_accuracy": 0.985}),
        Stage("warm_mixed", MIXED, 900, measured | {"stop_at_accuracy": 0.985}),
        Stage("warm_final", MIXED, 500, cot | {"scheduler": "cosine", "warmup_steps": 0}),
    ]
    return [stage.shortened(share) for stage in stages]


def lanes(share: float = 1.0) -> tuple[list[Stage], list[Stage]]:
    """The stages of the two parallel processes: the runs with the KV loss, and control and baselines.

    Args:
        share: share (0 to 1) of each stage's steps.
    """
    kv = [_latent(name, {"method": method}) for name, method in COMPRESSORS.items()]
    control = _latent(CONTROL, {"method": COMPRESSORS["rkv"], "control": {"kind": "shuffled"}})
    direct = Stage("direct", TERSE, LATENT_STEPS, {"task": "direct", "lr": 1e-3, "eval_steps": 50})
    others = [_latent("e1", None), control, direct]
    return [stage.shortened(share) for stage in kv], [stage.shortened(share) for stage in others]


def _latent(name: str, target: dict[str, Any] | None) -> Stage:
    """An arm that trains latents; without a target it is E1."""
    training = {"task": "latent", "lr": 1e-3, "eval_steps": 25}
    loss: dict[str, Any] = {"codi_weight": 1.0, "kv_weight": 0.0}
    if target is not None:
        loss["kv_weight"] = KV_WEIGHT
        target = target | {"anneal_layers": 1.0}
    return Stage(f"latent_{name}", VERBOSE, LATENT_STEPS, training, loss, target or {})
