"""Integrity of checkpoints: strict loading, finite weights, damaged files, and weight fingerprints."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from kvdistill.records.jsonfile import read_json

SAFE = {"use_safetensors": True, "trust_remote_code": False}
"""Options of ``from_pretrained``: weights are never unpickled, and no code of a checkpoint is run."""
FILES = (".json", ".safetensors", ".jinja", ".model", ".txt", ".pt", ".pth", ".bin")
"""Suffixes of names that must be regular files."""
SAMPLED = 1024
"""Approximate number of values of each tensor in a fingerprint, so that large models take no longer."""
AGAIN = "delete the checkpoint to go on from the one before it, or copy it here again"


def read_backbone(name: str, **options: Any) -> PreTrainedModel:
    """Load a causal language model from safetensors and require that every weight comes from there.

    Attention masks that older releases saved among the weights are ignored.

    Args:
        name: A folder, or a repository on the hub.
        options: Further arguments of ``from_pretrained``; they take precedence over the strict ones.

    Returns:
        The model, with finite weights.

    Raises:
        ValueError: if weights are damaged, missing, unexpected, not finite or of another shape; the message
            is a reason, to be put after a name.
        OSError: if there is no model, as transformers raises it.
    """
    strict: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True, **SAFE}
    require_regular_files(Path(name))
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(name, **{**strict, **options})
    except SafetensorError as error:
        raise ValueError(f"a file of its weights is damaged ({error}): fetch it again") from error
    if not isinstance(loaded, tuple):  # LatentReasoner.from_pretrained returns no loading info
        raise ValueError("it is a latent student, not a causal language model to build one on")
    model, info = loaded
    unexpected = (key for key in info["unexpected_keys"] if not key.endswith(".masked_bias"))
    if problems := misfits(info["missing_keys"], unexpected, (key for key, *_ in info["mismatched_keys"])):
        raise ValueError(
            f"its weights do not fit the {type(model).__name__} that its config.json describes "
            f"({problems}): fetch it again, or "
            "choose another model"
        )
    if found := nonfinite(model.state_dict()):
        raise ValueError(
            f"its weights hold numbers that are not finite (in {found}): fetch it again, or choose another "
            "model"
        )
    return model


def require_fit(
    folder: Path, missing: Iterable[str], unexpected: Iterable[str], mismatched: Iterable[str]
) -> None:
    """Refuse a checkpoint whose weights do not match the student's.

    Args:
        folder: The checkpoint, for the message.
        missing: Names that the student has and the checkpoint lacks.
        unexpected: Names that only the checkpoint has.
        mismatched: Names with another shape.

    Raises:
        ValueError: if there are any; names the first of them.
    """
    if problems := misfits(missing, unexpected, mismatched):
        raise ValueError(
            f"The weights in {folder} do not fit the student that its config.json describes ({problems}): "
            "the checkpoint was written "
            "for another backbone, or is incomplete."
        )


def require_finite(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a checkpoint with NaN or infinite weights.

    Raises:
        ValueError: if there are any; names the first of them.
    """
    if found := nonfinite(tensors):
        raise ValueError(f"The weights in {folder} hold numbers that are not finite (in {found}): {AGAIN}.")


@torch.no_grad()
def nonfinite(tensors: Mapping[str, Tensor]) -> str:
    """Find tensors with a NaN or an infinity.

    Returns:
        The first three of their names, joined by commas; empty where there are none.
    """
    bad: list[str] = []
    for name, value in tensors.items():
        if value.is_floating_point() and value.dtype.itemsize > 1 and value.numel() and not value.is_meta:
            ends = torch.stack(value.aminmax())  # both are NaN where any value is
            if not torch.isfinite(ends).all():
                bad.append(name)
    return ", ".join(bad[:3])


def require_regular_files(folder: Path) -> None:
    """Refuse a folder that contains a pipe, a device, or a folder in place of a file: reading could hang.

    Raises:
        ValueError: if there is one; names it.
    """
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.suffix in FILES:
            raise ValueError(f"{path} is a folder, not a file: {AGAIN}.")
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ValueError(f"{path} is a pipe or a device, not a file: {AGAIN}.")


def share(folder: Path) -> None:
    """Give the safetensors files of a folder the mode of new files; safetensors makes them owner-only."""
    # A probe file shows the mode, since os.umask reads the umask only by changing it.
    probe = folder / f".mode.{os.getpid()}"
    probe.touch()
    mode = probe.stat().st_mode & 0o777
    probe.unlink()
    for file in folder.glob("*.safetensors"):
        if file.stat().st_mode & 0o777 != mode:
            file.chmod(mode)


def misfits(missing: Iterable[str], unexpected: Iterable[str], mismatched: Iterable[str]) -> str:
    """Describe weights that do not fit, up to three names of each kind; empty where all fit."""
    found = (
        ("missing", sorted(missing)),
        ("unexpected", sorted(unexpected)),
        ("of another shape", sorted(mismatched)),
    )
    return "; ".join(f"{what} {', '.join(names[:3])}" for what, names in found if names)


@contextmanager
def diagnose_load_errors(folder: Path, placed: bool = False) -> Iterator[None]:
    """Turn errors while loading a checkpoint inside this block into a message about the damaged file.

    Args:
        folder: The checkpoint.
        placed: Whether a device map was given, so that a device may be the cause.

    Raises:
        ValueError: naming the damaged or missing file, or the folder where the file is not known. Where no
            file is at fault, an OSError or ValueError stays as it is, and so does any error if ``placed``.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        if (file := damaged_file(folder)) is not None:
            raise ValueError(
                f"{file} is damaged ({first_line(error.__cause__ or error)}): {AGAIN}."
            ) from error
        if isinstance(error, OSError) and not any(folder.glob("model*.safetensors")):
            raise ValueError(f"{folder} has no file named model.safetensors: {AGAIN}.") from error
        if placed or isinstance(error, OSError | ValueError):
            raise
        raise ValueError(
            f"{folder} could not be loaded ({type(error).__name__}: {first_line(error)}): its config.json "
            "does not describe its weights; "
            f"{AGAIN}."
        ) from error


def damaged_file(folder: Path) -> Path | None:
    """Find the first damaged JSON or safetensors file.

    Args:
        folder: A folder, or one such file.

    Returns:
        The file that cannot be parsed; None where all can.
    """
    files = [folder]
    if not folder.is_file():
        files = sorted((*folder.glob("*.json"), *folder.glob("*.safetensors")))
    for file in files:
        try:
            if file.suffix == ".json" or not file.is_file():
                read_json(file)
            else:
                with safe_open(file, framework="pt"):
                    pass
        except (ValueError, SafetensorError):
            return file
    return None


def explain_load_failure(name: str, error: Exception) -> str:
    """Explain why a model could not be loaded.

    Args:
        name: Folder or hub name of the model.
        error: The error of loading it.

    Returns:
        The reason as a clause, to be put after a name.
    """
    reason = first_line(error).removesuffix(".")
    if "trust_remote_code" in str(error):
        return "it brings code of its own, which is never run for a checkpoint"
    if (file := damaged_file(Path(name))) is not None:
        return f"{file} is damaged ({first_line(error.__cause__ or error)}): fetch it again"
    if Path(name).is_absolute() and not Path(name).exists():
        return "there is no such folder"
    if isinstance(error, OSError):
        return f"it is neither here nor can it be had from the hub ({reason})"
    return reason


@torch.no_grad()
def fingerprint(model: nn.Module) -> str:
    """Fingerprint of a model's weights: their dtype, and a hash over some values of each tensor.

    Source: ours.
    """
    digest, dtype = blake2b(digest_size=16), ""
    for value in model.parameters():
        # An odd stride cycles through all columns of a matrix whose width is a power of 2.
        some = value.flatten()[:: value.numel() // SAMPLED | 1].cpu().contiguous()
        digest.update(some.view(torch.uint8).numpy().tobytes())
        dtype = dtype or str(value.dtype).removeprefix("torch.")
    return f"{dtype}:{digest.hexdigest()}"


def same_weights(one: str, other: str) -> bool:
    """Whether two fingerprints may be of the same weights; True where their dtypes differ."""
    return one == other or one.partition(":")[0] != other.partition(":")[0]


def first_line(error: BaseException) -> str:
    """First line of an error's message, or its class name where the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
