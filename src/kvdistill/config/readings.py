"""Checks of teachers that read another text than the student."""

from typing import TYPE_CHECKING, Literal

from kvdistill.align import Learned
from kvdistill.align.time_align import NearestSlot, SlotMatch
from kvdistill.target.methods import Lower

if TYPE_CHECKING:
    from kvdistill.config.sections import RunConfig


def other_texts(config: "RunConfig") -> list[str]:
    """The active teachers that read another text than the student.

    Args:
        config: the run's configuration.

    Returns:
        Their short names.
    """
    return [name for name, section in config.live_teachers.items() if section.reads != "gold"]


def sampled_files(config: "RunConfig") -> list[str]:
    """The files from which training rows without a chain of thought get one.

    Args:
        config: the run's configuration.

    Returns:
        ``data.traces``; where that is not set, the files of the teachers with ``reads = "own"``, each once.
    """
    if config.data.traces is not None:
        return list(config.data.traces)
    found: dict[str, None] = {}
    for section in config.live_teachers.values():
        if section.traces is not None:
            found[section.traces] = None
    return list(found)


def order_of(config: "RunConfig") -> Literal["align_first", "compress_first"]:
    """The order of alignment and compression.

    Args:
        config: the run's configuration.

    Returns:
        ``bridge.order``; by default ``compress_first`` where a teacher reads another text.
    """
    method = config.bridge_method
    if isinstance(method, Lower) and method.order is not None:
        return method.order
    if other_texts(config):
        return "compress_first"
    return "align_first"


def match_of(config: "RunConfig") -> SlotMatch:
    """How the slots of texts that differ are matched.

    Args:
        config: the run's configuration.

    Returns:
        ``bridge.match`` of a bridge that lowers teachers, else its default.
    """
    method = config.bridge_method
    if isinstance(method, Lower):
        return method.match
    return NearestSlot()


def check_readings(config: "RunConfig") -> None:
    """Refuse what does not work where texts differ, or where caches are compressed first.

    Args:
        config: the run's configuration.

    Raises:
        ValueError: naming the option and what to set it to.
    """
    if not config.reads_teachers or not isinstance(config.bridge_method, Lower):
        return
    others = other_texts(config)
    if order_of(config) == "align_first":
        if others:
            raise ValueError(
                f"bridge.order align_first aligns tokens of one text, and teachers.{others[0]}.reads names "
                "another: set bridge.order to compress_first, or leave it out"
            )
        return
    _compressible(config)
    if config.loss.kv.frame == "as_cached":
        raise ValueError(
            "bridge.order compress_first fuses slots of texts that differ, which have no positions in "
            "common: set loss.kv.frame to pre_rope"
        )
    for name, section in config.active_teachers.items():
        if isinstance(section.adapter, Learned):
            raise ValueError(
                f"teachers.{name}.adapter.kind learned compares caches token by token, and bridge.order "
                "compress_first has slots: set it to ridge"
            )


def _compressible(config: "RunConfig") -> None:
    method = config.target.method
    if method.keeps_tokens:
        raise ValueError(
            f"bridge.order compress_first matches slots, and target.method.kind {method.kind} keeps every "
            "token: set it to another compressor, such as step_end or uniform"
        )
    if not method.same_in_all_heads:
        raise ValueError(
            "bridge.order compress_first maps all heads of a slot together, and target.method.selection "
            f"per_head keeps other tokens in each head: set target.method.selection to shared (kind "
            f"{method.kind})"
        )
