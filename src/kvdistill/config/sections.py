"""Sections of a run's configuration: model, latent slots, target, evaluation."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from kvdistill.compress import RKV, CompressorMethod
from kvdistill.config.data import DataSection, SyntheticData
from kvdistill.config.fusion import check_fusion, with_paths
from kvdistill.config.graphs import check_graphs
from kvdistill.config.readings import check_readings, order_of
from kvdistill.config.sampling import Sampling
from kvdistill.config.section import Section, UserPath
from kvdistill.config.teachers import AnyTeacher, OwnTeacher, ShortName, TeacherSection, live_of
from kvdistill.config.training import TrainingSection
from kvdistill.console.paths import expanded
from kvdistill.data.bpe import ByteBPE, MetaspaceBPE
from kvdistill.fuse.methods import Fixed, FusionMethod
from kvdistill.latent.curriculum import Stages
from kvdistill.latent.slots import check_slots
from kvdistill.losses.objective import Objective
from kvdistill.target.build import check_settings
from kvdistill.target.controls import Control, NoControl
from kvdistill.target.methods import BridgeMethod, Lift, Lower, Same

MOST_NEW_TOKENS = 2**17
"""Upper limit of ``max_new_tokens``: 128 Ki tokens, the context length of long-context models."""


class Lora(Section):
    """Train low-rank adapters and the embeddings of the new tokens; the backbone stays frozen.

    Source: https://arxiv.org/abs/2510.02312, table 6 (rank, alpha, dropout).
    """

    kind: Literal["lora"] = "lora"
    r: int = Field(default=128, ge=1, le=65536)
    alpha: int = Field(default=32, ge=1, le=2**31)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    targets: str | list[str] = "all-linear"
    """Layers that get adapters: peft's ``target_modules``."""


class FullTuning(Section):
    """Train every weight."""

    kind: Literal["full"] = "full"


class ModelSection(Section):
    """The backbone: a pretrained model by name, or a configuration for a new one with random weights."""

    name: UserPath | None = None
    """Folder or hub name of a causal language model, or a checkpoint of a latent student to start from."""
    tokenizer: UserPath | None = None
    """Folder, hub name or tokenizer.json; default: the model's own."""
    new_tokenizer: Annotated[ByteBPE | MetaspaceBPE, Field(discriminator="kind")] | None = None
    """For a new backbone on an embedded task: pieces of words, trained on its words; default: word tokens."""
    config: dict[str, Any] | None = None
    """For a new backbone with random weights: its transformers configuration, ``model_type`` included."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attention: Literal["sdpa", "eager"] | None = None
    special_tokens: dict[str, str] = Field(default={})
    """Tokens that the tokenizer lacks: ``{"eos_token": "...", "pad_token": "..."}``."""
    trust_remote_code: bool = False
    """Run code that comes with a model; off by default."""
    device_map: str | dict[str, str | int] | None = None
    """Device on which the backbone is loaded: ``cpu``, ``cuda:1``, ``auto``; a single one, since the loss
    compares layers.
    """
    tuning: Annotated[Lora | FullTuning, Field(discriminator="kind")] = Lora()

    @model_validator(mode="after")
    def _one_source(self) -> "ModelSection":
        if (self.name is None) == (self.config is None):
            raise ValueError(
                "give either model.name (a folder or hub name) or model.config (for a new backbone with "
                "random weights)"
            )
        if self.config is not None and self.device_map is not None:
            raise ValueError(
                "model.device_map is where a model of that name is loaded; leave it out for a new one from "
                "model.config"
            )
        if self.new_tokenizer is not None and (self.config is None or self.tokenizer is not None):
            raise ValueError(
                "model.new_tokenizer is trained for a new backbone: give model.config, and leave "
                "model.name and model.tokenizer out"
            )
        return self


class LatentSection(Section):
    """The latent slots and the passes over them."""

    slots: int = Field(default=24, le=4096)
    passes: int = 3
    feedback: Literal["mlp", "none", "add"] = "mlp"
    delimiters: Literal["student", "both"] = "student"
    layout: Literal["shift", "blocks"] = "shift"
    """Whose input a slot's state is in the next pass: the next slot's (``shift``) or its own (``blocks``)."""

    curriculum: Stages | None = None
    """Stages at the beginning of training; without them all passes from the first step on."""

    @model_validator(mode="after")
    def _sensible(self) -> "LatentSection":
        check_slots(self.slots, self.passes, self.layout)
        if self.curriculum is not None:
            self.curriculum.check(self.slots, self.passes, self.layout)
        return self


class TargetSection(Section):
    """How the teacher's KV cache becomes the student's target."""

    method: Annotated[CompressorMethod, Field(discriminator="kind")] = RKV()
    control: Annotated[Control, Field(discriminator="kind")] = NoControl()
    """A negative control in place of the sample's own target."""
    anneal_layers: float = Field(default=0.0, ge=0, le=1)
    """Share of the steps, from the start of training, in which only the lowest third of the layers counts."""


class EvaluationSection(Section):
    """What is evaluated, and on how many questions."""

    modes: tuple[Literal["latent", "cot", "direct"], ...] = ("latent", "cot", "direct")
    num: int | None = Field(default=None, ge=1, le=10**12)
    """Number of questions of the test set; default: all."""
    during_training: int = Field(default=256, ge=1, le=10**12)
    """Number of questions of the validation set at each evaluation during training."""
    batch_size: int = Field(default=32, ge=1, le=65536)
    max_new_tokens: int = Field(default=256, ge=1, le=MOST_NEW_TOKENS)


class RunConfig(Section):
    """The complete configuration of a run."""

    model: ModelSection
    teacher: TeacherSection | None = None
    """A single teacher: short for ``[teachers.teacher]``."""
    teachers: dict[ShortName, AnyTeacher] = Field(default={})
    """Teachers by their short names."""
    bridge: Annotated[BridgeMethod, Field(discriminator="kind")] | None = None
    """How student and teacher caches are made comparable; default: lower for several teachers, lift for one,
    same for none.
    """
    fusion: Annotated[FusionMethod, Field(discriminator="kind")] = Fixed()
    """Where the weights of the teachers in the fused cache come from."""
    data: DataSection
    latent: LatentSection = LatentSection()
    sampling: Sampling = Sampling()
    """How chains of thought are sampled where a teacher's ``traces`` do not exist."""
    target: TargetSection = TargetSection()
    loss: Objective = Objective()
    training: TrainingSection = TrainingSection()
    evaluation: EvaluationSection = EvaluationSection()

    @field_validator("bridge")
    @classmethod
    def _user_path(cls, bridge: BridgeMethod | None) -> BridgeMethod | None:
        """Expand a leading ``~``, as ``UserPath`` does in sections."""
        if isinstance(bridge, Lower) and bridge.adapters is not None:
            return replace(bridge, adapters=expanded(bridge.adapters))
        return bridge

    @field_validator("fusion")
    @classmethod
    def _fusion_paths(cls, fusion: FusionMethod) -> FusionMethod:
        """The same for the paths of a fusion."""
        return with_paths(fusion)

    @property
    def all_teachers(self) -> dict[str, OwnTeacher | TeacherSection]:
        """Every teacher by its short name; empty for self-distillation."""
        if self.teacher is None:
            return dict(self.teachers)
        return {"teacher": self.teacher, **self.teachers}

    def teacher_section(self, name: str) -> OwnTeacher | TeacherSection:
        """The section of a teacher; that of self-distillation where none is configured."""
        return self.all_teachers.get(name, OwnTeacher())

    @property
    def active_teachers(self) -> dict[str, OwnTeacher | TeacherSection]:
        """The teachers whose weight is above 0."""
        return {name: section for name, section in self.all_teachers.items() if section.weight > 0}

    @property
    def bridge_method(self) -> BridgeMethod:
        """The configured bridge; by default ``Lower`` for several teachers of which one is a separate model,
        ``Lift`` for a single one, else ``Same``.
        """
        if self.bridge is not None:
            return self.bridge
        if self.live_teachers and len(self.active_teachers) > 1:
            return Lower()
        if self.live_teachers:
            return Lift()
        return Same()

    @property
    def lower_order(self) -> Literal["align_first", "compress_first"]:
        """The order in which ``Lower`` aligns and compresses."""
        return order_of(self)

    @property
    def live_teachers(self) -> dict[str, TeacherSection]:
        """The active teachers that are separate models."""
        return live_of(self.active_teachers)

    @property
    def reads_teachers(self) -> bool:
        """Whether the loss compares the student's cache with a teacher's."""
        return self.training.task == "latent" and "target" in self.loss.needs

    @property
    def paired(self) -> bool:
        """Whether a sample's target comes from another sample of its batch."""
        return self.training.task == "latent" and self.target.control.needs_partner

    @model_validator(mode="after")
    def _fits_together(self) -> "RunConfig":
        """Checks across sections; what concerns one section alone is checked there."""
        target, training = self.target, self.training
        if training.task == "latent":
            self.loss.on_axis_of(target.method.kind, target.method.keeps_tokens)
            check_settings(target.method, target.control, self.latent.slots, training.batch_size)
        if (
            training.task == "latent"
            and not self.reads_teachers
            and not isinstance(target.control, NoControl)
        ):
            raise ValueError(
                "target.control changes the KV target, and loss.kv_weight is 0: give it a weight, or leave "
                "it out"
            )
        if training.stop_at_accuracy is not None and self.data.validation is None:
            raise ValueError(
                "training.stop_at_accuracy: there is no validation set to measure it on; give data.validation"
            )
        self._teachers_fit()
        check_graphs(self)
        data = self.data.train
        if (
            not isinstance(data, SyntheticData)
            and data.streaming
            and data.limit is None
            and training.max_steps < 1
        ):
            raise ValueError(
                "data.train.streaming: the length of a stream is not known; give training.max_steps, or "
                "data.train.limit"
            )
        return self

    def _teachers_fit(self) -> None:
        """Refuse losses and bridges that do not work with a separate teacher."""
        if self.teacher is not None and "teacher" in self.teachers:
            raise ValueError("teacher and teachers.teacher are two teachers of one name: give one of them")
        if self.all_teachers and not self.active_teachers:
            options = ["teacher.weight"] * (self.teacher is not None)
            options += [f"teachers.{name}.weight" for name in self.teachers]
            raise ValueError(
                f"every teacher has weight 0 ({', '.join(options)}), so none is left: raise a weight, or set "
                "loss.kv_weight to 0 for a run without teachers"
            )
        live = list(self.live_teachers)
        if live and isinstance(self.bridge_method, Same):
            raise ValueError(
                f"bridge.kind same compares caches of one geometry, and teacher {live[0]} is a model of its "
                "own: set bridge.kind to lower or lift"
            )
        if isinstance(self.bridge_method, Lower) and self.reads_teachers:
            fitted = any(section.adapter.penalty_grid() for section in self.active_teachers.values())
            self.bridge_method.check(self.target.method.kind, self.target.method.keeps_tokens, fitted)
        if isinstance(self.bridge_method, Lift):
            self._lift_fits()
        check_readings(self)
        check_fusion(self.fusion, tuple(self.active_teachers), self.bridge_method.kind)

    def _lift_fits(self) -> None:
        """Refuse what needs targets in the student's own geometry."""
        for name, section in self.active_teachers.items():
            if section.layers.needs_similarity:
                raise ValueError(
                    f"teachers.{name}.layers.kind cka is measured at calibration, which bridge.kind lift "
                    "does not have: set bridge.kind to lower, or the layer map to ratio"
                )
        if self.loss.attention_weight > 0:
            raise ValueError(
                "teacher: a separate teacher's attention has other heads than the student's; set "
                "loss.attention_weight to 0"
            )
        if self.loss.kv.frame == "as_cached":
            raise ValueError(
                "teacher: a separate teacher turns its keys in its own way; set loss.kv.frame to 'pre_rope'"
            )
