"""Encoding: examples to token ids, each segment (question, chain of thought, answer) tokenized separately."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from transformers import PreTrainedTokenizerBase

from kvdistill.data.segments import continuations_of, segments_of
from kvdistill.data.template import Frame, Template, default_template, name_of
from kvdistill.text import Encoded, Example, Reading, Segment

CHARACTERS_PER_TOKEN = 64
"""More characters than a token has on average with any tokenizer; a longer text is refused untokenized."""
LARGEST = 2**16
"""Tokens that limit the characters of an example where there is no ``max_length``.

Tokenizing takes about 160 bytes of memory per character.
"""


@dataclass(frozen=True, slots=True)
class EncodedSet:
    """The encoded examples of a data set, and those left out."""

    samples: tuple[Encoded, ...]
    dropped: tuple[tuple[str, str], ...]
    """Id and reason for each sample left out."""


def num_tokens(sample: Encoded) -> int:
    """Tokens of question, cue, chain of thought, prompt and answer, with the longer of the two cues."""
    longer_cue = max(len(sample.teacher_mode.cue.ids), len(sample.student_mode.cue.ids))
    tokens = sum(len(segment.ids) for segment in sample.teacher_mode.segments)
    return tokens - len(sample.teacher_mode.cue.ids) + longer_cue


def encode(
    example: Example,
    tokenizer: PreTrainedTokenizerBase,
    template: Template | None = None,
    *,
    drop_last_step: bool = False,
) -> Encoded:
    """Encode one example.

    Args:
        example: what to encode.
        tokenizer: as in ``encode_all``.
        template: as in ``encode_all``.
        drop_last_step: as in ``encode_all``.

    Returns:
        The example as token ids with character spans.

    Raises:
        ValueError: as ``encode_all`` does, or if the example has more characters than any model reads.
    """
    return encode_all([example], tokenizer, template, drop_last_step=drop_last_step, on_long="error").samples[
        0
    ]


def encode_all(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    template: Template | None = None,
    *,
    drop_last_step: bool = False,
    max_length: int | None = None,
    on_long: Literal["drop", "error"] = "drop",
) -> EncodedSet:
    """Encode examples as token ids with character spans; nothing is ever truncated.

    Segments are ``question`` (formatted by the template), ``cot`` (one step per line), ``prompt`` and
    ``answer`` (after a space, closed by the end token). They are tokenized separately, so that the
    distillation token has the same id with and without a chain of thought. Special tokens without text
    (beginning and end of sequence) have empty spans. Where the cues of teacher and student differ, the
    question ends before them and each mode appends its own; where they agree, they are part of the question.
    Tokenizers that prepend a space to every text (Llama 2, Mistral) would double the space before an answer;
    segments behind the question that begin with a space get the tokens that they have within a text.

    An example with more than ``CHARACTERS_PER_TOKEN`` characters for each of ``max_length`` tokens
    (``LARGEST`` where there is no ``max_length``) counts as too long without being tokenized, which would
    take gigabytes for a single damaged row.

    Args:
        examples: what to encode.
        tokenizer: a fast one, with a pad and an end token.
        template: None takes the tokenizer's chat template where it has one, else ``Plain``.
        drop_last_step: leave out the last step of the chain of thought; a single step leaves it empty.
        max_length: most tokens of an example, see ``num_tokens``; None sets no limit.
        on_long: for a longer example: ``drop`` leaves it out and lists it in ``dropped``, ``error`` raises.

    Returns:
        The encoded examples in order, and those left out.

    Raises:
        ValueError: if the tokenizer lacks character offsets, a pad or an end token, if the prompt has no
            token, or if an example is too long and ``on_long`` is ``error``.

    Source: ours. Dropping the last step: https://arxiv.org/abs/2502.21074, section 3.
    """
    pad_id_of(tokenizer)
    template = template or default_template(tokenizer)
    frame = template.frame(tokenizer)
    (prompt,) = continuations_of([template.prompt], tokenizer)
    if not prompt.ids:
        raise ValueError(
            f"{name_of(tokenizer)} makes no token of the answer prompt {template.prompt!r}. Choose a prompt "
            "with words in it."
        )
    examples, oversized = _without_oversized(examples, max_length)
    if oversized and on_long == "error":
        raise _too_long(*oversized[0])
    if drop_last_step:
        chains = [example.steps[:-1] for example in examples]
    else:
        chains = [example.steps for example in examples]
    samples = _encoded(examples, chains, prompt, frame, tokenizer)
    kept, dropped = _within(samples, max_length, on_long)
    return EncodedSet(kept, (*oversized, *dropped))


def _encoded(
    examples: Sequence[Example],
    chains: Sequence[tuple[str, ...]],
    prompt: Segment,
    frame: Frame,
    tokenizer: PreTrainedTokenizerBase,
) -> list[Encoded]:
    """Tokenize examples with their chains of thought; one tokenizer call per segment for all of them."""
    # Fast tokenizers work in parallel on a list.
    openings = [_opening(example, frame) for example in examples]
    columns = zip(
        segments_of([opening[0] for opening in openings], tokenizer),
        continuations_of([opening[1] for opening in openings], tokenizer),
        continuations_of([opening[2] for opening in openings], tokenizer),
        continuations_of(["".join(f"{step}\n" for step in steps) for steps in chains], tokenizer),
        continuations_of([f" {example.answer}" if example.answer else "" for example in examples], tokenizer),
        strict=True,
    )
    nothing = Segment("", (), ())
    samples = []
    for example, steps, segments in zip(examples, chains, columns, strict=True):
        question, teacher_cue, student_cue, cot, answer = segments
        teacher_mode = Reading(
            question=_wrap(question, before=frame.begin),
            cue=teacher_cue,
            cot=cot,
            prompt=prompt,
            answer=_wrap(answer, after=(frame.end,)),
            step_ends=step_ends(cot, steps),
        )
        student_mode = replace(teacher_mode, cue=student_cue, cot=nothing, step_ends=())
        samples.append(Encoded(example.sample_id, student_mode, teacher_mode, example))
    return samples


def step_ends(cot: Segment, steps: Sequence[str]) -> tuple[int, ...]:
    """Index of the last token of each step in a chain of thought with one step per line.

    A token that covers characters of several steps belongs to the first of them. Steps without a token of
    their own (removed by normalization, or covered by a token of the previous step) are left out.

    Args:
        cot: the tokenized chain of thought.
        steps: its steps, in order.

    Returns:
        Indices into ``cot.ids``, strictly increasing.
    """
    ends: list[int] = []
    token = start = 0
    for step in steps:
        # Characters [start, end) of the text are this step's.
        end, last = start + len(step), None
        while step and token < len(cot.spans) and cot.spans[token][0] < end:
            first, stop = cot.spans[token]
            last = token if stop > max(start, first) else last
            token += 1
        ends += [] if last is None else [last]
        start = end + 1  # the line break
    return tuple(ends)


def _opening(example: Example, frame: Frame) -> tuple[str, str, str]:
    """Texts of question, teacher cue and student cue; equal cues become part of the question."""
    question = f"{frame.before}{example.question}"
    cue, student_cue = (
        f" {cue}{frame.after}" if cue else frame.after for cue in (example.teacher_cue, example.student_cue)
    )
    return (f"{question}{cue}", "", "") if cue == student_cue else (question, cue, student_cue)


def _wrap(segment: Segment, before: tuple[int, ...] = (), after: tuple[int, ...] = ()) -> Segment:
    """A segment with special tokens around it, whose spans are empty."""
    end = len(segment.text)
    spans = (*((0, 0) for _ in before), *segment.spans, *((end, end) for _ in after))
    return Segment(segment.text, (*before, *segment.ids, *after), spans)


def _without_oversized(
    examples: Sequence[Example], max_length: int | None
) -> tuple[list[Example], list[tuple[str, str]]]:
    """The examples short enough to be tokenized, and id and reason for each of the others."""
    most = CHARACTERS_PER_TOKEN * (LARGEST if max_length is None else max_length)
    fitting: list[Example] = []
    oversized: list[tuple[str, str]] = []
    for example in examples:
        texts = (example.question, example.teacher_cue, example.student_cue, *example.steps, example.answer)
        length = sum(map(len, texts))
        if length <= most:
            fitting.append(example)
        else:
            limit = "any model reads" if max_length is None else f"max_length {max_length} can hold"
            oversized.append((example.sample_id, f"{length} characters, more than {limit}"))
    return fitting, oversized


def _within(
    samples: Sequence[Encoded], max_length: int | None, on_long: Literal["drop", "error"]
) -> tuple[tuple[Encoded, ...], tuple[tuple[str, str], ...]]:
    """The samples of at most ``max_length`` tokens, and id and reason for each of the others."""
    if max_length is None:
        return tuple(samples), ()
    dropped = tuple(
        (
            sample.sample_id,
            f"{num_tokens(sample)} tokens (question {len(sample.teacher_mode.question.ids)}, chain of "
            f"thought {len(sample.teacher_mode.cot.ids)}), more than max_length {max_length}",
        )
        for sample in samples
        if num_tokens(sample) > max_length
    )
    if dropped and on_long == "error":
        raise _too_long(*dropped[0])
    return tuple(sample for sample in samples if num_tokens(sample) <= max_length), dropped


def _too_long(sample_id: str, reason: str) -> ValueError:
    return ValueError(
        f"Sample {sample_id} has {reason}. Raise max_length, remove the sample, or set on_long='drop'."
    )


def pad_id_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the padding token; refuses tokenizers without character offsets or padding token."""
    if not tokenizer.is_fast:
        raise ValueError(
            f"{name_of(tokenizer)} gives no character offsets. Load its fast version, a folder with a "
            "tokenizer.json."
        )
    if not isinstance(tokenizer.pad_token_id, int):
        raise ValueError(
            f"{name_of(tokenizer)} has no padding token. Set tokenizer.pad_token = tokenizer.eos_token, or "
            "to another token."
        )
    return tokenizer.pad_token_id
