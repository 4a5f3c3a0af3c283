"""A student that reasons in its latent slots, and the questions that it answers right."""

import pytest

import pico_trained
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.text import Encoded


@pytest.fixture(scope="module")
def model() -> LatentReasoner:
    """A trained student of the test file."""
    return pico_trained.trained()


@pytest.fixture(scope="module")
def samples(model: LatentReasoner) -> tuple[Encoded, ...]:
    """All questions of its task."""
    return pico_trained.samples(model)
