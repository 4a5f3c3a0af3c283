"""Tokenize texts with character spans, also texts that continue another one."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from kvdistill.text import Segment

_ANCHOR = "a"
"""Text that is put before continuations while they are tokenized; its tokens are removed again."""

_WORD_MARK = "▁"
"""SentencePiece's token for the space before a word, which it also puts at the head of a text."""


def segments_of(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
    """Tokenize each text on its own, without special tokens; equal texts are tokenized once.

    SentencePiece's token ``▁`` covers a space of the text or, where the text has none, no character.

    Args:
        texts: any number of texts.
        tokenizer: a fast tokenizer.

    Returns:
        One segment for each text: ids, and characters [start, end) of each token.
    """
    if not texts:
        return []
    unique = list(dict.fromkeys(texts))
    out = tokenizer(unique, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    mark = _word_mark(tokenizer)
    segments = {
        text: Segment(text, tuple(ids), _spans(text, ids, spans, mark))
        for text, ids, spans in zip(unique, out["input_ids"], out["offset_mapping"], strict=True)
    }
    return [segments[text] for text in texts]


def _word_mark(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Id of the token ``▁``; None where the tokenizer has none."""
    number = tokenizer.convert_tokens_to_ids(_WORD_MARK)
    if isinstance(number, int) and number != tokenizer.unk_token_id:
        return number
    return None


def _spans(
    text: str, ids: Sequence[int], spans: Sequence[tuple[int, int]], mark: int | None
) -> tuple[tuple[int, int], ...]:
    """Spans of a text's tokens; empty for word marks to which the tokenizer gives the next word's letter."""
    if mark not in ids:
        return tuple((start, end) for start, end in spans)
    found = []
    for number, (start, end) in zip(ids, spans, strict=True):
        if number == mark and text[start:end].strip():
            end = start
        found.append((start, end))
    return tuple(found)


def continuations_of(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
    """Tokenize texts that continue another text: a leading space is tokenized as between words.

    The tokenizers of Llama 2 and Mistral prepend a space to every text, so that ``" 48"`` alone would begin
    with two.

    Args:
        texts: any number of texts; those without a leading space are tokenized as in ``segments_of``.
        tokenizer: a fast tokenizer.

    Returns:
        One segment for each text, with spans relative to it.
    """
    spaced = [text.startswith(" ") for text in texts]
    if not any(spaced) or not _doubles_leading_space(tokenizer):
        return segments_of(texts, tokenizer)
    (anchor,) = segments_of([_ANCHOR], tokenizer)
    segments = segments_of([_anchored(text) for text in texts], tokenizer)
    for index, space in enumerate(spaced):
        if space:
            segments[index] = _behind(segments[index], anchor)
    return segments


def _doubles_leading_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer prepends a space also to a text that begins with one."""
    anchor, alone, spaced, behind = segments_of([_ANCHOR, "0", " 0", f"{_ANCHOR} 0"], tokenizer)
    return spaced.ids != alone.ids and _behind(behind, anchor).ids == alone.ids


def _anchored(text: str) -> str:
    """A text behind the anchor where it begins with a space, else as it is."""
    if text.startswith(" "):
        return _ANCHOR + text
    return text


def _behind(segment: Segment, anchor: Segment) -> Segment:
    """The segment without the tokens of the anchor, spans shifted to its own text."""
    length, first = len(anchor.text), len(anchor.ids)
    spans = tuple((max(start - length, 0), max(end - length, 0)) for start, end in segment.spans[first:])
    return Segment(segment.text[length:], segment.ids[first:], spans)
