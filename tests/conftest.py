"""What every test stands on: shapes checked at run time, fixed seeds, no network, one thread."""

import os
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

# Read by the libraries when they are imported, so they are set before.
os.environ.update(
    HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false"
)

import jaxtyping

jaxtyping.install_import_hook("kvdistill", "beartype.beartype")

import hypothesis
import numpy as np
import pytest
import torch

if TYPE_CHECKING:
    from pico_hub import Hub

ROOT = Path(__file__).resolve().parents[1]
REPEATS = {"small": 20, "large": 1000}
T = TypeVar("T")

torch.set_num_threads(1)
hypothesis.settings.register_profile("small", max_examples=REPEATS["small"], deadline=None, derandomize=True)
hypothesis.settings.register_profile("large", max_examples=REPEATS["large"], deadline=None)


def chosen_repeats() -> str:
    """The value of KVDISTILL_REPEATS, checked."""
    chosen = os.environ.get("KVDISTILL_REPEATS", "small")
    if chosen not in REPEATS:
        raise pytest.UsageError(f"KVDISTILL_REPEATS is {chosen!r}; set it to one of {', '.join(REPEATS)}.")
    return chosen


hypothesis.settings.load_profile(chosen_repeats())


def sampled(cases: Iterable[T], small: int = 1) -> list[T]:
    """The first ``small`` cases of a slow test that repeats one fault, or all of them where
    KVDISTILL_REPEATS=large.
    """
    return list(cases)[: None if chosen_repeats() == "large" else small]


@pytest.fixture(scope="session")
def repeats() -> int:
    """How many random cases a test tries: 20, or 1000 where KVDISTILL_REPEATS=large."""
    return REPEATS[chosen_repeats()]


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Every test starts from the same random numbers, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real data sets and tokenizers; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("KVDISTILL_SHARED_DATA", ROOT / "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(
            f"no real data at {folder}: name its folder in the environment variable KVDISTILL_SHARED_DATA"
        )
    return folder


@pytest.fixture(scope="session")
def session_tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that lasts as long as the run, for what several tests share."""
    return tmp_path_factory.mktemp("session")


@pytest.fixture
def local_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Iterator[Hub]":
    """A hub on this machine, which the libraries of this process ask instead of the real one: it and the
    cache are empty, and nothing is offline.
    """
    from datasets import config
    from huggingface_hub import constants

    from pico_hub import hub

    with hub(tmp_path / "hub") as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr("transformers.utils.hub._hf_api", None)  # made once, with the address of then
        monkeypatch.setattr(config, "HF_ENDPOINT", server.url)
        monkeypatch.setattr(config, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "tables")
        yield server
