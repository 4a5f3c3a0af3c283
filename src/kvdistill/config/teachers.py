"""Teachers in a run's configuration: the student's own teacher mode, and separate models."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from kvdistill.align import AdapterMethod, Identity, LayerMethod, Ratio, Ridge
from kvdistill.align.rope_parameters import check_scaling
from kvdistill.config.section import Section, UserPath
from kvdistill.data.template import Chat, Plain


class OwnTeacher(Section):
    """The student's own teacher mode: self-distillation."""

    kind: Literal["own"] = "own"
    weight: float = Field(default=1.0, ge=0)
    """Weight among the teachers; 0 leaves this one out."""
    layers: Annotated[LayerMethod, Field(discriminator="kind")] = Ratio()
    """Which of the teacher's layers each layer of the student is compared with."""
    adapter: Annotated[AdapterMethod, Field(discriminator="kind")] = Identity()
    """How its cache becomes one in the student's heads and widths, where the bridge lowers teachers."""


class TeacherSection(Section):
    """A separate frozen teacher of any family, with its own tokenizer where that is not the student's.

    Without this section the student's own teacher mode is the teacher.
    """

    kind: Literal["live"] = "live"
    name: UserPath
    """Folder or hub name of a causal language model, or a checkpoint of kvdistill."""
    revision: str | None = None
    """Branch, tag or commit of a model on the hub; default: the newest."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attention: Literal["sdpa", "eager"] | None = None
    trust_remote_code: bool = False
    """Run code that comes with a model; off by default."""
    device: str | None = None
    """Device on which the teacher is loaded and stays (``cpu``, ``cuda:1``); default: the student's."""
    device_map: str | dict[str, str | int] | None = None
    """The same for a teacher on several devices: ``auto``, or a device for each part."""
    rope_scaling: dict[str, Any] | None = None
    """Rotary scaling at load, for texts longer than the teacher's window: ``rope_type`` (linear, ntk,
    dynamic, yarn, llama3, longrope), ``factor``, and further ``rope_parameters`` of transformers.
    """
    weight: float = Field(default=1.0, ge=0)
    """Weight among the teachers; one with weight 0 is not loaded."""
    tokens: Literal["average", "last"] = "average"
    """Teacher tokens that a student token gets where the tokenizers differ: the average of all that overlap
    it, or the one that ends last in it.
    """
    template: Annotated[Plain | Chat, Field(discriminator="kind")] | None = None
    """The prompt that the teacher reads; default: the student's."""
    cue: str | None = None
    """End of the question as this teacher reads it, such as a request for equations alone; default: the
    data's.
    """
    reads: str = Field(default="gold", min_length=1)
    """The chain of thought that it reads: ``gold``, the student's; ``own``, one of those in ``traces``; or
    the name of a trace of the data (``terse``, ``verbose``, ``words``, ``equations``).
    """
    traces: UserPath | None = None
    """For ``own``: the file or folder that ``kvdistill sample`` wrote."""
    draw: int | None = Field(default=None, ge=0)
    """For ``own``: the place of its chain in an order that is drawn for each question and epoch. Two teachers
    with draw 0 and 1 read different chains of a question; default: 0.
    """
    layers: Annotated[LayerMethod, Field(discriminator="kind")] = Ratio()
    """Which of the teacher's layers each layer of the student is compared with."""
    heads: Literal["all"] | tuple[Annotated[int, Field(ge=0)], ...] = "all"
    """Which of its key/value heads are read in every layer: all, or a list of indices from 0."""
    adapter: Annotated[AdapterMethod, Field(discriminator="kind")] = Ridge()
    """How its cache becomes one in the student's heads and widths, where the bridge lowers teachers."""

    @model_validator(mode="after")
    def _heads_once(self) -> "TeacherSection":
        if len(set(self.heads)) < len(self.heads) and self.heads != "all":
            raise ValueError(f"heads {list(self.heads)} names a head twice: give each once")
        if not self.heads:
            raise ValueError("heads is empty, so nothing of the teacher would be read: give one, or all")
        return self

    @model_validator(mode="after")
    def _loadable(self) -> "TeacherSection":
        if self.device is not None and self.device_map is not None:
            raise ValueError("device and device_map both name where the teacher is loaded: give one of them")
        if self.rope_scaling is not None:
            try:
                check_scaling(self.rope_scaling)
            except ValueError as error:
                raise ValueError(f"rope_scaling: {error}") from None
        if (self.reads == "own") != (self.traces is not None):
            raise ValueError(
                'reads = "own" and traces belong together: give the samples.jsonl of `kvdistill sample` as '
                "traces, or leave both out"
            )
        if self.draw is not None and self.reads != "own":
            raise ValueError('draw chooses among sampled chains: set reads = "own", or leave draw out')
        return self


AnyTeacher = Annotated[OwnTeacher | TeacherSection, Field(discriminator="kind")]
ShortName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,39}$")]
"""Name of a teacher in the configuration, in the columns of reports and in checkpoints."""


def live_of(teachers: Mapping[str, OwnTeacher | TeacherSection]) -> dict[str, TeacherSection]:
    """The teachers that are models of their own.

    Args:
        teachers: Sections by short name.

    Returns:
        Those of separate models, in the same order.
    """
    return {name: section for name, section in teachers.items() if isinstance(section, TeacherSection)}
