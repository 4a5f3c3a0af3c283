"""Sections of the data sets: which rows are read, and how they become text."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kvdistill.config.section import Section, UserPath
from kvdistill.data.arith import Arith
from kvdistill.data.chain import Chain
from kvdistill.data.rules import Rules
from kvdistill.data.split import Split
from kvdistill.data.template import Chat, Plain


class Rows(Section):
    """Options shared by file and hub data sets."""

    limit: int | None = Field(default=None, ge=1, le=10**12)
    """Use only the first rows."""
    streaming: bool = False
    """Read while training, for data larger than memory; shuffled in windows of 50 batches."""


class FileData(Rows):
    """Rows of a file."""

    kind: Literal["file"] = "file"
    path: UserPath = Field(min_length=1)
    """A file, or several by a pattern such as ``data/part-*.jsonl``."""
    format: str = "auto"


class HubData(Rows):
    """Rows of a data set on the Hugging Face hub, or of a local folder laid out like one."""

    kind: Literal["hub"] = "hub"
    name: UserPath
    config: str | None = None
    split: str = "train"
    format: str = "auto"


class SyntheticData(Section):
    """Examples of a generated task, made from a seed without any download."""

    kind: Literal["synthetic"] = "synthetic"
    task: Annotated[Chain | Arith | Rules, Field(discriminator="kind")] = Chain()
    num: int = Field(default=2048, ge=1, le=10**7)
    split: Split = "train"
    seed: int = Field(default=0, ge=-(2**63), lt=2**63)


DataSet = Annotated[FileData | HubData | SyntheticData, Field(discriminator="kind")]


class DataSection(Section):
    """Data sets of the run, and how their rows become text."""

    train: DataSet
    """Training set: a file, a data set on the hub, or a generated task."""
    validation: DataSet | None = None
    test: DataSet | None = None
    template: Annotated[Plain | Chat, Field(discriminator="kind")] | None = None
    """Default: the tokenizer's chat template where it has one, else plain."""
    gold_share: float = Field(default=1.0, ge=0, le=1)
    """Share of the training questions that keep their chain of thought; the others have an answer only."""
    traces: list[UserPath] | None = None
    """Files or folders of `kvdistill sample` from which training rows without a chain get one; default: those
    of the teachers with ``reads = "own"``.
    """
    drop_last_step: bool = False
    """Leave out the last reasoning step, as KaVa does on equation-only traces."""
    max_length: int | None = Field(default=1024, ge=8, le=2**24)
    """Longest example in tokens; longer ones are never truncated, see on_long."""
    on_long: Literal["drop", "error"] = "drop"
    """Examples longer than max_length: left out and counted, or an error."""
    max_bad_rows: float = Field(default=0.01, ge=0, le=1)
    """Largest share of malformed rows, which are left out and kept in quarantine; above it the run stops."""

    @model_validator(mode="after")
    def _streams_train(self) -> "DataSection":
        for name in ("validation", "test"):
            if isinstance(data := getattr(self, name), FileData | HubData) and data.streaming:
                raise ValueError(
                    f"data.{name}.streaming: only training is streamed; data.{name}.limit keeps the "
                    "questions few"
                )
        streamed = isinstance(self.train, FileData | HubData) and self.train.streaming
        if streamed and (self.gold_share < 1 or self.traces):
            raise ValueError(
                "data.train.streaming: rows of a stream keep their own chains; leave data.gold_share and "
                "data.traces out, or read the data at once"
            )
        return self
