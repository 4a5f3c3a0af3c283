"""Roles of tokens: which step and which word of a chain of thought a token belongs to, by characters."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from kvdistill.evaluation.probes import result_of
from kvdistill.text import ReaderBatch

Spans = Sequence[Sequence[int]]
"""Characters [start, end) of a chain of thought that each of its tokens covers."""

NONE = -1
"""In place of a role or a step: there is none."""
_WORDS = 2**20
"""Roles are ``step * _WORDS + word``: more words than a step has."""
_BETWEEN = _WORDS - 1
"""The word of characters between words and of the line break after a step."""


@dataclass(frozen=True, slots=True)
class TokenRoles:
    """Step and word of each token of a batch's chains of thought, in the order of the text.

    Column i is the i-th token of a sample, as in ``LayerKV.positions``: padding comes last, on whichever side
    the batch has it.
    """

    role: Int[Tensor, "B N"]
    """Number of the token's step and word together; equal where both are equal."""
    result: Int[Tensor, "B N"]
    """Index of the step whose result the token covers, else -1."""
    mask: Bool[Tensor, "B N"]
    """True where the sample has a token."""


def token_roles(spans: Sequence[Spans], steps: Sequence[Sequence[str]]) -> TokenRoles:
    """Step and word of each token of chains of thought with one step per line.

    Steps and words are found by characters, so that tokens may be parts of words. A word is what
    ``str.split`` gives. A token that covers several words has the role of the first; a token between words
    (a line break) has a role of its own in each step. A token carries a step's result if it covers a
    character of it; the result is the step's last word without punctuation.

    Args:
        spans: Of B samples, the characters that each token of the chain of thought covers, in order.
        steps: The reasoning steps of each sample. Steps without a token (dropped ones) have no effect.

    Returns:
        Roles of B samples with N tokens, on the CPU.
    """
    rows = [_roles(tokens, texts) for tokens, texts in zip(spans, steps, strict=True)]
    width = max((len(row) for row in rows), default=0)
    # At least one column, so that slots of samples without a token have something to read.
    table = torch.full((len(rows), max(width, 1), 2), NONE)
    mask = torch.zeros(table.shape[:2], dtype=torch.bool)
    for index, row in enumerate(rows):
        if row:
            table[index, : len(row)] = torch.tensor(row)
            mask[index, : len(row)] = True
    return TokenRoles(table[..., 0], table[..., 1], mask)


def batch_roles(read: ReaderBatch, steps: Sequence[Sequence[str]]) -> TokenRoles:
    """Step and word of each token that a reader has of a batch; see ``token_roles``.

    Args:
        read: What the reader reads of B samples, padded on either side.
        steps: The reasoning steps of each sample.

    Returns:
        Roles of B samples, on the CPU.
    """
    pairs = zip(read.spans.cpu(), read.cot.mask.cpu(), strict=True)
    return token_roles([spans[mask].tolist() for spans, mask in pairs], steps)


def _roles(spans: Spans, steps: Sequence[str]) -> list[tuple[int, int]]:
    """Role and result of each token of one sample."""
    roles, results = _characters(steps)
    found = []
    for start, end in spans:
        # Tokens that cover nothing belong to no step.
        covered = roles[start:end] or [NONE]
        role = next((role for role in covered if role % _WORDS != _BETWEEN), covered[0])
        result = next((step for step in results[start:end] if step != NONE), NONE)
        found.append((role, result))
    return found


def _characters(steps: Sequence[str]) -> tuple[list[int], list[int]]:
    """Role and result of each character of a chain of thought: its steps, each with a line break."""
    roles: list[int] = []
    results: list[int] = []
    for index, step in enumerate(steps):
        role = [index * _WORDS + _BETWEEN] * (len(step) + 1)
        for word, match in enumerate(re.finditer(r"\S+", step)):
            role[match.start() : match.end()] = [index * _WORDS + word] * len(match.group())
        result = [NONE] * (len(step) + 1)
        last = result_of(step)
        if last:
            # Only punctuation follows the result, so its last occurrence is the result itself.
            start = step.rindex(last)
            result[start : start + len(last)] = [index] * len(last)
        roles += role
        results += result
    return roles, results
