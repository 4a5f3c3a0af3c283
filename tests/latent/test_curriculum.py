"""Stages of training: passes, words, and how they are drawn."""

from collections import Counter

import pytest
import torch

import pico
from kvdistill.latent.curriculum import Stage, Stages, with_words


def test_the_published_stages_by_hand() -> None:
    """LOTUS: six passes, one epoch of 30 per stage; epochs 0 to 5 have 1 to 6 passes, all others 6."""
    found = [Stages().stage((epoch + 0.5) / 30, 6, 0).passes for epoch in range(30)]
    assert found == [1, 2, 3, 4, 5] + [6] * 25
    coconut = Stages(start=2, increment=2, share=1.0, words=True)
    assert [coconut.stage(p, 6, 0) for p in (0.0, 0.4, 0.9)] == [Stage(2, 1), Stage(4, 2), Stage(6, None)]


def test_stages_begin_at_the_start_and_end_at_the_share() -> None:
    stages = Stages(start=2, share=1.0)
    passes = [stages.stage(progress, 4, 0).passes for progress in (0.0, 0.3, 0.34, 0.6, 0.67, 1.0)]
    assert passes == [2, 2, 3, 3, 4, 4]
    assert Stages(start=3).stage(0.0, 3, 0) == Stage(3, None)
    uneven = Stages(start=1, increment=2, share=1.0)
    assert [uneven.stage(progress, 4, 0).passes for progress in (0.0, 0.4, 0.9)] == [1, 3, 4]


def test_passes_may_be_dropped() -> None:
    stages = Stages(start=4, share=1.0)
    assert [stages.stage(progress, 2, 0).passes for progress in (0.0, 0.4, 0.9)] == [4, 3, 2]
    with pytest.raises(ValueError, match="more than latent.passes = 2"):
        Stages(start=4, words=True).check(4, 2, "shift")
    with pytest.raises(ValueError, match="with 4 slots"):
        Stages(start=5).check(4, 2, "shift")
    Stages(start=5).check(4, 2, "blocks")


def test_mixed_stages_are_drawn_in_proportion_and_leave_the_generators_alone() -> None:
    """Of three stages 1/6, 2/6, 3/6; of those begun at the middle of the share, 1/3 and 2/3."""
    state = torch.get_rng_state()
    stages = Stages(mix=True, share=0.5)
    late = Counter(stages.stage(0.9, 3, step).passes for step in range(6000))
    assert [late[passes] / 6000 for passes in (1, 2, 3)] == pytest.approx([1 / 6, 2 / 6, 3 / 6], abs=0.02)
    early = Counter(stages.stage(0.25, 3, step).passes for step in range(6000))
    assert [early[passes] / 6000 for passes in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 0], abs=0.02)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("side", ["right", "left"])
def test_words_are_the_steps_that_are_not_replaced(side: str) -> None:
    """Every third token of the samples ends a step."""
    batch = pico.batch(pico.samples(3), side)
    found = with_words(batch, 1).student_mode
    for sample, row in enumerate(pico.samples(3)):
        assert tuple(found.cot.ids[sample][found.cot.mask[sample]].tolist()) == row["cot"][3:]
    assert with_words(batch, None) is batch


def test_settings_without_a_pass_or_a_length_are_refused() -> None:
    for settings, message in (
        ({"start": 0}, "start is 0"),
        ({"share": 0.0}, "share is 0"),
        ({"share": 2.0}, "2.0"),
    ):
        with pytest.raises(ValueError, match=message):
            Stages(**settings)
