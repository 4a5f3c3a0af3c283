"""The claims of a study's report: verdicts with all their numbers."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from kvdistill.console.wording import counted
from kvdistill.reporting.blocks import Block, Table, Words
from kvdistill.reporting.drawing import draw
from kvdistill.reporting.page import Section
from kvdistill.reporting.studies.arms import StudyNumbers
from kvdistill.reporting.studies.claim_blocks import FALL_RULE, GAIN_RULE, fall_blocks, gain_blocks
from kvdistill.reporting.studies.claim_sections import DETECTABLE, HEADER, RULES, comparison_cells
from kvdistill.reporting.studies.figures import forest
from kvdistill.reporting.studies.judged import JudgedClaim


def claims(numbers: StudyNumbers, figures: Path) -> list[Section]:
    """One section per claim with its verdict, and one on how verdicts are made; empty without claims.

    Args:
        numbers: the study's numbers.
        figures: prefix of the figures' file names.
    """
    if not numbers.claims:
        return []
    sections = [
        Section(
            f"Claim {place}. {claim.title}: {claim.outcome.upper()}",
            [
                *_numbers(claim),
                *_needs(claim.p_value, claim.waits_for, claim.further_seeds, len(numbers.claims)),
            ],
        )
        for place, claim in enumerate(numbers.claims, start=1)
    ]
    blocks: list[Block] = [
        Words(
            "Differences are paired by seed. In steps, less is better, so the sides are exchanged; runs that "
            "never reached the goal count with their last step. A comparison is judged by its interval:"
        ),
        Table(("comparison", "supported", "not supported"), RULES, words=True),
        Words(
            "A claim is supported if all of its comparisons are and its p-value, the largest of theirs after "
            f"Holm over {counted(len(numbers.claims), 'claim')}, is below 0.05. It is not supported if any "
            f"comparison is not. Else it is inconclusive. {DETECTABLE}."
        ),
    ]
    if any(claim.falls is not None for claim in numbers.claims):
        blocks.append(Words(FALL_RULE))
    if any(claim.gains is not None for claim in numbers.claims):
        blocks.append(Words(GAIN_RULE))
    if any(c.mean is not None for claim in numbers.claims for c in claim.comparisons):
        caption = "Every comparison in units of its δ: its 95 % interval, and the bound it has to clear."
        paint = partial(forest, numbers.claims)
        blocks.append(draw(paint, figures.with_name(f"{figures.name}claims.svg"), caption))
    return [*sections, Section("How verdicts are made", blocks)]


def _numbers(claim: JudgedClaim) -> list[Block]:
    """The numbers of a claim, by its form."""
    if claim.falls is not None:
        return fall_blocks(claim.falls)
    if claim.gains is not None:
        return gain_blocks(claim.gains, claim.target or [])
    return [Table(HEADER, [comparison_cells(comparison) for comparison in claim.comparisons])]


def _needs(
    p_value: float | None, waits_for: Sequence[str], further_seeds: int | None, num_claims: int
) -> list[Words]:
    said = []
    if p_value is not None:
        said.append(f"p = {p_value:.2g} after Holm over {counted(num_claims, 'claim')}.")
    if waits_for:
        said.append(f"It waits for {', '.join(waits_for)}.")
    if further_seeds is not None:
        said.append(f"It needs {further_seeds} more seeds.")
    if not said:
        return []
    return [Words(" ".join(said))]
