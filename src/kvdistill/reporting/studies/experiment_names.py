"""The experiment of a run, by its resolved configuration alone."""

from collections.abc import Mapping
from typing import Any

EXPERIMENTS = {
    "E1": "baseline: latents with CE and CODI only",
    "E2": "full KV",
    "E3": "right-crop KV",
    "E4": "R-KV",
    "E5": "shuffled KV (negative control)",
    "direct": "reference: answers without a chain of thought",
    "CoT": "reference: chain of thought",
}
"""The known experiments with a description. Other runs get a row of their own and take part in no claim."""
_METHODS = {"full": "E2", "right_crop": "E3", "rkv": "E4"}


def classify(config: Mapping[str, Any]) -> str:
    """The experiment of a resolved configuration: a key of ``EXPERIMENTS``, or a descriptive name.

    The experiments are self-distillation: a run with other teachers is named after them.

    Raises:
        ValueError: if a deciding option is missing.
    """
    task = option(config, "training.task")
    if task != "latent":
        return {"direct": "direct", "cot": "CoT"}.get(task, f"task {task}")
    method, control = option(config, "target.method.kind"), option(config, "target.control.kind")
    name = method
    if control != "none":
        name = f"{method}, {control}"
    teachers = _teachers(config)
    if teachers:
        name = f"{name}, {teachers}"
    if option(config, "loss.kv_weight") == 0:
        if option(config, "loss.attention_weight") == 0:
            return "E1"
        return f"attention KL alone ({name})"
    if teachers:
        return name
    if control == "shuffled":
        return "E5"
    return _METHODS.get(name, name)


def option(config: Mapping[str, Any], name: str) -> Any:
    """The value of an option by its dotted name.

    Raises:
        ValueError: if there is none.
    """
    value: Any = config
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise ValueError(
                f"run.json: the configuration lacks {name}. Train again, or move the folder away."
            )
        value = value[part]
    return value


def _teachers(config: Mapping[str, Any]) -> str:
    """The separate teachers of a run and its bridge; empty for self-distillation.

    Runs of earlier versions have neither ``teachers`` nor ``bridge``.
    """
    sections = dict(config.get("teachers") or {})
    if config.get("teacher"):
        sections["teacher"] = config["teacher"]
    active = {name: section for name, section in sections.items() if section.get("weight", 1.0) > 0}
    if all(section.get("kind") == "own" for section in active.values()):
        return ""
    bridge = "lift"
    if len(active) > 1:
        bridge = "lower"
    if config.get("bridge"):
        bridge = config["bridge"]["kind"]
    return f"{' + '.join(sorted(active))} ({bridge})"
