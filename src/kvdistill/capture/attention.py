"""The registered attention function: sees queries, keys and values of any model, adds a prefix, never patches
a class.

transformers sends every layer through one attention interface. The wrapper here calls the model's own backend
with the states that it was given, so that logits do not change by one bit, and notes what passed. What one
forward call wants of it travels in that call's arguments (``kv_call``): nothing is stored on modules, and
gradient checkpointing can replay a layer.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

PREFIX = "kvdistill_"
CHOOSE = (
    "Choose another architecture (Llama, Qwen, Mistral, Gemma, GPT-2, OPT, GPT-NeoX, Phi-3, OLMo-2, GLM ...)."
)
MODEL_ERRORS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError)
"""What transformers' models raise where a call is not made for them."""
MASKED_BACKENDS = ("sdpa", "eager")
"""Backends that take a ready mask for each query and key; flash kernels do not."""


class CaptureError(ValueError):
    """A model whose keys and values cannot be captured; the message names the reason."""


@dataclass(frozen=True, slots=True)
class CapturedAttention:
    """What one attention layer was given, after key norm and rotation."""

    module: nn.Module
    query: Float[Tensor, "B Q S K"]
    keys: Float[Tensor, "B H S K"]
    """Keys of this call's own tokens, without the prefix."""
    values: Float[Tensor, "B H S V"]
    scaling: float
    softcap: float | None
    window: int | None


Prefix = dict[int, tuple[list[Tensor], list[Tensor]]]
"""Layer id -> keys and values of earlier calls, in pieces that stand before this call's own."""


@dataclass(slots=True)
class AttentionCall:
    """What one forward call asks of every attention layer, and what the layers saw."""

    visible: Bool[Tensor, "B 1 S P"] | None = None
    """Which keys (prefix first) each query may see, before any sliding window; None keeps the model's own
    mask.
    """
    query_positions: Int[Tensor, "B S"] | None = None
    key_positions: Int[Tensor, "B P"] | None = None
    prefix: Prefix = field(default_factory=dict)
    seen: dict[int, CapturedAttention] = field(default_factory=dict)
    closed: bool = False
    """True once the call is over: a replayed layer (gradient checkpointing) then notes nothing."""
    compare_masks: bool = False
    """Whether each layer's mask is compared with ``visible``, which waits for the device."""
    _masks: dict[tuple[str, int | None], Tensor] = field(default_factory=dict)

    def mask(self, backend: str, window: int | None, dtype: torch.dtype) -> Tensor | None:
        """The mask that ``backend`` takes, built once for all layers of one kind."""
        if self.visible is None:
            return None
        key = (backend, window)
        if key not in self._masks:
            visible = within_window(self.visible, self.query_positions, self.key_positions, window)
            self._masks[key] = torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(
                ~visible, torch.finfo(dtype).min
            )
        return self._masks[key]


def within_window(
    visible: Bool[Tensor, "B 1 S P"],
    query_positions: Int[Tensor, "B S"] | None,
    key_positions: Int[Tensor, "B P"] | None,
    window: int | None,
) -> Bool[Tensor, "B 1 S P"]:
    """Take the keys out that lie ``window`` or more positions before the query."""
    if window is None or query_positions is None or key_positions is None:
        return visible
    distance = query_positions[:, None, :, None] - key_positions[:, None, None, :]
    return visible & (distance < window)


def attend(  # noqa: PLR0913  (transformers dictates the signature)
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    backend: str,
    kv_call: AttentionCall | None = None,
    **kwargs: object,
) -> tuple[Tensor, Tensor | None]:
    """The attention of ``backend``, with the prefix and the mask of ``kv_call`` where there is one."""
    inner = _backend_function(module, backend)
    if kv_call is None:
        return inner(module, query, key, value, attention_mask, **kwargs)
    layer_id: int = module.layer_idx  # pyright: ignore[reportAssignmentType]
    window: int | None = kwargs.get("sliding_window")  # pyright: ignore[reportAssignmentType]
    if not kv_call.closed:
        _require_one_attention(module, layer_id, kv_call)
        if kv_call.compare_masks:
            _require_given_mask(module, attention_mask, kv_call.visible)
        scaling = kwargs.get("scaling") or query.shape[-1] ** -0.5
        kv_call.seen[layer_id] = CapturedAttention(
            module,
            query,
            key,
            value,
            scaling,  # pyright: ignore[reportArgumentType]
            kwargs.get("softcap"),  # pyright: ignore[reportArgumentType]
            window,
        )
    if layer_id in kv_call.prefix:
        keys, values = kv_call.prefix[layer_id]
        key, value = torch.cat((*keys, key), dim=2), torch.cat((*values, value), dim=2)
    ready = kv_call.mask(backend, window, query.dtype)
    return inner(module, query, key, value, attention_mask if ready is None else ready, **kwargs)


def _require_one_attention(module: nn.Module, layer_id: int, call: AttentionCall) -> None:
    """Refuse a layer that attends twice in one call: its cache is not one set of keys and values."""
    if layer_id in call.seen:
        raise CaptureError(
            f"{type(module).__name__} computes the attention of layer {layer_id} more than once in one "
            "forward call, so the layer has "
            f"no single set of keys and values to capture. {CHOOSE}"
        )


def _require_given_mask(module: nn.Module, mask: Tensor | None, visible: Tensor | None) -> None:
    """Refuse a layer that changes the mask it was given: the captured call would drop the change."""
    if mask is None or visible is None or mask.data_ptr() == visible.data_ptr():
        return
    same = mask.shape[-2:] == visible.shape[-2:]
    if same and mask.dtype == torch.bool:
        same = bool((mask == visible).all())
    elif same:
        hidden = mask <= torch.finfo(mask.dtype).min / 2
        same = bool((hidden == ~visible).all() and (mask.masked_fill(hidden, 0.0) == 0).all())
    if not same:
        raise CaptureError(
            f"{type(module).__name__} changes the attention mask that its model was given (a bias or a "
            "selection of its own), which "
            f"a captured call would drop. {CHOOSE}"
        )


def _backend_function(module: nn.Module, backend: str) -> Callable[..., tuple[Tensor, Tensor | None]]:
    if backend != "eager":
        return AttentionInterface()[backend]
    for cls in type(module).__mro__:
        function = getattr(sys.modules[cls.__module__], "eager_attention_forward", None)
        if function is not None:
            return function
    raise ValueError(
        f"{type(module).__name__} has no eager attention function of its own: load the model with "
        "attn_implementation='sdpa'."
    )


def body_of(model: PreTrainedModel) -> PreTrainedModel:
    """The model without its head, also where ``base_model`` is the model itself (Llama-4)."""
    if model.base_model is not model:
        return model.base_model  # pyright: ignore[reportReturnType]
    inner = [child for child in model.children() if isinstance(child, PreTrainedModel)]
    if len(inner) != 1:
        raise CaptureError(f"{type(model).__name__} has no single inner model beside its head. {CHOOSE}")
    return inner[0]


def register_capture_backend(model: PreTrainedModel) -> str:
    """Register the wrapper of the model's own backend, with its mask function, and return the wrapper's name.

    Raises:
        ValueError: if the architecture does not send its attention through transformers' attention interface.
    """
    backend = (model.config._attn_implementation or "eager").removeprefix(PREFIX)
    if not getattr(model, "_supports_attention_backend", False):
        raise CaptureError(
            f"{type(model).__name__} computes its attention by itself and not through transformers' "
            "attention interface, so its "
            f"keys and values cannot be captured. {CHOOSE}"
        )
    if backend == "eager" and getattr(model.config, "reorder_and_upcast_attn", False):
        raise ValueError(
            "reorder_and_upcast_attn with eager attention bypasses the attention interface: use "
            "attn_implementation='sdpa'."
        )
    name = PREFIX + backend
    if name not in AttentionInterface._global_mapping:
        AttentionInterface.register(name, partial(attend, backend=backend))
        AttentionMaskInterface.register(name, AttentionMaskInterface()[backend])
    return name


def require_mask_support(model: PreTrainedModel) -> str:
    """The same for a causal language model that is to be called under a ready mask for each query and key.

    Raises:
        ValueError: if the model is of another kind, or its backend takes no such mask.
    """
    if model.config.is_encoder_decoder:
        raise ValueError(
            f"{type(model).__name__} is an encoder-decoder: student and teacher have to be causal language "
            "models."
        )
    name = register_capture_backend(model)
    if name.removeprefix(PREFIX) not in MASKED_BACKENDS:
        raise ValueError(
            f"{name.removeprefix(PREFIX)} attention takes no mask for each query and key, which reading "
            "padded segments side by side "
            "needs: load the model with attn_implementation='sdpa' or 'eager'."
        )
    return name


@contextmanager
def capture_attention(model: PreTrainedModel) -> Iterator[AttentionCall]:
    """Let the model's layers be seen inside this block; afterwards the model is as it was.

    Pass the yielded call to the model as ``kv_call=...``.
    """
    call = AttentionCall()
    try:
        with attention_backend(model, register_capture_backend(model)):
            yield call
    finally:
        call.closed = True


@contextmanager
def attention_backend(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Let the model attend through the backend ``name`` inside this block; afterwards it is as it was."""
    before = model.config._attn_implementation
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = before


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside this block; afterwards each module is in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
