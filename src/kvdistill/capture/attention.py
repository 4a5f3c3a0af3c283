"""Capture backend for transformers' attention interface: records queries, keys and values, prepends a prefix.

transformers calls the attention of every layer through one interface. The wrapper here calls the model's own
backend with the states that it was given, so that logits do not change by one bit, and records them. The
options of a forward pass travel in its arguments (``kv_call``): no class is patched, nothing is stored on
modules, and gradient checkpointing can replay a layer.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from kvdistill.capture.argument_relay import argument_relay, uses_interface
from kvdistill.capture.call import AttentionCall, CapturedAttention
from kvdistill.capture.call import Prefix as Prefix
from kvdistill.capture.call import within_window as within_window

PREFIX = "kvdistill_"
CHOOSE = (
    "Choose another architecture (Llama, Qwen, Mistral, Gemma, GPT-2, OPT, GPT-NeoX, Phi-3, OLMo-2, GLM ...)."
)
MODEL_ERRORS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError)
"""Errors that transformers' models raise for inputs that they do not support."""
MASKED_BACKENDS = ("sdpa", "eager")
"""Backends that accept a 4-D mask (query by key); flash kernels do not."""


class CaptureError(ValueError):
    """The model's keys and values cannot be captured; the message names the reason."""


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
    """Attention by ``backend``, with the prefix and the mask of ``kv_call`` where there is one.

    Args as transformers passes them: ``query`` (B, Q, S, K), ``key`` (B, H, S, K), ``value`` (B, H, S, V).

    Returns:
        Output (B, S, Q, V), and the attention weights where the backend gives them.
    """
    inner = _backend_function(module, backend)
    if kv_call is None:  # a forward pass that is not captured
        return inner(module, query, key, value, attention_mask, **kwargs)
    layer_id: int = module.layer_idx  # pyright: ignore[reportAssignmentType]
    window: int | None = kwargs.get("sliding_window")  # pyright: ignore[reportAssignmentType]
    if not kv_call.closed:  # closed while gradient checkpointing replays a layer
        _require_one_attention(module, layer_id, kv_call)
        if kv_call.compare_masks:
            _require_given_mask(module, attention_mask, kv_call.visible)
        scaling = kwargs.get("scaling") or query.shape[-1] ** -0.5  # the backends' default
        # Recorded before the prefix is prepended, in the graph: gradients flow through the captured keys.
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
        # (B, H, P, K): prefix and own keys already carry the rotation of their own positions.
        key, value = torch.cat((*keys, key), dim=2), torch.cat((*values, value), dim=2)
    ready = kv_call.mask(backend, window, query.dtype)
    if ready is not None:
        attention_mask = ready.to(query.device)  # a teacher may have its layers on several devices
    return inner(module, query, key, value, attention_mask, **kwargs)


def _require_one_attention(module: nn.Module, layer_id: int, call: AttentionCall) -> None:
    """Refuse a layer that attends twice in one forward pass: it has no single set of keys and values."""
    if layer_id in call.seen:
        raise CaptureError(
            f"{type(module).__name__} computes the attention of layer {layer_id} more than once in one "
            "forward call, so the layer has "
            f"no single set of keys and values to capture. {CHOOSE}"
        )


def _require_given_mask(module: nn.Module, mask: Tensor | None, visible: Tensor | None) -> None:
    """Refuse a layer that changes the mask it was given: the captured call would drop the change."""
    if mask is None or visible is None or mask.data_ptr() == visible.data_ptr():  # passed on as given
        return
    # The same mask in another form: boolean, or additive with 0 for visible keys.
    visible = visible.to(mask.device)
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
    for cls in type(module).__mro__:  # each model file of transformers defines its own eager attention
        function = getattr(sys.modules[cls.__module__], "eager_attention_forward", None)
        if function is not None:
            return function
    raise ValueError(
        f"{type(module).__name__} has no eager attention function of its own: load the model with "
        "attn_implementation='sdpa'."
    )


def body_of(model: PreTrainedModel) -> PreTrainedModel:
    """The model without its head: ``base_model``, or its one inner model where that is itself (Llama-4)."""
    if model.base_model is not model:
        return model.base_model  # pyright: ignore[reportReturnType]
    inner = [child for child in model.children() if isinstance(child, PreTrainedModel)]
    if len(inner) != 1:
        raise CaptureError(f"{type(model).__name__} has no single inner model beside its head. {CHOOSE}")
    return inner[0]


def register_capture_backend(model: PreTrainedModel) -> str:
    """Register a capturing wrapper of the model's attention backend; the model itself is not changed.

    Args:
        model: Any transformers model; its configured backend is wrapped, with its mask function.

    Returns:
        The registered name, to be set as attention implementation.

    Raises:
        ValueError: if the architecture does not use transformers' attention interface.
    """
    backend = (model.config._attn_implementation or "eager").removeprefix(PREFIX)
    if not _uses_interface(model):
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
    if name not in AttentionInterface._global_mapping:  # once per process and backend
        AttentionInterface.register(name, partial(attend, backend=backend))
        # transformers looks the mask function up under the same name.
        AttentionMaskInterface.register(name, AttentionMaskInterface()[backend])
    return name


def _uses_interface(model: PreTrainedModel) -> bool:
    """Whether the model declares the attention interface, or has attention layers that use it undeclared."""
    declared: bool = getattr(model, "_supports_attention_backend", False)
    return declared or any(uses_interface(module) for module in model.modules())


def require_mask_support(model: PreTrainedModel) -> str:
    """Like ``register_capture_backend``, for a causal language model that takes a 4-D attention mask.

    Raises:
        ValueError: if the model is an encoder-decoder, or its backend takes no such mask.
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
    """Capture attention inside this block; afterwards the model's backend is the previous one.

    Yields a call, to be passed to the model as ``kv_call=...``; it records nothing after the block.
    """
    call = AttentionCall()
    try:
        with attention_backend(model, register_capture_backend(model)):
            yield call
    finally:
        call.closed = True


@contextmanager
def attention_backend(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Set the model's attention backend to ``name`` inside this block; afterwards the previous one."""
    before = model.config._attn_implementation
    model.config._attn_implementation = name
    try:
        with argument_relay(model):
            yield
    finally:
        model.config._attn_implementation = before


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside this block; afterwards each module has its previous mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training  # not train(): frozen parts may have been in evaluation mode
