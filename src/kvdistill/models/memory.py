"""Out of memory while a teacher is loaded: which one, how large it is, and what to try."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig

GIB = 2**30


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that caused it, is a failed allocation on a GPU or the CPU."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(cause, OSError) and cause.errno == errno.ENOMEM:
            return True
        if isinstance(cause, RuntimeError) and "can't allocate memory" in str(cause):
            return True
        cause = cause.__cause__
    return False


def num_parameters(config: PreTrainedConfig) -> int | None:
    """Number of weights of the causal language model that a configuration describes; allocates none.

    Returns:
        The number; None for a model of code that is not transformers' own.
    """
    if config.model_type not in CONFIG_MAPPING:
        return None
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(deepcopy(config), trust_remote_code=False)
    return sum(parameter.numel() for parameter in model.parameters())


@contextmanager
def explained_out_of_memory(
    teacher: str, source: str, model: nn.Module | PreTrainedConfig, dtype: torch.dtype = torch.float32
) -> Iterator[None]:
    """Turn a failed allocation inside this block into a message with the teacher, its size and remedies.

    Args:
        teacher: Short name of the teacher, its key in the configuration.
        source: Folder or hub name of its model.
        model: The model, or its configuration where it could not be loaded.
        dtype: Dtype in which it was to be loaded, where ``model`` is a configuration.

    Raises:
        ValueError: if memory runs out.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if isinstance(model, nn.Module):
            count = sum(parameter.numel() for parameter in model.parameters())
            dtype = next(model.parameters()).dtype
        else:
            count = num_parameters(model)
        raise ValueError(_message(teacher, source, count, dtype)) from error


def _message(teacher: str, source: str, count: int | None, dtype: torch.dtype) -> str:
    option, size, smaller = "teacher", "", ""
    if teacher != option:
        option = f"teachers.{teacher}"
    if count is not None:
        taken = count * dtype.itemsize
        size = f"; its {count} weights take {taken} bytes ({taken / GIB:.1f} GiB) in {name_of(dtype)}"
    if dtype.itemsize > 2:
        smaller = f'{option}.dtype = "bfloat16" (half as much), '
    return (
        f"{option}: memory ran out while {source} was loaded{size}. Try {smaller}{option}.device_map = "
        f'"auto", {option}.device = "cpu" where it does not fit beside the student, or fewer teachers.'
    )


def name_of(dtype: torch.dtype) -> str:
    """The name of a dtype, as it is configured: ``float32``."""
    return str(dtype).removeprefix("torch.")
