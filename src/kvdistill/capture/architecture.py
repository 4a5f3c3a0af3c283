"""Whether what is captured is what the model computes: asked once, before anything is trained.

Two short random texts, padded and packed side by side as training packs them, are compared with plain calls
of each text alone: hidden states, keys, values and, for a student, a second call on a prefix, the head and a
cache to generate from. A model with a memory beside its attention, a head that is more than its output
embeddings, or attention that is no function of the captured keys and values differs in one of them and is
refused by name.

Source: ours.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicSlidingWindowLayer

from kvdistill.capture import rotation
from kvdistill.capture.attention import (
    CHOOSE,
    MODEL_ERRORS,
    PREFIX,
    CaptureError,
    evaluating,
    require_mask_support,
)
from kvdistill.capture.cache import CacheSource
from kvdistill.capture.comparison import Comparison, Head, cache_source, first_line, packed_texts

STUDENT = f"So it is no backbone of a student, which reads latent slots in this way; it may teach. {CHOOSE}"


@dataclass(frozen=True, slots=True)
class Architecture:
    """What was found out about a model's attention."""

    layers: tuple[rotation.MeasuredLayer, ...]
    position_offset: int = 0
    """Position id of the first token (RoBERTa counts from its padding index + 1)."""
    cache_source: CacheSource = "captured"
    """Where a student's generation cache comes from."""

    @property
    def is_learned(self) -> bool:
        """Whether positions are a learned table."""
        return any(layer.shape.positional == "learned" for layer in self.layers)


def examine(model: PreTrainedModel, head: Head | None = None) -> Architecture:
    """Measure a model's attention layers and compare captured calls with plain ones.

    Args:
        model: A causal language model.
        head: For a student: logits (R, C) of hidden states (R, D), compared with the model's own.

    Returns:
        What captured calls have to know of the model.

    Raises:
        CaptureError: naming the model and what differs.
    """
    name = require_mask_support(model)
    device = model.device
    with evaluating(model), torch.no_grad(), torch.autocast(device.type, enabled=False):
        return _examined(model, head, name.removeprefix(PREFIX))


def _examined(model: PreTrainedModel, head: Head | None, backend: str) -> Architecture:
    with _refusals(model, "a call with two short padded texts"):
        texts = packed_texts(model)
        layers = rotation.measure(model, int(texts.ids[1, 0]))
        check = Comparison(model, texts, embedded=head is not None)
        offset = check.position_offset(backend)
    if head is None:
        with _refusals(model, "a call with two short padded texts"):
            check.packed_call(offset)
        return Architecture(layers, offset)
    with _refusals(model, "a call with embeddings in place of token ids", STUDENT):
        packed = check.packed_call(offset)
        _require_student(model, layers, offset)
        check.free_embeddings()
    with _refusals(model, "a second call on top of captured keys and values", STUDENT):
        check.prefix_call(packed)
        check.head(head)
        return Architecture(layers, offset, cache_source(check, packed, head))


def _require_student(model: PreTrainedModel, layers: tuple[rotation.MeasuredLayer, ...], offset: int) -> None:
    """Refuse a backbone whose generation would not follow its own forward call."""
    if offset:
        raise CaptureError(
            f"{type(model).__name__} counts its positions from {offset}, which generation does not: it can "
            "teach, but is no backbone of "
            f"a student. {CHOOSE}"
        )
    window: int | None = getattr(model.config.get_text_config(), "sliding_window", None)
    cached = DynamicCache(config=model.config).layers
    sliding = {number for number, layer in enumerate(cached) if isinstance(layer, DynamicSlidingWindowLayer)}
    shortened = [layer.layer_id for layer in layers if layer.layer_id in sliding]
    if window is not None and shortened and all(layer.shape.window is None for layer in layers):
        raise CaptureError(
            f"{type(model).__name__} attends to the complete text but caches only the last {window} tokens, "
            "so it answers longer texts unlike it reads them: it can teach, but is no backbone of a "
            f"student. {CHOOSE}"
        )


@contextmanager
def _refusals(model: PreTrainedModel, what: str, remedy: str = CHOOSE) -> Iterator[None]:
    """Errors of the model's own code become a refusal that names the model and the call."""
    try:
        yield
    except (CaptureError, torch.OutOfMemoryError):
        raise
    except MODEL_ERRORS as error:
        raise CaptureError(
            f"{type(model).__name__} cannot be captured: {what} fails in its own code with "
            f"{type(error).__name__} "
            f"({first_line(error)}). {remedy}"
        ) from error
