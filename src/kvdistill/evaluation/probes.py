"""Are the latent slots used, and what do they say?"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from kvdistill.capture.attention import Prefix
from kvdistill.capture.extract import unrotated
from kvdistill.data.collate import collate
from kvdistill.evaluation.answers import same
from kvdistill.evaluation.evaluate import Evaluator, evaluating
from kvdistill.kv import Geometry
from kvdistill.latent.modes import Past, think
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.ops import rotate
from kvdistill.record import ProbesRecord
from kvdistill.text import Encoded


def probe(model: LatentReasoner, samples: Sequence[Encoded], evaluator: Evaluator, words: int = 3) -> ProbesRecord:
    """Accuracy with the latents zeroed, swapped between questions and cut to fewer, and what their states decode to.

    Raises:
        ValueError: with a single question, since nothing can be swapped.

    Source: ours; decoding latents with the language-model head: KaVa, https://arxiv.org/abs/2510.02312, section 4.
    """
    if len(samples) < 2:
        raise ValueError("Swapping latents between questions needs at least two questions.")
    slots = model.config.slots
    ask: Callable[[Callable[[Past], Past]], float] = partial(evaluator.accuracy, model, samples, "latent")
    top, match = _decoded(model, samples, evaluator.batch_size, words)
    return ProbesRecord(
        zeroed=ask(partial(zeroed, slots=slots)),
        swapped=ask(partial(swapped, slots=slots, geometry=model.geometry())),
        fewer={count: ask(partial(cut, slots=slots, keep=count)) for count in range(slots)},
        top_words=top,
        step_match=match,
    )


def zeroed(past: Past, slots: int) -> Past:
    """Keys and values of the latent slots set to zero."""
    return replace(past, prefix=_changed(past.prefix, slots, lambda layer_id, keys, values: (keys * 0, values * 0)))


def swapped(past: Past, slots: int, geometry: Geometry) -> Past:
    """Each question gets the latent slots of its neighbour in the batch, turned to its own positions."""
    theirs, own = past.positions[:, -slots:].roll(1, 0), past.positions[:, -slots:]

    def swap(layer_id: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        layer = geometry.layers[layer_id]
        moved = unrotated(keys.roll(1, 0), theirs, layer)
        return (moved if layer.rope is None else rotate(moved, own[:, None], layer.rope)), values.roll(1, 0)

    return replace(past, prefix=_changed(past.prefix, slots, swap))


def cut(past: Past, slots: int, keep: int) -> Past:
    """Only the first ``keep`` latent slots can be seen."""
    mask = past.mask.clone()
    mask[:, mask.shape[1] - slots + keep :] = False
    return replace(past, mask=mask)


def _changed(prefix: Prefix, slots: int, change: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]) -> Prefix:
    changed: Prefix = {}
    for layer_id, pieces in prefix.items():
        keys, values = (torch.cat(piece, 2) for piece in pieces)
        new_keys, new_values = change(layer_id, keys[:, :, -slots:], values[:, :, -slots:])
        changed[layer_id] = ([keys[:, :, :-slots], new_keys], [values[:, :, :-slots], new_values])
    return changed


@torch.no_grad()
def _decoded(model: LatentReasoner, samples: Sequence[Encoded], batch_size: int, words: int) -> tuple[list[list[str]], list[float]]:
    """The most frequent first words of each slot, and how often slot i decodes to the last word of step i."""
    tokenizer, slots = model.tokenizer, model.config.slots
    if tokenizer is None:
        raise ValueError("This student has no tokenizer: load it from a folder that holds one, or set model.tokenizer.")
    said: list[list[str]] = [[] for _ in range(slots)]
    with evaluating(model):
        for start in range(0, len(samples), batch_size):
            batch = collate(samples[start : start + batch_size], tokenizer.pad_token_id, padding_side="left").to(model.device)
            first = model.head(think(model, batch).states).argmax(-1)
            for slot in range(slots):
                said[slot] += [text.strip() for text in tokenizer.batch_decode(first[:, slot, None])]
    top = [sorted(set(texts), key=lambda text, texts=texts: (-texts.count(text), text))[:words] for texts in said]
    pairs = [
        [(text, sample) for text, sample in zip(said[slot], samples, strict=True) if len(sample.example.steps) > slot]
        for slot in range(slots)
    ]
    match = [_share(slot, pair) for slot, pair in enumerate(pairs) if pair]
    return top, match


def _share(slot: int, pairs: list[tuple[str, Encoded]]) -> float:
    return sum(same(text, result_of(sample.example.steps[slot])) for text, sample in pairs) / len(pairs)


def result_of(step: str) -> str:
    """The last word or number of a reasoning step, without its punctuation: ``Bob`` of ``Ann hands Bob .``."""
    words = [word.strip(".,;:!?<>=$") for word in step.replace("=", " ").replace(">>", " ").split()]
    return next((word for word in reversed(words) if word), "")
