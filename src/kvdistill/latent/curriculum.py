"""Curriculum: stages of training that differ in passes, and in the steps that are still written out."""

import random
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch

from kvdistill.text import Batch, Padded


class Stage(NamedTuple):
    """What one step of training computes."""

    passes: int
    """Passes over the slots, T."""
    replaced: int | None
    """Reasoning steps that the slots replace, from the first; None where no step is written out."""


@dataclass(frozen=True, kw_only=True)
class Stages:
    """Passes go from ``start`` to ``latent.passes`` in stages of equal length, at the beginning of training.

    With ``words``, student mode reads the steps that are not yet replaced as words, after its slots: stage k
    replaces the first k steps, the last stage all of them. Evaluations always use all passes and no words,
    also those during training: accuracy may fall at first, and recovers after the last stage.

    As published: LOTUS: 1 to 6 passes with words, one epoch of 30 per stage (``start`` 1, ``share`` 0.2).
    Coconut: 2 passes more per stage (``start`` 2, ``increment`` 2), 3 stages of 3 epochs before the last, one
    slot after another. Data mixing: stage i, from 0, with a probability proportional to i + 1.

    Source: Coconut, https://arxiv.org/abs/2412.06769, section 3; LOTUS, https://arxiv.org/abs/2606.31779,
    section 3. Differs: the number of slots is the same in all stages, where theirs grows with the passes, and
    the optimizer is not reset. Mixing draws one stage for each step of training, not for each sample.
    """

    kind: Literal["stages"] = "stages"
    start: int = 1
    """Passes of the first stage; above ``latent.passes``, passes are dropped stage by stage."""
    increment: int = 1
    """Passes that each stage adds (or drops)."""
    share: float = 0.2
    """Share of training that the stages take together; after it, the last one continues to the end."""
    words: bool = False
    """Write out the reasoning steps that a stage does not replace."""
    mix: bool = False
    """Draw a step's stage from those begun so far, later ones more often."""

    def __post_init__(self) -> None:
        """Refuse stages without a pass or without a length."""
        if self.start < 1 or self.increment < 1:
            raise ValueError(
                f"latent.curriculum: start is {self.start} and increment {self.increment}. Choose 1 or more."
            )
        if not 0 < self.share <= 1:
            raise ValueError(
                f"latent.curriculum.share is {self.share}. Choose a share of training above 0 and up to 1."
            )

    def check(self, slots: int, passes: int, layout: str) -> None:
        """Refuse a start that does not fit the slots, and words where passes are dropped.

        Args:
            slots: Number of latent slots, M.
            passes: Passes of the last stage, T.
            layout: ``shift`` or ``blocks``.

        Raises:
            ValueError: naming the option to change.
        """
        if layout == "shift" and self.start > slots:
            raise ValueError(
                f"latent.curriculum.start is {self.start} with {slots} slots: after {slots} passes every "
                "slot is final; lower it"
            )
        if self.words and self.start > passes:
            raise ValueError(
                f"latent.curriculum.start is {self.start}, more than latent.passes = {passes}: where passes "
                "are dropped, no step is written out; lower it, or leave latent.curriculum.words out"
            )

    def stage(self, progress: float, passes: int, step: int) -> Stage:
        """The stage of a step of training.

        Args:
            progress: Share of training that is done, 0 to 1.
            passes: ``latent.passes``, T of the last stage.
            step: Optimizer steps done; seed of the draw with ``mix``.

        Returns:
            Passes from ``start`` to ``passes``, and the steps that the slots replace.
        """
        # Distance from start to the end in increments, rounded up: the last one may be smaller.
        last = -(-abs(passes - self.start) // self.increment)
        number = min(last, int(progress / self.share * (last + 1)))
        if self.mix:
            # One generator per step, the same on all processes; the global one is left alone.
            begun = range(number + 1)
            weights = [i + 1 for i in begun]
            (number,) = random.Random(f"stages/{step}").choices(begun, weights)
        replaced = None
        if self.words and number < last:
            replaced = number + 1
        if number == last:
            return Stage(passes, replaced)
        direction = 1
        if passes < self.start:
            direction = -1
        return Stage(self.start + direction * number * self.increment, replaced)


def with_words(batch: Batch, replaced: int | None) -> Batch:
    """Let student mode read the later steps of its chain of thought after the slots.

    Args:
        batch: B samples with chains of thought of N tokens.
        replaced: Number of steps, from the first, that are not read; None reads none.

    Returns:
        The batch, whose student mode has a chain of thought where ``replaced`` is a number.
    """
    if replaced is None:
        return batch
    read = batch.teacher_mode
    mask = read.cot.mask & (read.step >= replaced)
    student = replace(
        batch.student_mode,
        cot=Padded(read.cot.ids, mask),
        step_end=read.step_end & mask,
        spans=read.spans * mask[..., None],
        step=torch.where(mask, read.step, -1),
    )
    return replace(batch, student_mode=student)
