"""A teacher that writes: its model with its own tokenizer and prompt, and sampled texts behind questions."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from kvdistill.capture.architecture import examine
from kvdistill.capture.position_limit import position_limits
from kvdistill.config import DataSection, TeacherSection
from kvdistill.data import Template, encode_all
from kvdistill.data.collate import pad
from kvdistill.models.checkpoint_integrity import fingerprint
from kvdistill.run.readings import require_cue
from kvdistill.run.teacher_models import open_teacher, option_of
from kvdistill.text import Encoded, Example


@dataclass(frozen=True, eq=False)
class WritingTeacher:
    """A causal language model as it reads and writes for itself, without a student."""

    name: str
    """Short name."""
    source: str
    """Folder or hub name of the model."""
    revision: str | None
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    template: Template | None = None
    """None takes the tokenizer's chat template where it has one, else ``Plain``."""
    delimiters: tuple[int, int] | None = None
    """Token ids before and after the chain of thought, for a teacher that was trained with them."""
    cue: str | None = None
    """End of the question for this teacher; None for that of the example."""

    @property
    def pad_id(self) -> int:
        """Token id of padding."""
        assert isinstance(self.tokenizer.pad_token_id, int)
        return self.tokenizer.pad_token_id

    @property
    def weights(self) -> str:
        """Fingerprint of the weights."""
        return fingerprint(self.model)

    @property
    def reading(self) -> str:
        """Fingerprint of how texts become tokens: tokenizer, template, delimiters, cue; 32 hex digits."""
        parts: list[object] = [self.tokenizer.backend_tokenizer.to_str(), self.template, self.delimiters]
        if self.cue is not None:
            parts.append(self.cue)
        return blake2b(repr(tuple(parts)).encode(), digest_size=16).hexdigest()

    def encode(self, examples: Sequence[Example]) -> tuple[Encoded, ...]:
        """Examples in the teacher's tokens, however long.

        Args:
            examples: texts, with or without chains of thought.

        Returns:
            One entry per example, in order.
        """
        if self.cue is not None:
            examples = [replace(example, teacher_cue=self.cue) for example in examples]
        return encode_all(examples, self.tokenizer, self.template, max_length=None, on_long="error").samples

    def opening(self, sample: Encoded) -> list[int]:
        """What it reads before it writes: question, cue and the delimiter that opens its chain.

        Args:
            sample: a question in its tokens.

        Returns:
            Token ids.
        """
        read = sample.teacher_mode
        ids = [*read.question.ids, *read.cue.ids]
        if self.delimiters is not None:
            ids.append(self.delimiters[0])
        return ids

    def require_room(self, tokens: int, remedy: str) -> None:
        """Refuse a text beyond learned positions.

        Args:
            tokens: length of the text, in tokens.
            remedy: what the user can do besides choosing another model.

        Raises:
            ValueError: names both lengths.
        """
        for limit in position_limits(self.model):
            # Measuring whether positions are learned takes a forward pass, so it comes last.
            if limit.learned and tokens > limit.tokens and examine(self.model).is_learned:
                raise ValueError(
                    f"{option_of(self.name)}: {self.source} {limit.reason} {limit.tokens} tokens, and "
                    f"{tokens} may be needed: {remedy}, or choose a teacher that reads further."
                )

    @torch.no_grad()
    def write(self, samples: Sequence[Encoded], draw: "SampleTokens", max_new_tokens: int) -> list[str]:
        """Sample one text behind each question, up to the end token.

        Args:
            samples: R questions in its tokens; one may occur several times.
            draw: draws the tokens of the R rows.
            max_new_tokens: upper limit of a text, in tokens.

        Returns:
            R texts without special tokens.
        """
        rows = [self.opening(sample) for sample in samples]
        device, width = self.model.device, max(map(len, rows))
        # The last token that is written is not read again.
        self.require_room(width + max_new_tokens - 1, "lower sampling.max_new_tokens")
        # Padded on the left, so that all rows continue at the same column.
        padded = pad(rows, self.pad_id, "left")
        ends = {samples[0].teacher_mode.answer.ids[-1]}
        if isinstance(self.tokenizer.eos_token_id, int):
            ends.add(self.tokenizer.eos_token_id)
        config = GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            use_cache=True,
            eos_token_id=sorted(ends),
            pad_token_id=self.pad_id,
        )
        self.model.eval()
        output = self.model.generate(  # pyright: ignore[reportCallIssue]
            input_ids=padded.ids.to(device),
            attention_mask=padded.mask.long().to(device),
            generation_config=config,
            logits_processor=LogitsProcessorList([draw]),
        )
        return self.tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)


def open_writer(name: str, section: TeacherSection, data: DataSection) -> WritingTeacher:
    """Load a teacher for writing, on a GPU where there is one and no device is named.

    Args:
        name: the teacher's short name, as in ``[teachers.NAME]``.
        section: the teacher.
        data: how the run's examples become text; its template is the teacher's where it has none of its own.

    Returns:
        The teacher, with a padding token.

    Raises:
        ValueError: if it is missing, has no fast tokenizer, cannot read its cue, or does not fit in memory.
    """
    opened = open_teacher(name, section)
    tokenizer = opened.tokenizer
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ValueError(
            f"{option_of(name)}: {section.name} has no fast tokenizer (no tokenizer.json), which alone gives "
            "the characters of its tokens. Choose a model that has one."
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked, whatever its id
    if section.device is None and section.device_map is None and torch.cuda.is_available():
        opened.model.to("cuda")  # pyright: ignore[reportArgumentType]
    template = section.template or opened.template or data.template
    if section.cue is not None:
        require_cue(option_of(name), section.cue, tokenizer, template)
    opened.model.requires_grad_(False)
    # Penalties and lists of tokens that a model was published with would change what is drawn.
    opened.model.generation_config = GenerationConfig()
    return WritingTeacher(
        name,
        section.name,
        section.revision,
        opened.model,
        tokenizer,
        template,
        opened.delimiters,
        section.cue,
    )


class SampleTokens(LogitsProcessor):
    """Draws each row's next token with random numbers of its own, and leaves only that one to choose.

    So a row's text depends on its seed alone, not on the rows beside it.

    Args:
        seeds: one per row.
        temperature: divides the logits.
        top_p: as in ``Sampling``.

    Source: nucleus sampling, https://arxiv.org/abs/1904.09751, section 3.1.
    """

    def __init__(self, seeds: Sequence[str], temperature: float, top_p: float) -> None:
        self.generators = [random.Random(seed) for seed in seeds]
        self.temperature, self.top_p = temperature, top_p

    def __call__(self, input_ids: Int[Tensor, "R S"], scores: Float[Tensor, "R C"]) -> Float[Tensor, "R C"]:
        """Logits of which all but the drawn token's are minus infinity."""
        probabilities, order = (scores.float() / self.temperature).softmax(-1).sort(-1, descending=True)
        # A token stays if those before it have less than top_p; the first always does.
        before = probabilities.cumsum(-1) - probabilities
        stays = before < self.top_p
        mass = torch.where(stays, probabilities, 0.0).cumsum(-1)
        drawn = [generator.random() for generator in self.generators]
        goal = torch.tensor(drawn, device=scores.device)[:, None] * mass[:, -1:]
        # The inverse of the distribution function: the first token whose mass exceeds the goal. A goal that
        # is rounded up to the total takes the last token that stays.
        last = stays.sum(-1, keepdim=True) - 1
        place = (mass <= goal).sum(-1, keepdim=True).minimum(last)
        return torch.full_like(scores, -torch.inf).scatter_(1, order.gather(1, place), 0.0)
