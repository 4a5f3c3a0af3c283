"""Settings of sampling."""

import pytest

from kvdistill.config import Sampling


def test_what_the_result_depends_on() -> None:
    assert Sampling().identity == Sampling(batch_size=1, min_right=2).identity
    assert Sampling().identity != Sampling(top_p=0.9).identity
    assert list(Sampling().identity) == ["num_samples", "temperature", "top_p", "max_new_tokens", "seed"]


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="min_right is 9, and only num_samples = 8 chains are drawn"):
        Sampling(min_right=9)
    with pytest.raises(ValueError, match="temperature"):
        Sampling(temperature=0.0)
