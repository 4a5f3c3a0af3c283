"""Fitted adapters on disk: ``kvdistill align fit`` writes them, runs read them in place of a calibration."""

import json
import os
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from kvdistill.config import RunConfig
from kvdistill.kv import Geometry
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.models.checkpoint_integrity import fingerprint, first_line, same_weights, share
from kvdistill.pipeline import Distillation
from kvdistill.records.calibration import CALIBRATION, CalibrationRecord
from kvdistill.target.lower import LowerBridge
from kvdistill.target.methods import Lower

ADAPTERS = "adapters.safetensors"
"""File of the fitted adapters, beside ``calibration.json``; written last."""
FORMAT = 1
SETTINGS = {"layers", "adapter", "tokens", "template", "rope_scaling", "heads"}
"""Options of a teacher that its adapter was fitted for."""
OLD = {"calibration": "student_cache", "option heads": "all"}
"""What earlier files leave out, with the only value that there was."""
REMEDY = "Fit them for this configuration: kvdistill align fit --config FILE --output DIR"


def save_adapters(config: RunConfig, step: Distillation, record: CalibrationRecord, folder: Path) -> Path:
    """Write the adapters of a calibrated step, and the report of their calibration.

    Args:
        config: the run's configuration.
        step: the step whose bridge has been calibrated, with the student at its starting weights.
        record: the report of the calibration.
        folder: where ``adapters.safetensors`` and ``calibration.json`` are written; made where missing.

    Returns:
        Path of the adapters.
    """
    record.write(folder / CALIBRATION)
    metadata = {
        "format": FORMAT,
        "student": student_of(step.student),
        "teachers": teachers_of(config, step),
        # An interrupted fit leaves a report that is not of these adapters.
        "calibration": hash_of(folder / CALIBRATION),
    }
    tensors = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in step.bridge.state().items()
        if belongs(name, [teacher.name for teacher in step.teachers])
    }
    path = folder / ADAPTERS
    partial = folder / f".{ADAPTERS}.{os.getpid()}.tmp"
    try:
        save_file(tensors, partial, metadata={key: json.dumps(value) for key, value in metadata.items()})
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    share(folder)
    return path


def load_adapters(config: RunConfig, step: Distillation, folder: Path) -> CalibrationRecord:
    """Take fitted adapters in place of a calibration.

    Args:
        config: the run's configuration.
        step: the training step with the student at its starting weights; its bridge gets the adapters of its
            teachers. The folder may hold those of further teachers.
        folder: the folder that ``save_adapters`` wrote.

    Returns:
        The report of their calibration, without the teachers that this run does not have.

    Raises:
        ValueError: if they are missing, damaged or incomplete, or were fitted for another student, another
            teacher or other options of one; names what differs.
    """
    tensors, metadata = read_adapters(folder)
    names = [teacher.name for teacher in step.teachers]
    require_pair(folder / ADAPTERS, metadata, student_of(step.student), teachers_of(config, step))
    if hash_of(folder / CALIBRATION) != metadata["calibration"]:
        raise ValueError(
            f"{folder / CALIBRATION} is not the report of {ADAPTERS} beside it: the fit was interrupted, or "
            f"one of the two was changed. {REMEDY}."
        )
    assert isinstance(step.bridge, LowerBridge)
    step.bridge.load_state({name: value for name, value in tensors.items() if belongs(name, names)})
    step.bridge.to(step.student.device)
    return CalibrationRecord.read(folder / CALIBRATION).only(names)


def read_adapters(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the metadata of fitted adapters.

    Args:
        folder: the folder that ``save_adapters`` wrote.

    Returns:
        Tensors by name, on the CPU, and the metadata: ``student``, ``teachers``, ``calibration``.

    Raises:
        ValueError: if the file is missing, damaged, or of another format.
    """
    path = folder / ADAPTERS
    if not path.is_file():
        raise ValueError(
            f"bridge.adapters: {folder} holds no {ADAPTERS}. `kvdistill align fit --output {folder}` writes "
            "it, as its last file."
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"bridge.adapters: {path} is damaged ({first_line(error)}). {REMEDY}.") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"bridge.adapters: {path} is of format {metadata.get('format')}, and this kvdistill reads "
            f"{FORMAT}. {REMEDY}."
        )
    return tensors, metadata


def require_pair(
    path: Path, metadata: Mapping[str, Any], student: Mapping[str, Any], teachers: Mapping[str, Any]
) -> None:
    """Refuse adapters that were fitted for another student or other teachers.

    Args:
        path: file of the adapters, for the message.
        metadata: what they were fitted for.
        student: the result of ``student_of`` for this run.
        teachers: the result of ``teachers_of`` for this run.

    Raises:
        ValueError: naming the first difference.
    """
    known = metadata["teachers"]
    differences = [difference("the student's", metadata["student"], student)]
    for name, wanted in teachers.items():
        if name not in known:
            raise ValueError(
                f"bridge.adapters: {path} holds no adapter of teachers.{name}, only of "
                f"{', '.join(known)}. {REMEDY}."
            )
        differences.append(difference(f"teachers.{name}:", known[name], wanted))
    found = [text for text in differences if text]
    if found:
        raise ValueError(f"bridge.adapters: {path} was fitted for another pair: {found[0]}. {REMEDY}.")


def difference(owner: str, fitted: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """What differs between a model that adapters were fitted for and the one of a run.

    Args:
        owner: whose properties these are, at the start of the clause.
        fitted: an entry of the metadata.
        here: the same properties of the run's model.

    Returns:
        A clause; empty where nothing differs.
    """
    for key, wanted in here.items():
        found = fitted.get(key, OLD.get(key))
        if key == "weights":
            if not same_weights(str(found), wanted):
                return f"{owner} weights are others (fitted {found}, here {wanted})"
        elif found != wanted:
            return f"{owner} {key} was {found} and is {wanted} here"
    return ""


def student_of(student: LatentReasoner) -> dict[str, Any]:
    """What adapters depend on in the student: attention layers and starting weights.

    Args:
        student: the student at its starting weights.

    Returns:
        Values that JSON holds.
    """
    named = dict(student.backbone.named_parameters())
    # Low-rank adapters that are still zero, drawn again with each seed, do not change teacher mode.
    if not any("lora_B" in name and bool(value.any()) for name, value in named.items()):
        named = {
            name: value
            for name, value in named.items()
            if "lora_" not in name and "trainable_tokens" not in name
        }
    weights = named.values()
    return {"layers": shape_of(student.geometry()), "weights": fingerprint(nn.ParameterList(weights))}


def teachers_of(config: RunConfig, step: Distillation) -> dict[str, dict[str, Any]]:
    """What adapters depend on in each teacher: attention layers, weights, and the options it is aligned by.

    Args:
        config: the run's configuration.
        step: the training step.

    Returns:
        By short name, values that JSON holds.
    """
    found = {}
    for teacher in step.teachers:
        section = config.teacher_section(teacher.name)
        options = section.model_dump(mode="json", include=SETTINGS)
        if not section.adapter.one_map:  # earlier files do not have this option
            options["adapter"].pop("shared", None)
        found[teacher.name] = {
            "layers of attention": shape_of(teacher.geometry()),
            "weights": teacher.fingerprint(),
            "calibration": calibration_of(config),
            **{f"option {name}": value for name, value in options.items()},
        }
    return found


def calibration_of(config: RunConfig) -> str:
    """What adapters are fitted to; with the target whose answers they were trained by, where they were.

    Args:
        config: the run's configuration.

    Returns:
        ``student_cache``, or ``task`` with its settings, the compressor and the number of slots.
    """
    method = config.bridge_method
    if not isinstance(method, Lower) or method.calibration_target == "student_cache":
        return "student_cache"
    return f"task ({method.task}, {config.target.method}, {config.latent.slots} slots)"


def shape_of(geometry: Geometry) -> list[list[int]]:
    """Heads, key width and value width of each attention layer.

    Args:
        geometry: attention layers of a model.

    Returns:
        One list of layer id, heads, key width, value width and whether keys are normed (0 or 1) per layer.
    """
    return [
        [layer_id, layer.heads, layer.key_width, layer.value_width, int(layer.key_norm is not None)]
        for layer_id, layer in zip(geometry.layer_ids, geometry.layers, strict=True)
    ]


def hash_of(path: Path) -> str:
    """Hash of a file's content; empty where there is none.

    Args:
        path: the file.
    """
    if not path.is_file():
        return ""
    return blake2b(path.read_bytes(), digest_size=16).hexdigest()


def belongs(name: str, teachers: list[str]) -> bool:
    """Whether a tensor of the bridge's state is kept with the adapters of these teachers.

    Args:
        name: name in ``LowerBridge.state``.
        teachers: short names.
    """
    owner, _, rest = name.partition("/")
    return name == "scale" or (owner in teachers and rest.startswith(("layers", "aligner/")))
