"""Relay of ``kv_call`` to attention modules whose decoder layer drops its keyword arguments.

The attention of such a layer (StableLM, Nemotron) uses transformers' attention interface and takes keyword
arguments, but the layer's own code does not hand them on. Forward hooks add ``kv_call`` there.
"""

import dis
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakValueDictionary

from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers.modeling_layers import GradientCheckpointingLayer

from kvdistill.capture.call import AttentionCall

INTERFACE = "ALL_ATTENTION_FUNCTIONS"
"""Name under which transformers' model files look up the attention function of the backend."""


class ArgumentRelay:
    """Forward hooks that pass ``kv_call`` from decoder layers to their attention modules."""

    def __init__(self) -> None:
        self._inside = False
        self._call: AttentionCall | None = None
        # A replay of gradient checkpointing runs a layer's code without its hooks, on the same mask object.
        # Weak: the checkpointed arguments keep the call alive for as long as a replay is possible.
        self._by_mask: WeakValueDictionary[int, AttentionCall] = WeakValueDictionary()

    def register(self, layer: nn.Module, attention: nn.Module) -> tuple[RemovableHandle, ...]:
        """Add the hooks.

        Args:
            layer: Decoder layer, which gets ``kv_call`` among its keyword arguments.
            attention: Attention module inside it.

        Returns:
            Handles that remove the hooks again.
        """
        return (
            layer.register_forward_pre_hook(self._enter, with_kwargs=True),
            layer.register_forward_hook(self._leave, always_call=True),
            attention.register_forward_pre_hook(self._hand_on, with_kwargs=True),
        )

    def _enter(self, _: nn.Module, __: tuple[Any, ...], arguments: dict[str, Any]) -> None:
        self._inside, self._call = True, arguments.get("kv_call")

    def _leave(self, *_: object) -> None:
        self._inside, self._call = False, None

    def _hand_on(
        self, _: nn.Module, positional: tuple[Any, ...], arguments: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        mask = arguments.get("attention_mask")
        if not self._inside:
            call = self._by_mask.get(id(mask))
        else:
            call = self._call
            if call is not None and mask is not None:
                self._by_mask[id(mask)] = call
        if call is None:
            return positional, arguments
        return positional, {**arguments, "kv_call": call}


def uses_interface(module: nn.Module) -> bool:
    """Whether a module is an attention layer that calls the registered attention function.

    Args:
        module: Any module of a model.

    Returns:
        True where it has a layer index and its forward function looks up the attention interface.
    """
    if getattr(module, "layer_idx", None) is None:  # attention of an image tower, which is not captured
        return False
    return INTERFACE in _forward_of(type(module)).__code__.co_names


def register_argument_relay(model: nn.Module) -> tuple[RemovableHandle, ...]:
    """Add hooks to the decoder layers of a model that drop their keyword arguments; none in most models.

    Args:
        model: Any transformers model.

    Returns:
        Handles that remove the hooks again.
    """
    relay, handles = ArgumentRelay(), []
    kinds = {type(module) for module in model.modules()}
    dropping = {kind for kind in kinds if _drops_arguments(kind)}
    for layer in model.modules():
        if type(layer) in dropping:
            for attention in filter(uses_interface, layer.modules()):
                handles += relay.register(layer, attention)
    return tuple(handles)


@contextmanager
def argument_relay(model: nn.Module) -> Iterator[None]:
    """Hooks of ``register_argument_relay`` inside this block."""
    handles = register_argument_relay(model)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _drops_arguments(kind: type[nn.Module]) -> bool:
    """Whether a kind of decoder layer accepts further keyword arguments, but its code never reads them."""
    if not issubclass(kind, GradientCheckpointingLayer):
        return False
    forward = _forward_of(kind)
    rest = inspect.getfullargspec(forward).varkw
    if rest is None:
        return False
    # Python 3.13 loads two variables in one step, whose names then stand in a tuple.
    loads = [step for step in dis.get_instructions(forward) if step.opname.startswith("LOAD_")]
    return not any(rest == step.argval or rest in (step.argval or ()) for step in loads)


def _forward_of(kind: type[nn.Module]) -> Callable[..., Any]:
    """The forward function of a class as its model file defines it, without decorators."""
    return inspect.unwrap(kind.forward)
