"""Data sets on the Hugging Face hub, or local folders laid out like them."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kvdistill.console.extras import how_to_install, missing_packages
from kvdistill.data.rows import BadRow, DataError, Loaded, Origin, Row
from kvdistill.data.sources import Source, examples_of


@dataclass(frozen=True, kw_only=True)
class Hub:
    """One split of a data set, such as ``Hub(name="openai/gsm8k", config="main")``."""

    name: str
    """``owner/name``, or a local folder of data files."""
    config: str | None = None
    split: str = "train"

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(filter(None, (self.config, self.split)))})"

    @property
    def origin(self) -> Origin:
        """How the rows are named in messages: ``openai/gsm8k (main, train), row 17``."""
        return Origin(str(self), "row", f"{self.name.rstrip('/').rpartition('/')[2]}-{self.split}")

    def rows(self, state: dict[str, Any] | None = None) -> Iterator[tuple[Row | BadRow, dict[str, Any]]]:
        """Stream the rows.

        Args:
            state: where a previous reading stopped; None starts from the first row.

        Returns:
            An iterator over each row with the state that resumes reading behind it.

        Raises:
            DataError: as ``open`` does, or if the state belongs to another data set.
        """
        if state is not None and state["name"] != str(self):
            raise DataError(
                f"{self}: the reading to be continued was of {state['name']}. Name that data set again, or "
                "start again."
            )
        rows, before = self.open(streaming=True), 0
        if state is not None:
            rows.load_state_dict(state["rows"])
            before = state["row"]
        for number, fields in enumerate(rows, start=before + 1):
            yield (
                self.origin.row(number, fields),
                {"name": str(self), "row": number, "rows": rows.state_dict()},
            )

    def open(self, streaming: bool) -> Any:
        """Open the split with ``datasets``.

        Args:
            streaming: read rows on demand, without downloading the complete split first.

        Returns:
            A ``datasets.Dataset``, with ``streaming`` an ``IterableDataset``.

        Raises:
            DataError: if it cannot be reached or may not be read, or has no such configuration or split (the
                message lists what it has), or if the extra ``hub`` is not installed.
        """
        if missing_packages("hub"):
            raise DataError(f"{self}: a data set of the hub needs an extra: {how_to_install('hub')}")
        from datasets import load_dataset  # takes half a second, which runs on files save
        from datasets.exceptions import DatasetsError
        from huggingface_hub.utils import httpx

        try:
            return load_dataset(self.name, self.config, split=self.split, streaming=streaming)
        except (ConnectionError, httpx.HTTPError) as error:
            raise DataError(
                f"{self}: the hub cannot be reached ({error}). Connect to the network and unset "
                "HF_HUB_OFFLINE, or name a folder or file "
                "that is here."
            ) from error
        except (OSError, DatasetsError, RuntimeError, ValueError) as error:
            raise DataError(f"{self}: {_in_words(error, self)}") from error


def read_hub(hub: Hub, format: str | Source = "auto") -> Loaded:
    """Read a data set on the hub.

    Args:
        hub: the split to read.
        format: as in ``load``.

    Returns:
        The examples, and the rows that cannot be used.

    Raises:
        DataError: as ``Hub.open`` and ``load`` do.
    """
    rows: Iterable[dict[str, object]] = hub.open(streaming=False)
    return examples_of(
        [hub.origin.row(number, fields) for number, fields in enumerate(rows, start=1)], format, str(hub)
    )


def _in_words(error: Exception, hub: Hub) -> str:
    """Cause and remedy of an error of ``datasets``, recognized by phrases of its message."""
    said = str(error)
    listed = re.search(r"(?<=\[)'.*?'(?=\])", said)
    choose = "Set"
    if listed:
        choose = f"Choose {listed[0]} as"
    causes = {
        "Config name is missing": f"the data set has several configurations. {choose} its config "
        "(--dataset_config).",
        "BuilderConfig": f"there is no configuration {hub.config!r}. {choose} its config (--dataset_config).",
        "Unknown split": f"there is no split {hub.split!r}. {choose} its split (--dataset_split).",
        "Bad split": f"there is no split {hub.split!r} to stream. {choose} its split (--dataset_split).",
        "gated": "the data set is open only to those whom its owner admits. Ask for access on its page, "
        "then log in with `hf auth login`.",
        "scripts": "the data set needs code of its own to be read, which is never run. Use a copy of it in "
        "Parquet or JSON.",
        "doesn't exist": "there is no such data set, or it is private. Check the name; log in with `hf auth "
        "login` where it is yours.",
        "Couldn't find": "there is no such data set here. Check the name, or the path of the folder.",
    }
    known = next((words for phrase, words in causes.items() if phrase in said), None)
    reason = " ".join(f"{said} {error.__cause__ or ''}".split())
    return known or f"the data set cannot be read ({reason}). Check its files, or use another copy."
