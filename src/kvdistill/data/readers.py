"""Readers: teachers that read an example in other tokens than the student."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from kvdistill.align.tokenizer_align import TokenWeights
from kvdistill.data.encode import encode_all, pad_id_of
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

    def __post_init__(self) -> None:
        pad_id_of(self.tokenizer)

    @property
    def pad_id(self) -> int:
        """Token id of padding."""
        return pad_id_of(self.tokenizer)

    def read(self, examples: Sequence[Example]) -> list[Reading]:
        """Encode examples as this teacher reads them.

        Args:
            examples: texts with their chains of thought.

        Returns:
            One reading per example, in order.

        Raises:
            ValueError: as ``encode_all`` does.
        """
        encoded = encode_all(
            examples, self.tokenizer, self.template, drop_last_step=self.drop_last_step, on_long="error"
        )
        return [sample.teacher_mode for sample in encoded.samples]
