"""The claims of a study file: comparisons, falling losses with their control, and relative gains."""

import re
from typing import Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from kvdistill.config.section import Section

Measure = Literal["accuracy", "nats", "area", "steps_to_90"]
"""What a claim can be about. Of ``steps_to_90`` less is better, of the others more."""
Kind = Literal["superiority", "non_inferiority", "negligible"]
_COMPARISON = re.compile(
    r"\s*(?:(?P<measure>\w+)\s*:)?\s*(?P<first>[\w.-]+?)\s*(?P<sign>>=|<=|>)\s*(?P<second>[\w.-]+?)"
    r"\s*(?P<delta>[+-]\s*delta)?\s*"
)
_KINDS: dict[tuple[str, str], Kind] = {
    (">", ""): "superiority",
    (">=", "-delta"): "non_inferiority",
    ("<=", "+delta"): "negligible",
}
_FALL = re.compile(r"\s*(?P<arm>[\w.-]+?)\s*<\s*(?P<control>[\w.-]+?)\s*")


class Comparison(NamedTuple):
    """A comparison of two arms as a claim states it; the first arm is the better one, or no worse."""

    first: str
    second: str
    kind: Kind
    measure: str | None
    """None takes the claim's."""


def comparison(text: str) -> Comparison:
    """Read a comparison: ``A > B``, ``A >= B - delta`` or ``A <= B + delta``.

    ``measure:`` may stand in front, where it is not the claim's.

    Args:
        text: the comparison; ``>`` means "is better than".

    Raises:
        ValueError: if the text has none of these forms.
    """
    found = _COMPARISON.fullmatch(text)
    kind = None
    if found is not None:
        kind = _KINDS.get((found["sign"], (found["delta"] or "").replace(" ", "")))
    if found is None or kind is None:
        raise ValueError(
            f"{text!r} is no comparison: write A > B (better), A >= B - delta (no worse) or A <= B + delta "
            "(no better), with another measure in front, such as area: A > B"
        )
    return Comparison(found["first"], found["second"], kind, found["measure"])


class Fall(NamedTuple):
    """An arm whose losses fall, and the control that its validation KV loss ends below."""

    arm: str
    control: str


def fall(text: str) -> Fall:
    """Read ``A < B``: the losses of A fall, and its validation KV loss ends below that of B.

    Raises:
        ValueError: if the text is not of this form.
    """
    found = _FALL.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{text!r} is no arm with its control: write A < B, where the losses of A fall and its "
            'validation KV loss ends below that of B, an arm with target.control.kind = "mean_target"'
        )
    return Fall(found["arm"], found["control"])


class ClaimSection(Section):
    """A claim: all that it states has to hold. Its form is one of ``compare``, ``falls`` and ``gain``."""

    title: str = Field(min_length=1)
    compare: tuple[str, ...] = ()
    """Comparisons as ``comparison`` reads them."""
    falls: tuple[str, ...] = ()
    """Arms whose KV and CE, of training and of validation, fall in every seed, each with the control that its
    validation KV ends below, as ``fall`` reads them.
    """
    gain: tuple[str, ...] = ()
    """Comparisons ``A > B`` whose relative gain (A - B) / B is held against ``target``."""
    target: tuple[float, float] | None = None
    """Least and hoped-for relative gain of ``gain``, as shares: (0.03, 0.05) is 3 to 5 %."""
    measure: Measure | None = None
    """Its primary measure; default: the study's, and the area for ``gain``."""
    delta: float | None = Field(default=None, gt=0)
    """Smallest difference that matters, in the primary measure's unit; default: the study's. For ``falls`` a
    share of the control's validation KV loss; default .02.
    """

    @field_validator("compare", "gain")
    @classmethod
    def _readable(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            comparison(text)
        return texts

    @field_validator("falls")
    @classmethod
    def _readable_falls(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            fall(text)
        return texts

    @model_validator(mode="after")
    def _one_form(self) -> "ClaimSection":
        forms = {"compare": self.compare, "falls": self.falls, "gain": self.gain}
        given = [name for name, texts in forms.items() if texts]
        if len(given) != 1:
            raise ValueError(
                "a claim has one of compare, falls and gain, and this one has "
                f"{' and '.join(given) or 'none'}: make a claim of each"
            )
        if bool(self.gain) != (self.target is not None):
            raise ValueError('gain and target go together: write gain = ["A > B"] and target = [0.03, 0.05]')
        if self.target is not None and not 0 < self.target[0] <= self.target[1]:
            raise ValueError(f"target is {list(self.target)}: give two shares above 0, the smaller one first")
        self._check_gains()
        return self

    def _check_gains(self) -> None:
        for stated in map(comparison, self.gain):
            measure = stated.measure or self.measure or "area"
            if stated.kind != "superiority" or measure not in ("accuracy", "area"):
                raise ValueError(
                    f"gain compares {stated.first} with {stated.second} by {measure} as {stated.kind}: a "
                    "relative gain is A > B by accuracy or area"
                )
