"""Probes of the latent slots: accuracy after ablations, and the words that slots decode to."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from kvdistill.capture.attention import Prefix, evaluating
from kvdistill.capture.extract import unrotated
from kvdistill.console.wording import counted
from kvdistill.evaluation.answers import same
from kvdistill.evaluation.evaluate import Evaluator, decode, left_padded
from kvdistill.kv import Geometry
from kvdistill.latent.decode import Edit
from kvdistill.latent.passes import PrefixCache, encode_latents
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.ops import rotate
from kvdistill.records.probes import ProbesRecord
from kvdistill.text import Encoded


def probe(
    model: LatentReasoner, samples: Sequence[Encoded], evaluator: Evaluator, words: int = 3
) -> ProbesRecord:
    """Measure accuracy with latents zeroed, swapped between questions or truncated, and decode the slots.

    Args:
        model: A student with a tokenizer.
        samples: N questions, at least 2.
        evaluator: Settings of generation; its batch size may be raised so that no question is alone.
        words: Number of words kept per slot, most frequent first.

    Returns:
        Accuracies (0 to 1) of each ablation, the words of each slot, and per slot i the share of questions
        where it decodes to the result of step i.

    Raises:
        ValueError: with a single question, since nothing can be swapped, or on a backbone that fills its
            cache by itself.

    Source: ours; decoding latents with the language-model head: KaVa, https://arxiv.org/abs/2510.02312,
    section 4.
    """
    if len(samples) < 2:
        raise ValueError("Swapping latents between questions needs at least two questions.")
    if model.architecture().cache_source == "prefill":
        raise ValueError(
            f"{type(model.backbone).__name__} caches something else than the keys and values that its "
            "attention sees, so its "
            "latents cannot be zeroed or swapped there: evaluate it without probes."
        )
    slots = model.config.slots
    evaluator = replace(evaluator, batch_size=pairable(len(samples), evaluator.batch_size))

    def ask(purpose: str, edit: Edit) -> float:
        return replace(evaluator, purpose=purpose).accuracy(model, samples, "latent", edit)

    top, match = _decoded(model, samples, evaluator.batch_size, words)
    return ProbesRecord(
        zeroed=ask("zeroed", partial(zeroed, slots=slots)),
        swapped=ask("swapped", partial(swapped, slots=slots, geometry=model.geometry())),
        fewer={
            keep: ask(f"cut to {counted(keep, 'slot')}", partial(cut, slots=slots, keep=keep))
            for keep in range(slots)
        },
        top_words=top,
        step_match=match,
    )


def num_rounds(slots: int) -> int:
    """Number of times ``probe`` answers every question: zeroed, swapped, and cut to 0 ... M - 1 slots."""
    return slots + 2


def zeroed(past: PrefixCache, slots: int) -> PrefixCache:
    """Set keys and values of the latent slots to zero.

    Args:
        past: Cache of question and latent slots.
        slots: Number of latent slots, M: the last M entries of the cache.
    """
    return replace(
        past,
        prefix=_changed(
            past.prefix, slots, lambda _, keys, values: (torch.zeros_like(keys), torch.zeros_like(values))
        ),
    )


def swapped(past: PrefixCache, slots: int, geometry: Geometry) -> PrefixCache:
    """Give each question the latent slots of the question before it in the batch.

    Keys are rotated to the positions of their new question.

    Args:
        past: Cache of question and latent slots, keys rotated.
        slots: Number of latent slots, M.
        geometry: Rotations of the backbone's attention layers.
    """
    # B M: questions differ in length, so equal slots have different positions.
    theirs, own = past.positions[:, -slots:].roll(1, 0), past.positions[:, -slots:]

    def swap(layer_id: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        layer = geometry.layer(layer_id)
        moved = unrotated(keys.roll(1, 0), theirs, layer.rope)
        if layer.rope is not None:
            moved = rotate(moved, own[:, None], layer.rope)
        return moved, values.roll(1, 0)

    return replace(past, prefix=_changed(past.prefix, slots, swap))


def cut(past: PrefixCache, slots: int, keep: int) -> PrefixCache:
    """Mask all but the first ``keep`` latent slots.

    The tokens after the slots get the positions that follow the last kept slot. Where slots are computed one
    after another (T = M), the result equals a student with ``keep`` slots.

    Args:
        past: Cache of question and latent slots.
        slots: Number of latent slots, M.
        keep: Number of slots that stay visible.
    """
    mask = past.mask.clone()
    mask[:, mask.shape[1] - slots + keep :] = False
    return replace(past, mask=mask)


def pairable(num: int, batch_size: int) -> int:
    """Next batch size whose last batch is not a single question, which has no other question in its batch.

    Args:
        num: Number of questions, at least 2.
        batch_size: The batch size wanted.

    Returns:
        At least ``batch_size``, and at least 2.
    """
    return next(size for size in range(max(batch_size, 2), max(batch_size, num) + 2) if num % size != 1)


def _changed(
    prefix: Prefix, slots: int, change: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]
) -> Prefix:
    """Apply ``change`` to keys (B, H, M, K) and values (B, H, M, V) of the latent slots in each layer."""
    changed: Prefix = {}
    for layer_id, pieces in prefix.items():
        keys, values = (torch.cat(piece, 2) for piece in pieces)
        new_keys, new_values = change(layer_id, keys[:, :, -slots:], values[:, :, -slots:])
        changed[layer_id] = ([keys[:, :, :-slots], new_keys], [values[:, :, :-slots], new_values])
    return changed


@torch.no_grad()
def _decoded(
    model: LatentReasoner, samples: Sequence[Encoded], batch_size: int, words: int
) -> tuple[list[list[str]], list[float]]:
    """Most frequent tokens of each slot, and the share of questions where slot i decodes to step i's result.

    A slot is decoded with the language-model head at the hidden state that its input was computed from.
    """
    slots = model.config.slots
    said: list[list[str]] = [[] for _ in range(slots)]
    with evaluating(model):
        for start in range(0, len(samples), batch_size):
            batch = left_padded(model, samples[start : start + batch_size])
            for slot, states in enumerate(
                encode_latents(model, batch.student_mode).states.unbind(1)
            ):  # B D each
                said[slot] += decode(
                    model, model.head(states).argmax(-1, keepdim=True), skip_special_tokens=False
                )
    top = [
        sorted(set(texts), key=lambda text, texts=texts: (-texts.count(text), text))[:words] for texts in said
    ]
    # Slot i is compared on the questions with more than i steps.
    pairs = [
        [
            (text, sample)
            for text, sample in zip(said[slot], samples, strict=True)
            if len(sample.example.steps) > slot
        ]
        for slot in range(slots)
    ]
    match = [_share(slot, pair) for slot, pair in enumerate(pairs) if pair]
    return top, match


def _share(slot: int, pairs: list[tuple[str, Encoded]]) -> float:
    return sum(same(text, result_of(sample.example.steps[slot])) for text, sample in pairs) / len(pairs)


def result_of(step: str) -> str:
    """Last word or number of a reasoning step, without punctuation: ``Bob`` of ``Ann hands Bob .``."""
    words = [word.strip(".,;:!?<>=$") for word in step.replace("=", " ").replace(">>", " ").split()]
    return next((word for word in reversed(words) if word), "")
