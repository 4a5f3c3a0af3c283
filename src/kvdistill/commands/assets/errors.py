"""Errors of the Hugging Face hub as one sentence with a remedy."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from datasets.exceptions import DatasetNotFoundError, DatasetsError
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx

from kvdistill.console.messages import did_you_mean

Kind = Literal["model", "dataset"]
AGAIN = "run the same command again: files that have arrived are not downloaded twice."
RESUME = f"To resume, {AGAIN}"
_NOUNS: dict[Kind, str] = {"model": "model", "dataset": "data set"}
_PAGES: dict[Kind, str] = {"model": "", "dataset": "datasets/"}
"""Where the hub's pages are, below its address."""


class HubError(ValueError):
    """A hub asset that cannot be fetched; the message names it and the remedy."""


@contextmanager
def in_words(kind: Kind, name: str) -> Iterator[None]:
    """Turn errors of the hub's libraries inside the block into a :class:`HubError`.

    Args:
        kind: ``model`` or ``dataset``.
        name: the hub name, for the message.

    Raises:
        HubError: for every error of network, hub, login, name, disk or data format.
    """
    try:
        yield
    except HubError:
        raise
    except (OSError, ValueError, httpx.HTTPError, DatasetsError) as error:
        raise HubError(_sentence(kind, name, error)) from error


def _sentence(kind: Kind, name: str, error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, GatedRepoError) or (isinstance(error, DatasetNotFoundError) and "gated" in reason):
        return (
            f"{name} is gated. Accept its licence at {_page(kind, name)} with your account, log in here "
            "with `hf auth login` "
            f"(a token that may read gated repositories), and {AGAIN}"
        )
    if isinstance(error, RepositoryNotFoundError | DatasetNotFoundError):
        return (
            f"The hub shows no {_NOUNS[kind]} {name}.{_near(kind, name)} Check the spelling (owner/name); if "
            "it is private, "
            "log in with `hf auth login`."
        )
    if isinstance(error, RevisionNotFoundError):
        return (
            f"{name} has no such revision ({reason}). Look at {_page(kind, name)}, or leave --revision "
            "out: then main is taken."
        )
    if isinstance(error, HFValidationError):
        return (
            f"{name!r} is no name of the hub ({reason}). Write owner/name, such as "
            "Qwen/Qwen2.5-7B-Instruct or openai/gsm8k."
        )
    return _no_answer(name, error, reason)


def _no_answer(name: str, error: Exception, reason: str) -> str:
    if isinstance(error, HfHubHTTPError):
        remedy = "Wait a little, and"
        if error.response.status_code in (401, 403):
            remedy = "Log in again with `hf auth login`, and"
        return f"{name}: the hub refused ({reason}). {remedy} {AGAIN}"
    if not isinstance(error, httpx.HTTPError | ConnectionError | TimeoutError | LocalEntryNotFoundError):
        return f"{name}: {reason}"
    if constants.is_offline_mode():
        return (
            f"{name} cannot be fetched: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set. Where there is a "
            "network (on a cluster: "
            "the login node), run `unset HF_HUB_OFFLINE TRANSFORMERS_OFFLINE`, then the same command."
        )
    return (
        f"{name}: {constants.ENDPOINT} cannot be reached ({reason}). Check the network (behind a proxy: "
        "HTTPS_PROXY; "
        f"another endpoint: HF_ENDPOINT; on a cluster: the login node), and {AGAIN}"
    )


def _page(kind: Kind, name: str) -> str:
    return f"{constants.ENDPOINT}/{_PAGES[kind]}{name}"


def _near(kind: Kind, name: str) -> str:
    """Similar names, from the same owner or the hub's own search; empty where the hub does not answer."""
    api = HfApi()
    listed = {"model": api.list_models, "dataset": api.list_datasets}[kind]
    owner, _, base = name.rpartition("/")
    try:
        known = set()
        if owner:
            known = {found.id for found in listed(author=owner, limit=1000)}
        known |= {found.id for found in listed(search=base, limit=20)}
    except (OSError, httpx.HTTPError):
        return ""
    return did_you_mean(name, known, "{}", most=3)
