"""Readers: teachers that read an example in other tokens than the student, or another text."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from transformers import PreTrainedTokenizerBase

from kvdistill.align.tokenizer_align import TokenWeights
from kvdistill.data.encode import encode_all, pad_id_of
from kvdistill.data.readings import ReadText, StudentText, without_chain
from kvdistill.data.template import Template
from kvdistill.text import Example, Reading


@dataclass(frozen=True, eq=False)
class Reader:
    """A teacher's tokenizer and prompt template.

    Raises:
        ValueError: if the tokenizer lacks character offsets or a padding token.
    """

    tokenizer: PreTrainedTokenizerBase
    template: Template | None = None
    """None takes the tokenizer's chat template where it has one, else ``Plain``."""
    drop_last_step: bool = False
    """As for the student: leave out the last step of the chain of thought."""
    token_weights: TokenWeights = "average"
    """How keys and values of several teacher tokens become those of one student token."""
    text: ReadText = field(default_factory=StudentText)
    """Which chain of thought it reads."""
    cue: str | None = None
    """End of the question for this reader; None for that of the example or its trace."""

    def __post_init__(self) -> None:
        pad_id_of(self.tokenizer)

    @property
    def pad_id(self) -> int:
        """Token id of padding."""
        return pad_id_of(self.tokenizer)

    def read(self, examples: Sequence[Example], epoch: int = 0) -> list[Reading]:
        """Encode examples as this teacher reads them.

        Args:
            examples: texts as the student reads them.
            epoch: number of the epoch, for readers that draw a chain.

        Returns:
            One reading per example, in order. Where there is no text to read its chain of thought is empty.

        Raises:
            ValueError: as ``encode_all`` does.
        """
        return self.encode([self.text.of(example, epoch) or without_chain(example) for example in examples])

    def encode(self, examples: Sequence[Example]) -> list[Reading]:
        """Encode examples with the chains that they have.

        Args:
            examples: texts as this teacher reads them.

        Returns:
            One reading per example, in order.

        Raises:
            ValueError: as ``encode_all`` does.
        """
        if self.cue is not None:
            examples = [replace(example, teacher_cue=self.cue) for example in examples]
        encoded = encode_all(
            examples, self.tokenizer, self.template, drop_last_step=self.drop_last_step, on_long="error"
        )
        return [sample.teacher_mode for sample in encoded.samples]

    def of_student_text(self) -> "Reader":
        """The same reader on the text that the student reads, whose tokens can be aligned.

        Returns:
            A copy; it keeps tokenizer, template and cue.
        """
        return replace(self, text=StudentText())
