"""The student as it was before its first step: question vectors that stay the same while it is trained."""

from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kvdistill.capture.sequence import attention_call
from kvdistill.latent.question import question_of, question_sequence
from kvdistill.text import Batch, QuestionRead

if TYPE_CHECKING:
    from kvdistill.latent.reasoner import LatentReasoner


class StartingStudent:
    """A frozen copy of a student, up to the layer whose keys are the question's vector.

    Weights that are not trained, and those of later layers, are shared with the student: for a student with
    low-rank adapters only its adapters are copied. It is no module, so it is not trained, saved or moved.

    Args:
        student: The student at its starting weights, on its device.
        read: Which of its keys are the question's vector.

    Source: ours.
    """

    def __init__(self, student: "LatentReasoner", read: QuestionRead) -> None:
        self.read = read
        student.geometry()  # measured once, for both
        layers, index = _list_of_layers(student.body, read.layer)
        later = {id(each) for layer in layers[index + 1 :] for each in layer.parameters()}
        needed = {id(each) for each in student.body.parameters()} - later
        shared: dict[int, Any] = {id(student.tokenizer): student.tokenizer}
        for each in student.parameters():
            if not each.requires_grad or id(each) not in needed:
                shared[id(each)] = each
        # deepcopy takes what its memo already holds.
        self.model = deepcopy(student, shared).eval()
        kept = {id(each) for each in student.parameters()}
        self.copied = {name: each for name, each in self.model.named_parameters() if id(each) not in kept}
        for each in self.copied.values():
            each.requires_grad_(False)
        layers, index = _list_of_layers(self.model.body, read.layer)
        layers[index].register_forward_hook(_stop)

    @torch.no_grad()
    def vectors(self, batch: Batch) -> Float[Tensor, "B d"]:
        """The vectors of questions, as ``question_vectors`` of the student gave them before its first step.

        Args:
            batch: B samples; only their questions are read.

        Returns:
            (B, H K): un-rotated keys, heads concatenated, outside the autograd graph.
        """
        sequence = question_sequence(batch)
        call = attention_call(sequence, sequence.ids.shape[1])
        # The layers after the one whose keys are read are not computed.
        with suppress(_ReachedError):
            self.model.body(
                inputs_embeds=self.model.embed(sequence.ids),
                attention_mask=call.visible,
                position_ids=call.query_positions,
                use_cache=False,
                kv_call=call,
            )
        call.closed = True
        return question_of(sequence, call, self.model.geometry(), self.read)

    def state(self) -> dict[str, Tensor]:
        """What a resumed run cannot take from its student.

        Returns:
            The copied weights by name.
        """
        return dict(self.copied)

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Become the student that another run of the same configuration started from.

        Args:
            state: The result of ``state``.

        Raises:
            ValueError: if it holds other weights than those copied here.
        """
        shapes = {name: tuple(each.shape) for name, each in self.copied.items()}
        if shapes != {name: tuple(each.shape) for name, each in state.items()}:
            raise ValueError("it holds the weights of another student")
        for name, each in self.copied.items():
            each.copy_(state[name])


class _ReachedError(Exception):
    """The layer has been computed."""


def _stop(*_: object) -> None:
    raise _ReachedError


def _list_of_layers(body: nn.Module, layer: int) -> tuple[nn.ModuleList, int]:
    """The list of layers that holds an attention layer, and the index of its entry."""
    for found in body.modules():
        if not isinstance(found, nn.ModuleList):
            continue
        for index, entry in enumerate(found):
            if any(getattr(each, "layer_idx", None) == layer for each in entry.modules()):
                return found, index
    raise ValueError(
        f"fusion.query start: {type(body).__name__} keeps its layers in no list, so the student cannot be "
        "copied up to one of them. Set fusion.query to current."
    )
