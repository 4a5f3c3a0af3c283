"""Layers that drop their keyword arguments: found by their code, and what hooks hand on to attention."""

import copy
import gc
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

import pico
from kvdistill.capture.argument_relay import (
    ArgumentRelay,
    argument_relay,
    register_argument_relay,
    uses_interface,
)
from kvdistill.capture.call import AttentionCall
from kvdistill.kv import TwoModes
from kvdistill.latent.reasoner import LatentReasoner

ALL_ATTENTION_FUNCTIONS = "as in transformers' model files"


class Attention(nn.Module):
    """Notes its arguments; the name in its code is what tells attention through the interface."""

    def __init__(self) -> None:
        super().__init__()
        self.layer_idx, self.given = 0, []

    def forward(self, states: Tensor, **arguments: Any) -> Tensor:
        assert ALL_ATTENTION_FUNCTIONS
        self.given.append(arguments)
        return states


class Layer(GradientCheckpointingLayer):
    """Accepts further arguments and drops them."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()

    def forward(self, states: Tensor, attention_mask: Tensor | None = None, **rest: Any) -> Tensor:
        return self.attention(states, attention_mask=attention_mask)


class PassingLayer(Layer):
    """Hands them on."""

    def forward(self, states: Tensor, attention_mask: Tensor | None = None, **rest: Any) -> Tensor:
        return self.attention(states, attention_mask=attention_mask, **rest)


class ClosedLayer(Layer):
    """Accepts none."""

    def forward(self, states: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.attention(states, attention_mask=attention_mask)


def hooks(model: Any) -> int:
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())


def test_the_call_reaches_the_attention_of_a_layer_that_drops_it() -> None:
    model: Any = nn.Sequential(Layer(), PassingLayer(), ClosedLayer())
    states, mask, call = torch.zeros(1), torch.ones(1), AttentionCall()
    with argument_relay(model):
        model[0](states, attention_mask=mask, kv_call=call)
        model[0](states, attention_mask=mask)
        assert hooks(model) == 3
    model[0](states, attention_mask=mask, kv_call=call)
    assert [given.get("kv_call") for given in model[0].attention.given] == [call, None, None]
    assert hooks(model) == 0


def test_hooks_are_removed_after_an_error() -> None:
    model = pico.backbone("stablelm")
    with pytest.raises(RuntimeError, match="midway"), argument_relay(model):
        assert hooks(model) == 9
        raise RuntimeError("midway")
    assert hooks(model) == 0


def test_a_layer_that_fails_leaves_no_call_behind() -> None:
    layer, relay, mask = Layer(), ArgumentRelay(), torch.ones(1)
    relay.register(layer, layer.attention)
    failing = layer.attention.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        layer(torch.zeros(1), attention_mask=mask, kv_call=AttentionCall())
    failing.remove()
    layer.attention(torch.zeros(1), attention_mask=torch.ones(1))
    assert [given.get("kv_call") is None for given in layer.attention.given] == [False, True]


@pytest.mark.parametrize(
    ("name", "layers"), [("llama", 0), ("gpt2", 0), ("gpt_neox", 0), ("stablelm", 3), ("nemotron", 3)]
)
def test_only_models_whose_layers_drop_arguments_get_hooks(name: str, layers: int) -> None:
    model = pico.backbone(name)
    # Two on the layer, one on its attention.
    assert len(register_argument_relay(model)) == 3 * layers == hooks(model)
    found = [type(module).__name__ for module in model.modules() if uses_interface(module)]
    assert len(found) == 3
    assert {each.endswith("Attention") for each in found} == {True}


def loss_of(two: TwoModes) -> Tensor:
    """Everything that a loss may read: logits, keys, values."""
    parts = [two.student.rows.logits.square().mean(), two.teacher.rows.logits.square().mean()]
    for layer in two.student.kv.layers:
        parts += [layer.keys.square().mean(), layer.values.mean()]
    return torch.stack(parts).sum()


def gradients(student: LatentReasoner) -> dict[str, Tensor]:
    student.zero_grad()
    loss_of(student(pico.batch(pico.cued(), "left"))).backward()
    return {name: value.grad.clone() for name, value in student.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("name", ["stablelm", "nemotron"])
def test_gradients_of_a_student_with_checkpointing_equal_those_without(name: str) -> None:
    """Question and two latent passes are replayed backwards, each with its own call."""
    student = pico.reasoner(name, slots=4, passes=3).train()
    plain = gradients(student)
    replays: list[bool] = []
    attention: PreTrainedModel = student.body.layers[1].self_attn  # pyright: ignore
    attention.register_forward_pre_hook(lambda *_: replays.append(torch.is_grad_enabled()))
    student.gradient_checkpointing_enable({"use_reentrant": False})
    replayed = gradients(student)
    assert len(replays) == 8  # packed and three latent passes, each of them twice
    assert plain.keys() == replayed.keys()
    for key, value in plain.items():
        torch.testing.assert_close(replayed[key], value, rtol=1e-5, atol=1e-6)


def test_calls_are_not_kept_alive() -> None:
    student, before = pico.reasoner("stablelm", slots=3, passes=2).train(), alive()
    student.gradient_checkpointing_enable({"use_reentrant": False})
    gradients(student)
    assert alive() == before


def alive() -> int:
    gc.collect()
    return sum(isinstance(each, AttentionCall) for each in gc.get_objects())


def test_a_copied_student_has_a_relay_of_its_own() -> None:
    student = pico.reasoner("stablelm", slots=3, passes=2)
    copied, batch = copy.deepcopy(student), pico.batch(pico.samples(2))
    with torch.no_grad():
        assert torch.equal(copied(batch).student.rows.logits, student(batch).student.rows.logits)
    kept, own = (
        {hook.__self__ for hook in model.body.layers[0]._forward_hooks.values() if is_relay(hook)}
        for model in (copied, student)
    )
    assert len(kept) == len(own) == 1
    assert kept.isdisjoint(own)


def is_relay(hook: Any) -> bool:
    return isinstance(getattr(hook, "__self__", None), ArgumentRelay)
