"""Passes of a step of training, stage by stage."""

import pytest

from kvdistill.latent.curriculum import GrowingPasses


def test_the_published_stages_by_hand() -> None:
    """Six passes, one epoch of 30 per stage: epochs 0 to 5 have 1 to 6 passes, all others 6."""
    found = [GrowingPasses().passes((epoch + 0.5) / 30, 6) for epoch in range(30)]
    assert found == [1, 2, 3, 4, 5] + [6] * 25


def test_stages_begin_at_the_start_and_end_at_the_share() -> None:
    stages = GrowingPasses(start=2, share=1.0)
    assert [stages.passes(progress, 4) for progress in (0.0, 0.3, 0.34, 0.6, 0.67, 1.0)] == [2, 2, 3, 3, 4, 4]
    assert GrowingPasses(start=3).passes(0.0, 3) == 3


def test_settings_without_a_pass_or_a_length_are_refused() -> None:
    for settings, message in (
        ({"start": 0}, "start is 0"),
        ({"share": 0.0}, "share is 0"),
        ({"share": 2.0}, "2.0"),
    ):
        with pytest.raises(ValueError, match=message):
            GrowingPasses(**settings)
