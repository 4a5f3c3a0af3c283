"""The sections of a report beside its table of answers. What is missing is said, with the command that makes it."""

import json
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from kvdistill.record import Curve, DemoSummary, Metrics, ProbesRecord, RunRecord
from kvdistill.reporting.figures import accuracy_curves, loss_curves
from kvdistill.reporting.page import Block, Code, Missing, Picture, Section, Table, Words, number, percent
from kvdistill.reporting.stats import area, roughness, steps_to
from kvdistill.wording import counted, short_number

_NOT_LOSSES = {"epoch", "grad_norm", "learning_rate", "total_flos"}


def headline(summary: DemoSummary | None) -> tuple[str, str]:
    """Title and first paragraph."""
    if summary is None:
        return "Latent reasoning demo", "The demo has not finished: it has written no summary yet."
    title = f"Latent reasoning demo: {percent(summary.latent_kv)} right in {number(summary.passes_latent)} passes"
    lead = (
        f"Thinking in a few latent slots, trained with the KV term ({summary.kv_method}), the student answers "
        f"{percent(summary.latent_kv)} of the questions right in {number(summary.passes_latent)} sequential forward passes each. "
        f"Without the KV term (E1) it is {percent(summary.latent_e1)}. Writing its chain of thought out it is {percent(summary.cot)} "
        f"in {number(summary.passes_cot)} passes, and answering directly {percent(summary.direct)}. "
        f"The demo took {short_number(summary.minutes)} minutes."
    )
    return title, lead


def bars(summary: DemoSummary | None) -> Section:
    """The values the demo had to reach, each with its verdict."""
    title = "What it had to reach"
    if summary is None or summary.bars is None:
        return Section(title, [Missing("bars in summary.json", "kvdistill demo")])
    goals = [f"at {'most' if bar.at_most else 'least'} {number(bar.bar)}" for bar in summary.bars.values()]
    verdicts = ["reached" if bar.reached else "not reached" for bar in summary.bars.values()]
    values = [bar.text or number(bar.value, "never") for bar in summary.bars.values()]
    rows = [list(row) for row in zip(summary.bars, values, goals, verdicts, strict=True)]
    return Section(
        title, [Words(f"{verdicts.count('reached')} of {len(rows)} bars reached."), Table(("bar", "value", "bar at", "verdict"), rows)]
    )


def training(folder: Path, summary: DemoSummary | None, curves: Sequence[Curve]) -> Section:
    """Validation curves to their end, with the step at which each reached the threshold."""
    blocks: list[Block] = []
    threshold = None if summary is None else summary.threshold
    if summary is not None:
        steps = (("without the KV term", summary.steps_to_90_e1), (f"with it ({summary.kv_method})", summary.steps_to_90_kv))
        told = "; ".join(f"{name}: {'never in this run' if step is None else f'step {step}'}" for name, step in steps)
        blocks.append(Words(f"Validation accuracy first reached {percent(summary.threshold)}: {told}."))
    if not curves:
        return Section("Training", [*blocks, Missing("curve_*.json", "kvdistill demo")])
    path = folder / "figures" / "curves.png"
    accuracy_curves(curves, path, cot=None if summary is None else summary.cot, threshold=threshold)
    blocks.append(Picture(path, "Validation accuracy while training, each curve to its end."))
    goals = [steps_to(0.9, curve) if threshold is None else steps_to(1.0, curve, of=threshold) for curve in curves]
    ends = [[curve.method, str(curve.steps[-1]), percent(curve.accuracy[-1])] for curve in curves]
    means = [[percent(area(curve)), _points(roughness(curve))] for curve in curves]
    rows = [[*end, number(goal, "never"), *mean] for end, goal, mean in zip(ends, goals, means, strict=True)]
    goal = "step to 90 % of its last" if threshold is None else f"step to {percent(threshold)}"
    blocks.append(
        Words(
            "Mean over training is the area under the curve, divided by its length; lost in falls is the sum of all drops between "
            "neighbouring evaluations."
        )
    )
    blocks.append(Table(("method", "last step", "last accuracy", goal, "mean over training", "lost in falls"), rows))
    return Section("Training", blocks)


def losses(folder: Path, command: str) -> Section:
    """One panel a term, from every ``metrics*.jsonl``."""
    terms: dict[str, dict[str, dict[int, float]]] = {}
    for path in sorted(folder.glob("metrics*.jsonl")):
        for name, values in Metrics(path).series().items():
            if name not in _NOT_LOSSES and not name.startswith(("eval_", "train_")):
                terms.setdefault(name, {})[path.stem.removeprefix("metrics").strip("_") or "run"] = values
    if not terms:
        return Section("Losses", [Missing("metrics.jsonl", command)])
    loss_curves(terms, folder / "figures" / "losses.png")
    return Section("Losses", [Picture(folder / "figures" / "losses.png", "Every logged term over training steps, each on its own scale.")])


def methods(summary: DemoSummary | None) -> Section:
    """Every compressor tried, best first."""
    title = "Compressors tried"
    if summary is None:
        return Section(title, [Missing("latent_by_method in summary.json", "kvdistill demo")])
    ranked = sorted(summary.latent_by_method.items(), key=lambda item: -item[1])
    rows = [[name, percent(accuracy), "won on validation" if name == summary.kv_method else ""] for name, accuracy in ranked]
    return Section(title, [Words(f"{summary.kv_method} won on validation."), Table(("compressor", "accuracy", ""), rows)])


def probes(probes: ProbesRecord | None, summary: DemoSummary | None) -> Section:
    """What happens to the answers when the latents are changed, and what each slot decodes to."""
    title = "Are the latents used?"
    if probes is None:
        return Section(title, [Missing("probes.json", "kvdistill demo")])
    whole = [] if summary is None else [["as trained", percent(summary.latent_kv)]]
    cut = [[f"cut to {counted(slots, 'slot')}", percent(accuracy)] for slots, accuracy in sorted(probes.fewer.items(), reverse=True)]
    changed = [["zeroed", percent(probes.zeroed)], ["of another question", percent(probes.swapped)]]
    slots = zip_longest(probes.top_words, probes.step_match)
    decoded = [
        [str(slot), ", ".join(words or ["–"]), "–" if match is None else percent(match)]
        for slot, (words, match) in enumerate(slots, start=1)
    ]
    header = ("slot", "top words", "decodes to the result of its step")
    return Section(title, [Table(("latents", "accuracy"), [*whole, *changed, *cut]), Table(header, decoded, words=True)])


def made(folder: Path, command: str, summary: DemoSummary | None) -> Section:
    """Command, seed, versions and config."""
    title = "How it was made"
    run = RunRecord.find(folder / "run.json")
    if run is None:
        seed = [] if summary is None or summary.seed is None else [Words(f"Seed {summary.seed}.")]
        return Section(title, [*seed, Missing("run.json", command)])
    facts = {
        "seed": str(run.seed),
        "commit": run.commit or "not from a repository",
        "hardware": run.hardware,
        "started": run.started,
        "minutes": "not finished" if run.seconds is None else short_number(run.seconds / 60),
    } | run.versions
    table = Table(("", ""), [list(fact) for fact in facts.items()], words=True)
    typed = [] if run.command is None else [Code(run.command)]
    return Section(title, [*typed, table, Code(json.dumps(run.config, indent=2, ensure_ascii=False))])


def _points(share: float) -> str:
    """A difference of shares in points, to a tenth."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}points"
