"""From texts to token ids with the characters that each token covers."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from kvdistill.text import Segment

_ANCHOR = "a"
"""What the texts that follow another text are tokenized behind."""


def segments_of(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
    """Texts, each tokenized alone; no token is added."""
    if not texts:
        return []
    out = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return [
        Segment(text, tuple(ids), tuple((start, end) for start, end in spans))
        for text, ids, spans in zip(texts, out["input_ids"], out["offset_mapping"], strict=True)
    ]


def continuations_of(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
    """Texts that follow another text: where they begin with a space, their tokens are those that they have
    behind other words.

    Llama 2's and Mistral's tokenizers put a space of their own before every text, so that ``" 48"`` alone
    would begin with two.
    """
    spaced = [text.startswith(" ") for text in texts]
    if not any(spaced) or not _doubles_leading_space(tokenizer):
        return segments_of(texts, tokenizer)
    (anchor,) = segments_of([_ANCHOR], tokenizer)
    anchored = segments_of(
        [f"{_ANCHOR}{text}" if space else text for text, space in zip(texts, spaced, strict=True)], tokenizer
    )
    return [
        _behind(segment, anchor) if space else segment
        for segment, space in zip(anchored, spaced, strict=True)
    ]


def _doubles_leading_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts a space of its own before a text that begins with one."""
    anchor, alone, spaced, behind = segments_of([_ANCHOR, "0", " 0", f"{_ANCHOR} 0"], tokenizer)
    return spaced.ids != alone.ids and _behind(behind, anchor).ids == alone.ids


def _behind(segment: Segment, anchor: Segment) -> Segment:
    """What follows the anchor."""
    length, first = len(anchor.text), len(anchor.ids)
    spans = tuple((max(start - length, 0), max(end - length, 0)) for start, end in segment.spans[first:])
    return Segment(segment.text[length:], segment.ids[first:], spans)
