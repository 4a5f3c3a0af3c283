"""Checks of ``training.cuda_graphs``: what changes from step to step cannot be replayed."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvdistill.config.sections import RunConfig

WIDTH = 16
"""Default of ``training.pad_to_multiple_of`` with CUDA graphs, in tokens."""


def check_graphs(config: "RunConfig") -> None:
    """Refuse CUDA graphs where a step depends on more than its batch.

    Args:
        config: the run's configuration.

    Raises:
        ValueError: naming the option that does not go with ``training.cuda_graphs``.
    """
    if not config.training.cuda_graphs:
        return
    clashes = {
        "latent.curriculum changes the passes from step to step": config.latent.curriculum is not None,
        "target.control chooses its partners by the number of the step": config.target.control.kind != "none",
        "fusion.kind draw chooses a teacher by the number of the step": config.fusion.kind == "draw",
        "bridge.kind lift keeps its weights on the host": config.bridge_method.kind == "lift"
        and config.reads_teachers,
        "training.gradient_checkpointing reads random states while it computes": (
            config.training.gradient_checkpointing
        ),
        "training.precision fp16 scales the loss before the gradients": config.training.precision == "fp16",
        "model.device_map spreads the student over devices": config.model.device_map is not None,
    }
    for reason, clash in clashes.items():
        if clash:
            raise ValueError(f"training.cuda_graphs does not fit this run: {reason}; leave one of them out")


def pad_width(config: "RunConfig") -> int:
    """Tokens to whose multiples the segments of a training batch are padded; 1 pads to the longest only.

    Args:
        config: the run's configuration.

    Returns:
        ``training.pad_to_multiple_of``; by default 16 with CUDA graphs, else 1.
    """
    given = config.training.pad_to_multiple_of
    if given is not None:
        return given
    if config.training.cuda_graphs:
        return WIDTH
    return 1
