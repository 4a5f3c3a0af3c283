"""One typed configuration for a run: sections and closed unions, read from TOML, changed by ``--section.option value``."""

import json
import tomllib
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kvdistill.compress import CompressorMethod
from kvdistill.data import Arith, Chain, Chat, Plain
from kvdistill.data.split import Split
from kvdistill.latent.config import check_slots
from kvdistill.losses.controls import Control, NoControl
from kvdistill.losses.total import Objective
from kvdistill.training.arguments import TrainingSection


class Section(BaseModel):
    """A part of the configuration: no unknown option, no change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Lora(Section):
    """Train low-rank adapters and the rows of the new tokens; the backbone stays frozen.

    Source: https://arxiv.org/abs/2510.02312, table 6 (rank, alpha, dropout).
    """

    kind: Literal["lora"] = "lora"
    r: int = Field(128, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    targets: str | list[str] = "all-linear"
    """peft's ``target_modules``."""


class FullTuning(Section):
    """Train every weight."""

    kind: Literal["full"] = "full"


class ModelSection(Section):
    """The backbone: a folder or hub name, or a configuration for a new one with random weights."""

    name: str | None = None
    """Folder or hub name of a causal language model, or a checkpoint of a latent student to start from."""
    tokenizer: str | None = None
    """Folder, hub name or tokenizer.json; the model's own where None."""
    config: dict[str, Any] | None = None
    """For a new backbone with random weights: transformers' configuration, ``model_type`` included."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attention: Literal["sdpa", "eager"] | None = None
    special_tokens: dict[str, str] = {}
    """For a tokenizer that lacks them: ``{"eos_token": "...", "pad_token": "..."}``."""
    trust_remote_code: bool = False
    """Off: code that comes with a model is not run."""
    tuning: Annotated[Lora | FullTuning, Field(discriminator="kind")] = Lora()

    @model_validator(mode="after")
    def _one_source(self) -> "ModelSection":
        if (self.name is None) == (self.config is None):
            raise ValueError("give either model.name (a folder or hub name) or model.config (for a new backbone with random weights)")
        return self


class LatentSection(Section):
    """The latent slots."""

    slots: int = 24
    passes: int = 3
    feedback: Literal["mlp", "none"] = "mlp"
    delimiters: Literal["student", "both"] = "student"

    @model_validator(mode="after")
    def _sensible(self) -> "LatentSection":
        check_slots(self.slots, self.passes)
        return self


class FileData(Section):
    """Rows of a file."""

    kind: Literal["file"] = "file"
    path: str
    format: str = "auto"
    limit: int | None = Field(None, ge=1)
    """Read only the first rows."""


class SyntheticData(Section):
    """The embedded task."""

    kind: Literal["synthetic"] = "synthetic"
    task: Annotated[Chain | Arith, Field(discriminator="kind")] = Chain()
    num: int = Field(2048, ge=1)
    split: Split = "train"
    seed: int = 0


DataSet = Annotated[FileData | SyntheticData, Field(discriminator="kind")]


class DataSection(Section):
    """What is read, and how it becomes text."""

    train: DataSet
    validation: DataSet | None = None
    test: DataSet | None = None
    template: Annotated[Plain | Chat, Field(discriminator="kind")] | None = None
    """None takes the tokenizer's chat template where it has one."""
    drop_last_step: bool = False
    """Leave the last reasoning step out, as KaVa does on equation-only traces."""
    max_length: int | None = Field(1024, ge=8)
    """Longest example in tokens; longer ones are left out and counted."""


class TargetSection(Section):
    """How the teacher's cache becomes the student's target."""

    method: Annotated[CompressorMethod, Field(discriminator="kind")] = Field(default_factory=lambda: _method("rkv"))
    control: Annotated[Control, Field(discriminator="kind")] = NoControl()
    anneal_layers: float = Field(0.0, ge=0, le=1)


class EvaluationSection(Section):
    """What is evaluated, how often and on how much."""

    modes: tuple[Literal["latent", "cot", "direct"], ...] = ("latent", "cot", "direct")
    num: int | None = Field(None, ge=1)
    """Questions of the test set; None takes all."""
    during_training: int = Field(256, ge=1)
    """Questions of the validation set at each evaluation during training."""
    batch_size: int = Field(32, ge=1)
    max_new_tokens: int = Field(256, ge=1)


class RunConfig(Section):
    """A whole run."""

    model: ModelSection
    data: DataSection
    latent: LatentSection = LatentSection()
    target: TargetSection = Field(default_factory=TargetSection)
    loss: Objective = Field(default_factory=Objective)
    training: TrainingSection = Field(default_factory=TrainingSection)
    evaluation: EvaluationSection = EvaluationSection()


def load(path: Path | str | None, overrides: list[str] | None = None) -> RunConfig:
    """Read a TOML file, a resolved JSON one (or nothing), and apply ``["--section.option", "value", ...]``.

    Values are read as JSON where they are JSON (``3``, ``true``, ``[1, 2]``), else as text.

    Raises:
        ValueError: naming file, option, and the nearest name where one is misspelt.
    """
    where = "the command line" if path is None else str(path)
    tree: dict[str, Any] = {}
    if path is not None:
        tree = _read(Path(path))
    for name, value in _pairs(overrides or []):
        _set(tree, name, value)
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise ValueError("\n".join(_explain(where, dict(problem)) for problem in error.errors())) from None


def _read(path: Path) -> dict[str, Any]:
    """Hand-written files are TOML; resolved ones are JSON, a run's own run.json among them."""
    if not path.is_file():
        raise ValueError(f"There is no configuration file {path}. Shipped ones are in experiments/configs.")
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix != ".json":
            return tomllib.loads(text)
        tree = json.loads(text)
        return tree["config"] if path.name == "run.json" else tree
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, KeyError) as error:
        raise ValueError(f"{path} is not {'a run record' if path.name == 'run.json' else path.suffix[1:].upper()}: {error}.") from error


def resolved(config: RunConfig) -> dict[str, Any]:
    """Every option with its value, as JSON would hold it."""
    return config.model_dump(mode="json")


def _pairs(words: list[str]) -> list[tuple[str, str]]:
    pairs, rest = [], list(words)
    while rest:
        name = rest.pop(0)
        if not name.startswith("--"):
            raise ValueError(f"{name!r} stands where an option should: write --section.option value, such as --training.lr 1e-4.")
        name, equals, value = name[2:].partition("=")
        if not equals:
            if not rest:
                raise ValueError(f"--{name} has no value: write --{name} value.")
            value = rest.pop(0)
        pairs.append((name, value))
    return pairs


def _set(tree: dict[str, Any], name: str, text: str) -> None:
    try:
        value: Any = json.loads(text)
    except json.JSONDecodeError:
        value = text
    *parents, last = name.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise ValueError(f"--{name}: {parent} holds a value, not a section.")
    if last == "kind" and tree.get("kind") not in (None, value):
        tree.clear()
    tree[last] = value


def _explain(where: str, problem: dict[str, Any]) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{where}: there is no option {place}.{_nearest(str(problem['loc'][-1]), _names_beside(problem['loc']))}"
    if problem["type"] == "union_tag_invalid":
        context = problem["ctx"]
        known = [name.strip("' ") for name in context["expected_tags"].split(",")]
        return f"{where}: {place} has no kind {context['tag']!r}.{_nearest(context['tag'], known)} Choose one of {', '.join(known)}."
    message = problem["msg"].removeprefix("Value error, ")
    given = "" if isinstance(problem["input"], dict) else f" (given: {problem['input']!r})"
    return f"{where}: {place or 'the configuration'}: {message}{given}"


def _nearest(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else f" Known here: {', '.join(sorted(known))}." if known else ""


def _names_beside(location: tuple[int | str, ...]) -> list[str]:
    """The options of the section in which a misspelt one stands."""
    kind: Any = RunConfig
    for part in location[:-1]:
        options = _options(kind)
        kind = options[part] if part in options else _member(kind, str(part))
    return list(_options(kind))


def _options(kind: Any) -> dict[Any, Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    if is_dataclass(kind):
        return {field.name: field.type for field in fields(kind)}
    return {}


def _member(kind: Any, tag: str) -> Any:
    """The member of a union whose ``kind`` is ``tag``."""
    if get_origin(kind) in (Union, UnionType):
        return next((found for member in get_args(kind) if (found := _member(member, tag)) is not None), None)
    if get_origin(kind) is Annotated:
        return _member(get_args(kind)[0], tag)
    return kind if tag_of(kind) == tag else None


def tag_of(kind: Any) -> str | None:
    """The default of a method's ``kind``: the name that users type."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind.model_fields["kind"].default if "kind" in kind.model_fields else None
    if is_dataclass(kind):
        return next((str(f.default) for f in fields(kind) if f.name == "kind" and f.default is not MISSING), None)
    return None


def _method(tag: str) -> CompressorMethod:
    return _member(CompressorMethod, tag)()
