"""Architecture check: captured keys, values and hidden states equal those of the model's plain forward pass.

It runs once, before training. Two short random texts, padded and packed side by side as in training, are
compared with plain calls of each text alone: hidden states, keys, values and, for a student, a second call on
top of a prefix, the language model head and a generation cache. A model with recurrent state beside its
attention, a head that is more than its output embeddings, or attention that is no function of the captured
keys and values differs in one of them and is refused by name.

Source: ours.
"""

import inspect
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
from kvdistill.capture.comparison import Comparison, Head, cache_source, first_line
from kvdistill.capture.random_texts import packed_texts

STUDENT = f"So it is no backbone of a student, which reads latent slots in this way; it may teach. {CHOOSE}"


@dataclass(frozen=True, slots=True)
class Architecture:
    """Result of ``examine``: attention layers, position offset and source of generation caches."""

    layers: tuple[rotation.MeasuredLayer, ...]
    """The attention layers, by layer id."""
    position_offset: int = 0
    """Position id of the first token (RoBERTa counts from its padding index + 1)."""
    cache_source: CacheSource = "captured"
    """Where a student's generation cache comes from."""

    @property
    def is_learned(self) -> bool:
        """Whether the model has learned position embeddings."""
        # They are added to the embeddings, so one layer with values that depend on positions is enough.
        return any(layer.shape.positional == "learned" for layer in self.layers)


def examine(model: PreTrainedModel, head: Head | None = None) -> Architecture:
    """Measure a model's attention layers and compare captured calls with plain ones.

    Args:
        model: A causal language model, with the attention backend ``sdpa`` or ``eager``.
        head: For a student's backbone: a function from hidden states (R, D) to logits (R, C), compared with
            the model's own logits. None checks a teacher, which needs less.

    Returns:
        Layers, position offset and, for a student, the source of generation caches.

    Raises:
        CaptureError: if captured calls differ from plain ones; names the model and what differs.
    """
    name = require_mask_support(model)
    device = model.device
    # No autocast: the tolerance of the comparison follows from the model's own dtype.
    with evaluating(model), torch.no_grad(), torch.autocast(device.type, enabled=False):
        return _examined(model, head, name.removeprefix(PREFIX))


def _examined(model: PreTrainedModel, head: Head | None, backend: str) -> Architecture:
    with _refusals(model, "a call with two short padded texts"):
        texts = packed_texts(model)
        # A token id without special meaning, for models that look at ids as well as embeddings.
        layers = rotation.measure(model, int(texts.ids[1, 0]))
        # A student's calls get embeddings: latent slots have no token id.
        check = Comparison(model, texts, embedded=head is not None)
        # With the model's own backend, not the wrapper: the reference for all comparisons.
        offset = check.position_offset(backend)
    # A teacher is only called on token ids; a student's backbone also on embeddings, prefixes and caches.
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
    """Refuse a backbone whose generation would differ from its own forward pass."""
    if offset:
        raise CaptureError(
            f"{type(model).__name__} counts its positions from {offset}, which generation does not: it can "
            "teach, but is no backbone of "
            f"a student. {CHOOSE}"
        )
    # transformers' generate counts positions from the attention mask for such models alone.
    if "position_ids" not in inspect.signature(model.forward).parameters:
        raise CaptureError(
            f"{type(model).__name__} takes no position ids in generation, so it would count the padding of "
            f"questions: it can teach, but is no backbone of a student. {CHOOSE}"
        )
    # A sliding window in the cache but not in attention: only generation would lose the older tokens.
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
    """Turn errors of the model's own code into a CaptureError that names the model and the call."""
    try:
        yield
    # Running out of memory tells nothing about the architecture.
    except (CaptureError, torch.OutOfMemoryError):
        raise
    except MODEL_ERRORS as error:
        raise CaptureError(
            f"{type(model).__name__} cannot be captured: {what} fails in its own code with "
            f"{type(error).__name__} "
            f"({first_line(error)}). {remedy}"
        ) from error
