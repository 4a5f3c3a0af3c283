"""Tables of claims that losses fall and of relative gains."""

from collections.abc import Sequence

from kvdistill.console.wording import number
from kvdistill.reporting.blocks import Block, Table, Words, percent, percent_range
from kvdistill.reporting.studies.claim_sections import HEADER, comparison_cells
from kvdistill.reporting.studies.estimate import Estimate
from kvdistill.reporting.studies.experiments import seeds_in_words
from kvdistill.reporting.studies.judged import WIDE_GAP, Gain, LossFall

FALL_RULE = (
    "Losses fall: in every seed the mean of the last tenth of the logged values is below that of the first "
    "tenth, for kv, ce_student, validation_kv and validation_ce, and the last validation_kv is below the "
    "control's (a comparison as above, in percent of the control's loss). Not supported if one of them "
    "fails; inconclusive while runs are missing or seeds too few."
)
GAIN_RULE = (
    "Relative gain: (first − second) / second by seed. Target met: the lower end of the 95 % interval is at "
    "least the target's lower value. Gain below target: the lower end is above 0. No gain: the upper end is "
    "below the target's lower value, and the lower end is not above 0. Else inconclusive. Of the claim's "
    "gains the worst counts; p tests that the gain is above the target's lower value, and a gain below the "
    "target is tested at the level that Holm leaves to the claim."
)


def fall_blocks(falls: Sequence[LossFall]) -> list[Block]:
    """The losses of each arm at both ends, the comparison with the control, and the validation gap."""
    blocks: list[Block] = []
    for fall in falls:
        rows = [
            [
                loss,
                _mean(fall.first.get(loss)),
                _mean(fall.last.get(loss)),
                seeds_in_words(fall.not_fallen.get(loss, [])) or "none",
            ]
            for loss in dict.fromkeys([*fall.first, *fall.last])
        ]
        header = (f"{fall.arm}: {fall.outcome}", "first tenth", "last tenth", "seeds where it did not fall")
        blocks.append(Table(header, rows))
        blocks.append(Table(HEADER, [comparison_cells(fall.below_control)]))
        blocks.append(Words(_gap(fall)))
    return blocks


def gain_blocks(gains: Sequence[Gain], target: Sequence[float]) -> list[Block]:
    """The relative gains with their intervals and verdicts."""
    header = ("relative gain", "seeds", "mean", "95 % interval", "p, above target", "more seeds", "outcome")
    rows = [
        [
            gain.name,
            str(len(gain.seeds)),
            percent(gain.mean),
            _interval(gain.low, gain.high),
            number(gain.p_above_target, digits=2),
            number(gain.further_seeds),
            gain.outcome,
        ]
        for gain in gains
    ]
    least, hoped_for = target
    return [Words(f"Target: a relative gain of {percent_range(least, hoped_for)}."), Table(header, rows)]


def _gap(fall: LossFall) -> str:
    """The train and validation gap of the KV loss as a sentence."""
    if fall.gap is None:
        return f"The gap between training and validation KV loss of {fall.arm} is not known yet."
    told = (
        f"Validation over training KV loss of {fall.arm} at the end, minus 1: "
        f"{100 * fall.gap.mean:+.1f} % {_interval(fall.gap.low, fall.gap.high)}"
    )
    if fall.wide:
        return f"{told}. The gap is above {100 * WIDE_GAP:g} %."
    return f"{told}."


def _interval(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "–"
    return f"[{100 * low:+.1f}, {100 * high:+.1f}] %"


def _mean(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    return number(estimate.mean)
