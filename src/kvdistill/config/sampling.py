"""Section of sampling: chains of thought that teachers write themselves."""

from typing import Any

from pydantic import Field, model_validator

from kvdistill.config.section import Section


class Sampling(Section):
    """How chains of thought are sampled for teachers with ``reads = "own"`` whose ``traces`` do not exist."""

    num_samples: int = Field(default=8, ge=1, le=10**4)
    """Chains per question, n."""
    temperature: float = Field(default=0.8, gt=0, le=100)
    """Divides the logits."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Smallest share of the probability from which tokens are drawn, the most probable first."""
    max_new_tokens: int = Field(default=256, ge=1, le=10**6)
    """Upper limit of a chain with its answer, in tokens."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the draws, with the question and the number of the chain."""
    batch_size: int = Field(default=64, ge=1, le=10**6)
    """Chains side by side; does not change the result."""
    min_right: int = Field(default=1, ge=1)
    """Fewest right and distinct chains that a question should have; the others are counted in the report."""

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that the result depends on."""
        return self.model_dump(exclude={"batch_size", "min_right"})

    @model_validator(mode="after")
    def _enough(self) -> "Sampling":
        if self.min_right > self.num_samples:
            raise ValueError(
                f"min_right is {self.min_right}, and only num_samples = {self.num_samples} chains are drawn "
                "for a question: raise num_samples, or lower min_right"
            )
        return self
