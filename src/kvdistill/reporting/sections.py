"""Sections of a report: headline, bars, compressors, probes of the latents, provenance.

A section whose record is missing names the file and the command that writes it.
"""

import json
from collections.abc import Mapping
from functools import partial
from itertools import zip_longest
from pathlib import Path

from kvdistill.console.wording import number
from kvdistill.records.schema import Bar, DemoSummary, EvaluationRecord, ProbesRecord, RunRecord
from kvdistill.reporting.blocks import Block, Code, Folded, Missing, Table, Words, percent
from kvdistill.reporting.drawing import draw
from kvdistill.reporting.figures import Measured, accuracy_bars
from kvdistill.reporting.page import Section
from kvdistill.reporting.palette import method
from kvdistill.reporting.results import chance_in


def headline(summary: DemoSummary | None, records: Mapping[str, EvaluationRecord]) -> tuple[str, str]:
    """Title and first paragraph of a demo's report.

    Args:
        summary: the demo's summary; None while the demo is unfinished.
        records: evaluation by the name in its file.
    """
    if summary is None:
        return "Latent reasoning demo", "The demo has not finished: it has written no summary yet."
    title = (
        f"Latent reasoning demo: {percent(summary.latent_kv)} right in {number(summary.passes_latent)} passes"
    )
    terse = records.get("cot_terse")
    ms_terse = None if terse is None else terse.ms_batch1
    told = [
        f"Thinking in latent slots that were trained with the KV term ({method(summary.kv_method).label}), "
        "the student answers "
        f"{percent(summary.latent_kv)} of the questions right in "
        f"{_cost(summary.passes_latent, summary.ms_latent)}.",
        f"Writing its chain of thought out, it answers {percent(summary.cot)} in "
        f"{_cost(summary.passes_cot, summary.ms_cot)} where the "
        "chain is verbose" + ("." if summary.cot_terse is None else f", {_terse(summary, ms_terse)}"),
        f"Slots trained without the KV term (E1) answer {percent(summary.latent_e1)}, and answering "
        "directly gives "
        f"{percent(summary.direct)}{_chance(chance_in(records.values()))}.",
        f"The demo took {summary.minutes:.1f} minutes.",
    ]
    return title, " ".join(told)


def _cost(passes: float, ms: float | None) -> str:
    time = "" if ms is None else f" and {number(ms, digits=2)} ms"
    return f"{number(passes)} sequential forward passes{time} a question"


def _terse(summary: DemoSummary, ms_terse: float | None) -> str:
    """The comparison with the terse chain of thought, which is named as better where it is."""
    assert summary.cot_terse is not None
    if summary.passes_cot_terse is None:
        return f"and {percent(summary.cot_terse)} where it is terse."
    told = (
        f"and {percent(summary.cot_terse)} in {_cost(summary.passes_cot_terse, ms_terse)} where it is terse"
    )
    ahead = [
        name for name, is_ahead in (("more often right", summary.cot_terse > summary.latent_kv),) if is_ahead
    ]
    if summary.ms_latent is not None and ms_terse is not None and ms_terse < summary.ms_latent:
        ahead.append("faster")
    fewer = "fewer" if summary.passes_latent < summary.passes_cot_terse else "no fewer"
    behind = f", but the terse chain is {' and '.join(ahead)} here" if ahead else ""
    return f"{told}: the slots take {fewer} passes than the terse chain{behind}."


def _chance(chance: float | None) -> str:
    return "" if chance is None else f"; chance (always the most frequent answer) is {percent(chance)}"


def bars(summary: DemoSummary | None) -> Section:
    """The bars of the demo, each with its value and verdict."""
    title = "What it had to reach"
    if summary is None or summary.bars is None:
        return Section(title, [Missing("bars in summary.json", "kvdistill demo")])
    rows = [
        [
            name,
            _value(name, bar),
            f"at {'most' if bar.at_most else 'least'} {number(bar.bar)}",
            "reached" if bar.reached else "not reached",
        ]
        for name, bar in summary.bars.items()
    ]
    reached = sum(bar.reached for bar in summary.bars.values())
    told = Words(f"{reached} of {len(rows)} bars reached.")
    return Section(title, [told, Table(("what", "value", "bar", "verdict"), rows)])


def _value(name: str, bar: Bar) -> str:
    if bar.text is not None or bar.value is None:
        return bar.text or "never"
    return f"{bar.value:.1f}" if name == "minutes" else number(bar.value)


def methods(summary: DemoSummary | None) -> Section:
    """The compressors tried, by test accuracy, best first."""
    title = "Compressors tried"
    if summary is None:
        return Section(title, [Missing("latent_by_method in summary.json", "kvdistill demo")])
    ranked = sorted(summary.latent_by_method.items(), key=lambda item: -item[1])
    rows = [
        [method(name).label, percent(accuracy), "chosen" if name == summary.kv_method else ""]
        for name, accuracy in ranked
    ]
    told = (
        f"{method(summary.kv_method).label} was best on the validation set, which chose it; accuracy is "
        "on the test set."
    )
    return Section(title, [Words(told), Table(("target of the latent slots", "accuracy", ""), rows)])


def probes(
    folder: Path, probes: ProbesRecord | None, summary: DemoSummary | None, chance: float | None
) -> Section:
    """Accuracy with zeroed, swapped and fewer latents, and what each slot decodes to.

    Args:
        folder: figures are written to ``figures/`` in it.
        probes: the record; None where the latents were not probed.
        summary: the demo's summary, for the accuracy with unchanged latents; None for a run.
        chance: chance accuracy (0 to 1), or None.
    """
    title = "Are the latent slots used?"
    if probes is None:
        return Section(title, [Missing("probes.json", "kvdistill demo")])
    whole = (
        []
        if summary is None
        else [Measured(label="as trained", accuracy=summary.latent_kv, key=summary.kv_method)]
    )
    changed = [("set to zero", probes.zeroed), ("of another question", probes.swapped)]
    changed += [(_kept(slots), share) for slots, share in sorted(probes.fewer.items(), reverse=True)]
    rows = [*whole, *(Measured(label=label, accuracy=share) for label, share in changed)]
    caption = "Accuracy with the slots as they are, and with slots that were changed before the answer."
    figure = draw(partial(accuracy_bars, rows, chance), folder / "figures" / "probes.svg", caption)
    pairs = list(zip_longest(probes.top_words, probes.step_match))
    decoded = [
        [f"slot {slot}", "–" if match is None else percent(match)]
        for slot, (_, match) in enumerate(pairs, start=1)
    ]
    words = [[f"slot {slot}", ", ".join(words or ["–"])] for slot, (words, _) in enumerate(pairs, start=1)]
    accuracies = Table(("latent slots", "accuracy"), [[row.label, percent(row.accuracy)] for row in rows])
    blocks: list[Block] = [
        figure,
        Table(("latent slot", "decodes to the result of its step"), decoded),
        Folded("The accuracies as numbers", accuracies),
        Folded(
            "The words that each slot decodes to most often, over all questions",
            Table(("latent slot", "words"), words, words=True),
        ),
    ]
    return Section(title, blocks)


def _kept(slots: int) -> str:
    return {0: "no slot", 1: "only the first slot"}.get(slots, f"only the first {slots} slots")


def made(folder: Path, command: str, summary: DemoSummary | None) -> Section:
    """Provenance: command, seed, commit, hardware, versions and configuration."""
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
        "minutes": "not finished" if run.seconds is None else f"{run.seconds / 60:.1f}",
    } | run.versions
    table = Table(("", ""), [list(fact) for fact in facts.items()], words=True)
    typed: list[Block] = [] if run.command is None else [Code(run.command)]
    config = Folded(
        "Every option of the configuration", Code(json.dumps(run.config, indent=2, ensure_ascii=False))
    )
    return Section(title, [*typed, table, config])
