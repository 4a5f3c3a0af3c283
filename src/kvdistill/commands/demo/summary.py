"""Summary of a demo: accuracies, steps to the threshold, and the bars that the numbers have to reach."""

from collections.abc import Mapping
from pathlib import Path

from kvdistill.commands.demo.recipe import CONTROL, METHODS
from kvdistill.console.wording import short_number
from kvdistill.records.schema import Bar, Curve, DemoSummary, EvaluationRecord
from kvdistill.reporting.palette import method


def summarize(
    rows: dict[str, EvaluationRecord], curves: dict[str, Curve], winner: str, minutes: float, seed: int
) -> DemoSummary:
    """Accuracies, steps, passes and bars of a demo.

    Args:
        rows: evaluations by key, such as ``cot`` or ``latent_rkv``.
        curves: validation accuracy by compressor, and of E1 under ``e1``.
        winner: the compressor chosen on the validation set.
        minutes: duration of the demo so far.
        seed: the demo's seed.
    """
    kv, cot = rows[f"latent_{winner}"], rows["cot"]
    # The common goal of all curves: 90 % of the chain of thought's test accuracy.
    threshold = 0.9 * cot.accuracy
    reached = {name: curve.first_step(threshold) for name, curve in curves.items()}
    accuracy = {name: rows[f"latent_{name}"].accuracy for name in (*METHODS, CONTROL)}
    e1, own = reached["e1"], reached[winner]
    sooner = steps_ratio(own, e1, curves["e1"].steps[-1])
    return DemoSummary(
        cot=cot.accuracy,
        direct=rows["direct"].accuracy,
        latent_e1=rows["latent_e1"].accuracy,
        latent_kv=kv.accuracy,
        kv_method=winner,
        latent_by_method={name: accuracy[name] for name in METHODS},
        latent_shuffled=accuracy[CONTROL],
        steps_to_90_e1=e1,
        steps_to_90_kv=own,
        passes_cot=cot.sequential_passes_mean,
        passes_latent=kv.sequential_passes_mean,
        minutes=minutes,
        cot_terse=rows["cot_terse"].accuracy,
        passes_cot_terse=rows["cot_terse"].sequential_passes_mean,
        ms_cot=cot.ms_batch1,
        ms_latent=kv.ms_batch1,
        seed=seed,
        threshold=threshold,
        bars={
            "chain of thought": Bar(value=cot.accuracy, bar=0.95),
            "direct answers": Bar(value=rows["direct"].accuracy, bar=0.5, at_most=True),
            "KV step-end over CoT": Bar(value=ratio(accuracy["step_end"], cot.accuracy), bar=0.9),
            "KV R-KV over CoT": Bar(value=ratio(accuracy["rkv"], cot.accuracy), bar=0.9),
            "shuffled KV over R-KV": Bar(
                value=ratio(accuracy[CONTROL], accuracy["rkv"]), bar=0.5, at_most=True
            ),
            "steps to 90 %, E1 over KV": sooner,
            "passes, CoT over latent": Bar(
                value=cot.sequential_passes_mean / kv.sequential_passes_mean, bar=1.5
            ),
            "minutes": Bar(value=minutes, bar=6.0, at_most=True, text=short_number(minutes)),
        },
    )


def ratio(value: float | int | None, of: float | int | None) -> float | None:
    """One number divided by another; None where one is missing or the other is 0.

    Args:
        value: an accuracy (0 to 1), or steps.
        of: what it is divided by.
    """
    if value is None or not of:
        return None
    return value / of


def steps_ratio(own: int | None, e1: int | None, e1_steps: int) -> Bar:
    """The bar on E1's steps to the threshold, divided by those of the KV run.

    Args:
        own: steps of the KV run; None if it never reached the threshold.
        e1: steps of E1; None if it never reached the threshold.
        e1_steps: all steps of E1, which give a lower bound of the ratio in that case.
    """
    if own is None:
        return Bar(value=None, bar=1.5)
    if e1 is not None:
        return Bar(value=e1 / own, bar=1.5)
    return Bar(
        value=e1_steps / own, bar=1.5, text=f"at least {e1_steps / own:.1f} (E1 not there after {e1_steps})"
    )


def table(summary: DemoSummary, folder: Path) -> str:
    """The table that the demo prints: each evaluation, then each bar.

    Args:
        summary: the demo's summary.
        folder: the demo's folder, where the evaluation records are read.
    """
    lines = [f"{'':26}{'accuracy':>10}{'95 % interval':>18}{'passes':>9}{'ms/question':>13}"]
    names = {
        "cot": method("cot").label,
        "cot_terse": method("cot_terse").label,
        "direct": method("direct").label,
        "latent_e1": method("e1").label,
    }
    names |= {f"latent_{name}": method(name).label for name in (*METHODS, CONTROL)}
    files = {f"latent_{summary.kv_method}": "latent_kv"}  # the chosen compressor's file has a name of its own
    for key, label in names.items():
        name = files.get(key, key)
        r = EvaluationRecord.read(folder / f"evaluation_{name}.json")
        interval = f"{100 * r.low:.1f}-{100 * r.high:.1f}"
        cost = f"{r.sequential_passes_mean:>9.1f}{r.ms_batch1 or 0:>13.1f}"
        lines.append(f"{label:26}{100 * r.accuracy:>9.1f}%{interval:>18}{cost}")
    return "\n".join([*lines, *bar_lines(summary.bars or {})])


def bar_lines(bars: Mapping[str, Bar]) -> list[str]:
    """Bars with their values and verdicts, one line each.

    Args:
        bars: by name.
    """
    lines = []
    for name, bar in bars.items():
        verdict = "reached" if bar.reached else "NOT reached"
        sign = "<=" if bar.at_most else ">="
        lines.append(f"{name + ':':34}{_value(bar):>8}  bar {sign} {bar.bar:g}  {verdict}")
    return lines


def _value(bar: Bar) -> str:
    if bar.value is None:
        return "never"
    return bar.text or f"{bar.value:.2f}"
