"""Out of memory: what counts as it, and what the message says."""

import errno

import pytest
import torch
import transformers as tf

import pico
from kvdistill.models.memory import explained_out_of_memory, is_out_of_memory, num_parameters

CPU = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")


@pytest.mark.parametrize(
    "error", [CPU, MemoryError(), torch.OutOfMemoryError("CUDA"), OSError(errno.ENOMEM, "x")]
)
def test_out_of_memory_is_recognized_through_its_causes(error: Exception) -> None:
    wrapped = ValueError("the model could not be loaded")
    wrapped.__cause__ = error
    assert is_out_of_memory(error)
    assert is_out_of_memory(wrapped)
    for other in (ValueError("no"), RuntimeError("shape"), OSError(errno.ENOENT, "x")):
        assert not is_out_of_memory(other)


def test_weights_by_hand() -> None:
    """Embeddings of 5 times 4 (GPT-2 ties its head), positions 3 times 4, no layer, a norm of 4 and 4."""
    config = tf.GPT2Config(vocab_size=5, n_positions=3, n_embd=4, n_layer=0, n_head=1)
    assert num_parameters(config) == 5 * 4 + 3 * 4 + 2 * 4
    own = tf.PreTrainedConfig()
    own.model_type = "of its own"
    assert num_parameters(own) is None


@pytest.mark.parametrize("name", ["big", "teacher"])
def test_the_message_names_the_teacher_its_size_and_remedies(name: str) -> None:
    model = pico.backbone("gpt2")
    count = sum(parameter.numel() for parameter in model.parameters())
    option = "teacher" if name == "teacher" else "teachers.big"
    told = (
        rf"^{option}: memory ran out while far/away was loaded; its {count} weights take {4 * count} bytes "
        rf'\(0\.0 GiB\) in float32\. Try {option}\.dtype = "bfloat16" \(half as much\), {option}\.device_map'
    )
    for owner in (model, model.config):
        with (
            pytest.raises(ValueError, match=told + ".* or fewer teachers"),
            explained_out_of_memory(name, "far/away", owner),
        ):
            raise CPU
    with (
        pytest.raises(ValueError, match=r"in bfloat16\. Try teachers\.b\.device_map"),
        explained_out_of_memory("b", "far/away", model.config, torch.bfloat16),
    ):
        raise CPU


def test_other_errors_stay() -> None:
    with pytest.raises(KeyError), explained_out_of_memory("big", "x", pico.backbone("gpt2")):
        raise KeyError
