"""``kvdistill evaluate``: evaluate a trained student on a data set and write the records to a folder."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack, get_args

from kvdistill.compress import CompressorMethod
from kvdistill.config import DataSection, FileData, load
from kvdistill.console.messages import printable
from kvdistill.console.paths import require_folder
from kvdistill.evaluation.evaluate import Evaluator
from kvdistill.evaluation.kept import measure_kept
from kvdistill.evaluation.probes import num_rounds, probe
from kvdistill.latent.decode import Reasoning
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.records.probes import ProbesRecord
from kvdistill.records.schema import EvaluationRecord
from kvdistill.run.evaluation import Place, summary_line, write_evaluation
from kvdistill.run.samples import read_data
from kvdistill.run.train import to_device
from kvdistill.target.methods import Same


@dataclass(frozen=True, kw_only=True)
class Question:
    """The settings of one evaluation; the options of ``kvdistill evaluate`` have the same names."""

    checkpoint: str
    """Folder of the student."""
    data: str
    """A data file, or a configuration (TOML, run.json) whose test set is used."""
    format: str = "auto"
    """Format of the data file."""
    modes: str = "latent,cot,direct"
    """Modes to evaluate, separated by commas."""
    num: int | None = None
    """Number of questions, from the first; None takes all."""
    batch_size: int = 32
    max_new_tokens: int = 256
    """Longest answer in tokens, chain of thought included."""
    probes: bool = False
    """Whether the latents are probed as well."""
    output: str | None = None
    """Folder for the records; None is the checkpoint's."""
    progress: bool = False
    """Whether a progress bar is shown."""

    @property
    def place(self) -> Place:
        """Where the records are written; the data's full path tells apart data sets of the same name."""
        data = Path(self.data)
        return Place(Path(self.output or self.checkpoint), data.stem, str(data.resolve()))


class Options(TypedDict, total=False):
    """The optional settings of :func:`evaluate`; see :class:`Question`."""

    format: str
    modes: str
    num: int | None
    batch_size: int
    max_new_tokens: int
    probes: bool
    output: str | None


def evaluate(
    checkpoint: str | Path, data: str | Path, **options: Unpack[Options]
) -> tuple[EvaluationRecord, ...]:
    """Evaluate a trained student on a data set and write records and answers, as ``kvdistill evaluate`` does.

    Args:
        checkpoint: folder of the student.
        data: a data file, or a configuration (TOML, or a run's run.json) whose test set is used.
        options: ``modes`` (``"latent,cot,direct"``), ``num`` (number of questions, from the first),
            ``batch_size``, ``max_new_tokens``, ``output`` (folder for the records; by default the
            checkpoint's), ``format`` of the data, and ``probes`` (whether the latents are probed as well).

    Returns:
        One record per mode: accuracy with its interval, forward passes, tokens and milliseconds per question.

    Raises:
        ValueError: if an option cannot be used, or a record of other data would be overwritten.
    """
    return evaluate_question(Question(checkpoint=str(checkpoint), data=str(data), **options), lambda _: None)


def evaluate_question(asked: Question, show: Callable[[str], None]) -> tuple[EvaluationRecord, ...]:
    """Evaluate every mode and write records and answers, then probe the latents if wanted.

    Args:
        asked: the settings.
        show: takes each line of progress, one per mode.

    Returns:
        One record per mode.

    Raises:
        ValueError: if an option cannot be used, or a record of other data would be overwritten.
    """
    modes, place = _modes(asked.modes), asked.place
    if asked.output is not None:
        require_folder("--output", place.folder)
    _require_checkpoint(Path(asked.checkpoint))
    _refuse_other_data(asked, modes)
    section, data = _data(asked)
    methods = _own_compressor(asked, show)
    model = to_device(LatentReasoner.from_pretrained(asked.checkpoint))
    samples = read_data(section, data, model, place.folder)[: asked.num]
    evaluator = Evaluator(
        batch_size=asked.batch_size, max_new_tokens=asked.max_new_tokens, progress=asked.progress
    )
    records = []
    for mode in modes:
        records.append(write_evaluation(evaluator, model, samples, mode, place))
        show(printable(summary_line(records[-1])))
    if asked.probes:
        rounds = num_rounds(model.config.slots)
        show(
            f"probes: {len(samples)} questions, {rounds} times over (latents zeroed, swapped, and cut to "
            "fewer slots)"
        )
        kept = measure_kept(model, samples, methods, asked.batch_size) or None
        record = replace(probe(model, samples, evaluator), source=place.source, kept=kept)
        record.write(place.folder / "probes.json")
        show(f"probes: {place.folder / 'probes.json'}")
    return tuple(records)


def _require_checkpoint(folder: Path) -> None:
    if folder.is_dir():
        return
    what = "does not exist: check the path"
    if folder.exists():
        what = "is a file; name the folder that holds it"
    raise ValueError(f"--checkpoint: {folder} {what}, such as outputs/run/checkpoint-ep1.")


def _own_compressor(asked: Question, show: Callable[[str], None]) -> dict[str, CompressorMethod]:
    """The compressor that made the student's targets from its own cache, by name.

    Empty without probes, where the checkpoint is in no run's folder, or the run had other targets or none.
    """
    path = Path(asked.checkpoint).resolve().parent / "run.json"
    if not (asked.probes and path.is_file()):
        return {}
    try:
        config = load(path)
    except ValueError as error:
        show(printable(f"probes: which tokens the compressor keeps is left out: {error}"))
        return {}
    if not config.reads_teachers or not isinstance(config.bridge_method, Same):
        return {}
    return {config.target.method.kind: config.target.method}


def _modes(text: str) -> list[str]:
    """The modes of a comma-separated list, without duplicates."""
    modes = list(dict.fromkeys(text.split(",")))
    if wrong := [mode for mode in modes if mode not in get_args(Reasoning)]:
        raise ValueError(f"--modes: there is no mode {wrong[0]!r}; choose from latent, cot, direct.")
    return modes


def _refuse_other_data(asked: Question, modes: list[str]) -> None:
    """Refuse to overwrite results on other data; called before the model is loaded."""
    place = asked.place
    found: list[tuple[Path, EvaluationRecord | ProbesRecord | None]] = []
    found += [(path, EvaluationRecord.find(path)) for path in map(place.record, modes)]
    if asked.probes:
        path = place.folder / "probes.json"
        found.append((path, ProbesRecord.find(path)))
    for path, record in found:
        if record is not None and record.source != place.source:
            owner = record.source or "the run's own test set"
            raise ValueError(
                f"{path} holds results on other data ({owner}), which those on {asked.data} would "
                "overwrite: give another --output."
            )


def _data(asked: Question) -> tuple[Any, Any]:
    """How the data are read, and the data set."""
    # Any other file is data: run.json is the one JSON file that is a configuration.
    if Path(asked.data).suffix != ".toml" and Path(asked.data).name != "run.json":
        data = FileData(path=asked.data, format=asked.format)
        return DataSection(train=data, max_length=None), data
    section = load(asked.data).data
    if section.test is None:
        raise ValueError(f"--data: {asked.data} names no data.test.")
    return section, section.test
