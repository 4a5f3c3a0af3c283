"""Right answers by depth, the number of dependent steps from question to answer."""

from collections.abc import Sequence

from kvdistill.records.schema import DepthCount
from kvdistill.text import Encoded


def count_by_depth(right: Sequence[bool], samples: Sequence[Encoded]) -> dict[int, DepthCount] | None:
    """Questions and right answers by number of dependent steps, in ascending order.

    Args:
        right: whether each question is answered correctly.
        samples: the questions; those of unknown depth are left out.

    Returns:
        Counts by depth; None where no depth is known.
    """
    by_depth: dict[int, list[bool]] = {}
    for is_correct, sample in zip(right, samples, strict=True):
        depth = sample.example.dependent_steps
        if depth is not None:
            by_depth.setdefault(depth, []).append(is_correct)
    counts = {depth: DepthCount(num=len(found), correct=sum(found)) for depth, found in by_depth.items()}
    return dict(sorted(counts.items())) or None
