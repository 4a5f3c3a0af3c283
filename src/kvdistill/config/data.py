"""The data sections: which rows are read, and how they become text."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kvdistill.config.section import Section, UserPath
from kvdistill.data.arith import Arith
from kvdistill.data.chain import Chain
from kvdistill.data.split import Split
from kvdistill.data.template import Chat, Plain


class Rows(Section):
    """What data sets of rows share."""

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
    """Rows of a data set on the hub, or in a folder of that form."""

    kind: Literal["hub"] = "hub"
    name: UserPath
    config: str | None = None
    split: str = "train"
    format: str = "auto"


class SyntheticData(Section):
    """The embedded task."""

    kind: Literal["synthetic"] = "synthetic"
    task: Annotated[Chain | Arith, Field(discriminator="kind")] = Chain()
    num: int = Field(default=2048, ge=1, le=10**7)
    split: Split = "train"
    seed: int = Field(default=0, ge=-(2**63), lt=2**63)


DataSet = Annotated[FileData | HubData | SyntheticData, Field(discriminator="kind")]


class DataSection(Section):
    """What is read, and how it becomes text."""

    train: DataSet
    validation: DataSet | None = None
    test: DataSet | None = None
    template: Annotated[Plain | Chat, Field(discriminator="kind")] | None = None
    """None takes the tokenizer's chat template where it has one."""
    drop_last_step: bool = False
    """Leave the last reasoning step out, as KaVa does on equation-only traces."""
    max_length: int | None = Field(default=1024, ge=8, le=2**24)
    """Longest example in tokens; longer ones are never cut."""
    on_long: Literal["drop", "error"] = "drop"
    """What becomes of longer ones: left out and counted, or an error."""
    max_bad_rows: float = Field(default=0.01, ge=0, le=1)
    """Share of malformed rows, which are left out and kept in quarantine, above which the run stops."""

    @model_validator(mode="after")
    def _streams_train(self) -> "DataSection":
        for name in ("validation", "test"):
            if isinstance(data := getattr(self, name), FileData | HubData) and data.streaming:
                raise ValueError(
                    f"data.{name}.streaming: only training is streamed; data.{name}.limit keeps the "
                    "questions few"
                )
        return self
