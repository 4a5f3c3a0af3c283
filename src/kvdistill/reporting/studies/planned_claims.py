"""The claims of a study's plan, judged over its runs as one family."""

from collections.abc import Container, Mapping, Sequence

import numpy as np

from kvdistill.records.study import ClaimPlan, StudyPlan
from kvdistill.reporting.studies.arm_runs import ArmRun
from kvdistill.reporting.studies.claims import ComparedClaim, Question
from kvdistill.reporting.studies.falls import FALL_DELTA, FallingClaim
from kvdistill.reporting.studies.family import ClaimForm, judge_forms
from kvdistill.reporting.studies.gains import GainClaim
from kvdistill.reporting.studies.judged import JudgedClaim, LossEnds, Measure, Values

DELTAS: dict[Measure, float] = {"accuracy": 0.02, "nats": 0.05, "area": 0.02, "roughness": 0.02}
"""Smallest differences that matter where the study file gives none."""


def judge_planned(
    plan: StudyPlan, runs: Sequence[ArmRun], values: Values, held_back: Container[int]
) -> list[JudgedClaim]:
    """Judge the claims of a plan, with Holm over all of them whatever their form.

    Args:
        plan: the study's plan.
        runs: the runs that count.
        values: measured values by arm, measure and seed.
        held_back: seeds that are not waited for, since a warm start of theirs ended too low.
    """
    deltas = _deltas(plan, runs)
    ends: dict[str, dict[int, Mapping[str, LossEnds]]] = {}
    for run in runs:
        ends.setdefault(run.arm, {})[run.record.seed] = run.losses
    planned = {name: [seed for seed in arm.seeds if seed not in held_back] for name, arm in plan.arms.items()}
    forms: list[ClaimForm] = []
    for claim in plan.claims:
        if claim.falls is not None:
            delta = claim.delta or FALL_DELTA
            forms.append(
                FallingClaim(title=claim.title, plans=claim.falls, ends=ends, planned=planned, delta=delta)
            )
        elif claim.gains is not None:
            least, hoped_for = claim.target or (0.0, 0.0)
            target = (least, hoped_for)
            forms.append(GainClaim(title=claim.title, plans=claim.gains, values=values, target=target))
        else:
            forms.append(
                ComparedClaim(title=claim.title, questions=_questions(claim), values=values, deltas=deltas)
            )
    return judge_forms(forms)


def _deltas(plan: StudyPlan, runs: Sequence[ArmRun]) -> dict[Measure, float]:
    """The smallest difference that matters, by measure; of steps, the median evaluation interval."""
    gaps = [gap for run in runs if run.curve is not None for gap in np.diff(run.curve.steps)]
    steps: dict[Measure, float] = {"steps_to_90": float(np.median(gaps or [1.0]))}
    return {name: plan.delta.get(name, delta) for name, delta in (DELTAS | steps).items()}


def _questions(claim: ClaimPlan) -> tuple[Question, ...]:
    """The comparisons of a claim; of ``steps_to_90``, where less is better, the two sides change places."""
    questions = []
    for stated in claim.comparisons:
        sides = stated.first, stated.second
        if stated.measure == "steps_to_90":
            sides = stated.second, stated.first
        questions.append(Question(*sides, stated.kind, stated.measure, stated.delta))
    return tuple(questions)
