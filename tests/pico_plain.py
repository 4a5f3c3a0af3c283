"""The reference of the families' matrix: plain calls of transformers on one sample, without padding, cache or
packing.

Nothing of the package is used here but the student's feedback, which is its own part. What attention is given
is noted by a function that stands in for transformers' own under its own name, so that modeling files which
ask for the name see no difference.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

Row = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Noted:
    """What one attention function was given in one call."""

    layer_id: int | None
    query: Tensor
    keys: Tensor
    values: Tensor
    mask: Tensor | None
    settings: dict[str, Any]


@contextmanager
def noting(model: nn.Module) -> Iterator[list[Noted]]:
    """Inside this block, note what the attention functions of the model's files are given; their results stay
    the same.
    """
    noted: list[Noted] = []

    def noted_first(inner: Callable[..., Any]) -> Callable[..., Any]:
        def attention(module: nn.Module, *states: Tensor, **settings: Any) -> Any:
            query, keys, values, mask = (
                states if len(states) == 4 else (*states, settings.get("attention_mask"))
            )
            noted.append(Noted(getattr(module, "layer_idx", None), query, keys, values, mask, settings))
            return inner(module, *states, **settings)

        return attention

    sdpa = noted_first(AttentionInterface._global_mapping["sdpa"])
    files = {type(module).__module__ for module in model.modules()}
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(AttentionInterface._global_mapping, {"sdpa": sdpa}))
        for file in files:
            eager = getattr(sys.modules[file], "eager_attention_forward", None)
            if eager is not None:
                stack.enter_context(
                    mock.patch.object(sys.modules[file], "eager_attention_forward", noted_first(eager))
                )
        yield noted


@dataclass(frozen=True)
class Plain:
    """A causal language model as transformers has it, the student's feedback, and its special tokens."""

    model: PreTrainedModel
    feedback: Callable[[Tensor], Tensor]
    special: dict[str, int]

    def embed(self, ids: list[int] | tuple[int, ...]) -> Tensor:
        """Token embeddings of one sample."""
        return self.model.get_input_embeddings()(torch.tensor([list(ids)]))

    def latents(self, row: Row, slots: int, passes: int) -> Tensor:
        """Inputs up to the last latent slot, everything recomputed from the first token on in every pass."""
        head = self.embed([*row["question"], *row["student_cue"], self.special["bot"]])
        thought = self.embed([self.special["latent"]] * slots)
        for _ in range(passes):
            hidden = self.model(
                inputs_embeds=torch.cat((head, thought), 1), output_hidden_states=True
            ).hidden_states[-1]
            thought = self.feedback(hidden[:, head.shape[1] - 1 : -1])
        return torch.cat((head, thought), 1)

    def closed(self, row: Row, slots: int, passes: int, answer: bool = True) -> Tensor:
        """Inputs of student mode up to its prompt or its answer."""
        tail = [self.special["eot"], *row["prompt"], *(row["answer"] if answer else ())]
        return torch.cat((self.latents(row, slots, passes), self.embed(tail)), 1)

    def greedy(self, start: Tensor, steps: int, ends: tuple[int, ...]) -> list[int]:
        """The likeliest token, again and again, the whole text recomputed for each; stops where two are as
        likely.

        ``start`` holds ids or embeddings. An end token is the last that is written.
        """
        found: list[int] = []
        while len(found) < steps and not set(found) & set(ends):
            is_ids = start.ndim == 2
            logits = self.model(**{"input_ids" if is_ids else "inputs_embeds": start}).logits[0, -1]
            best, second = logits.topk(2).values.tolist()
            if best - second < 1e-3 * abs(best):
                break
            found.append(int(logits.argmax()))
            new = torch.tensor([[found[-1]]])
            start = torch.cat((start, new if is_ids else self.model.get_input_embeddings()(new)), 1)
        return found


def teacher_text(row: Row) -> list[int]:
    """All that a teacher reads of a sample, without delimiters."""
    return [*row["question"], *row["cue"], *row["cot"], *row["prompt"], *row["answer"]]


def shifted_keys(
    model: PreTrainedModel, text: list[int], columns: range, logits: Tensor
) -> dict[int, Tensor] | None:
    """Keys of each column as the model gives them where that column has position 0: those before a rotation.

    None where the model takes no such positions, or where its logits depend on more than the distances
    between tokens.
    """
    positions = torch.stack([torch.arange(len(text)) - column for column in columns])
    try:
        with noting(model) as noted:
            moved = model(input_ids=torch.tensor([text] * len(columns)), position_ids=positions).logits
    except (IndexError, RuntimeError, TypeError, ValueError):
        return None
    if not (moved - logits).norm() <= 1e-3 * moved.norm():
        return None
    line = torch.arange(len(columns))
    return {call.layer_id: call.keys[line, :, torch.tensor(list(columns))].transpose(0, 1) for call in noted}


def without_factor(model: PreTrainedModel, keys: Tensor, turned: Tensor, like: Tensor) -> Tensor:
    """Keys with their turning channels divided by the attention factor of one of the model's rotations, the
    one that fits best.

    ``turned`` are the same keys at the positions of the text: channels that differ are those that turn.
    """
    names = [
        (module, name)
        for module in model.modules()
        for name in vars(module)
        if name.endswith("attention_scaling")
    ]
    factors = {1.0, *(float(getattr(module, name)) for module, name in names)}
    some = ((turned - keys).abs().amax((0, 1)) > 1e-4 * keys.abs().amax()).to(keys.dtype)
    every = torch.ones_like(some)  # channels that turn too slowly for so short a text to show it
    candidates = [keys / (1 + turns * (factor - 1)) for factor in sorted(factors) for turns in (some, every)]
    return min(candidates, key=lambda candidate: float((candidate - like).norm()))


def importance(call: Noted, columns: range, rows: list[int]) -> Tensor:
    """How rows of the answer spread their attention over columns, in float64: maximum over the group,
    softmax, mean over the rows.
    """
    query, keys = call.query[0].double(), call.keys[0].double()
    keys = keys.repeat_interleave(query.shape[0] // keys.shape[0], 0)
    scaling = call.settings.get("scaling") or query.shape[-1] ** -0.5
    logits = query[:, rows] @ keys[:, columns].transpose(1, 2) * scaling
    softcap = call.settings.get("softcap")
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    bias = call.settings.get("position_bias")
    if bias is not None:
        logits = logits + bias[0][:, rows][..., columns]
    visible = torch.tensor([[column <= row for column in columns] for row in rows])[None]
    if call.mask is not None:
        mask = call.mask[0][:, rows][..., columns]
        visible = visible & (mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2)
    heads = call.keys.shape[1]
    logits = logits.masked_fill(~visible, -torch.inf).unflatten(0, (heads, -1)).amax(1)
    sees = visible.any(-1)[0]
    if not sees.any():
        return torch.full((heads, len(columns)), 1 / len(columns), dtype=torch.float64)
    return logits[:, sees].softmax(-1).mean(1)
