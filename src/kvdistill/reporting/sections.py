"""Sections of a report: headline, bars, compressors, probes of the latents, provenance.

A section whose record is missing names the file and the command that writes it.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path

from kvdistill.console.wording import counted, number
from kvdistill.records.probes import KeptLayer, KeptTokens, ProbesRecord
from kvdistill.records.schema import Bar, DemoSummary, EvaluationRecord, RunRecord
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
    told = [
        f"Thinking in latent slots that were trained with the KV term ({method(summary.kv_method).label}), "
        "the student answers "
        f"{percent(summary.latent_kv)} of the questions right in "
        f"{_cost(summary.passes_latent, summary.ms_latent)}.",
        f"Writing its chain of thought out, it answers {percent(summary.cot)} in "
        f"{_cost(summary.passes_cot, summary.ms_cot)} where the "
        f"chain is verbose{_terse(summary, records.get('cot_terse'))}",
        f"Slots trained without the KV term (E1) answer {percent(summary.latent_e1)}, and answering "
        "directly gives "
        f"{percent(summary.direct)}{_chance(chance_in(records.values()))}.",
        f"The demo took {summary.minutes:.1f} minutes.",
    ]
    return title, " ".join(told)


def _cost(passes: float, ms: float | None) -> str:
    cost = f"{number(passes)} sequential forward passes"
    if ms is not None:
        cost += f" and {number(ms, digits=2)} ms"
    return f"{cost} a question"


def _terse(summary: DemoSummary, evaluation: EvaluationRecord | None) -> str:
    """The end of a sentence: the terse chain of thought, which is named as better where it is."""
    if summary.cot_terse is None:
        return "."
    if summary.passes_cot_terse is None:
        return f", and {percent(summary.cot_terse)} where it is terse."
    ms_terse = None
    if evaluation is not None:
        ms_terse = evaluation.ms_batch1
    ahead = []
    if summary.cot_terse > summary.latent_kv:
        ahead.append("more often right")
    if summary.ms_latent is not None and ms_terse is not None and ms_terse < summary.ms_latent:
        ahead.append("faster")
    fewer = "fewer" if summary.passes_latent < summary.passes_cot_terse else "no fewer"
    told = (
        f", and {percent(summary.cot_terse)} in {_cost(summary.passes_cot_terse, ms_terse)} where it is "
        f"terse: the slots take {fewer} passes than the terse chain"
    )
    if ahead:
        told += f", but the terse chain is {' and '.join(ahead)} here"
    return f"{told}."


def _chance(chance: float | None) -> str:
    if chance is None:
        return ""
    return f"; chance (always the most frequent answer) is {percent(chance)}"


def bars(summary: DemoSummary | None) -> Section:
    """The bars of the demo, each with its value and verdict."""
    title = "What it had to reach"
    if summary is None or summary.bars is None:
        return Section(title, [Missing("bars in summary.json", "kvdistill demo")])
    return Section(title, bar_table(summary.bars))


def bar_table(bars: Mapping[str, Bar]) -> list[Block]:
    """Bars with their values and verdicts, and how many were reached."""
    rows = []
    for name, bar in bars.items():
        limit = "at most" if bar.at_most else "at least"
        verdict = "reached" if bar.reached else "not reached"
        rows.append([name, _value(name, bar), f"{limit} {number(bar.bar)}", verdict])
    reached = sum(bar.reached for bar in bars.values())
    told = Words(f"{reached} of {len(rows)} bars reached.")
    return [told, Table(("what", "value", "bar", "verdict"), rows)]


def _value(name: str, bar: Bar) -> str:
    if bar.text is not None or bar.value is None:
        return bar.text or "never"
    if name == "minutes":
        return f"{bar.value:.1f}"
    return number(bar.value)


def methods(summary: DemoSummary | None) -> Section:
    """The compressors tried, by test accuracy, best first."""
    title = "Compressors tried"
    if summary is None:
        return Section(title, [Missing("latent_by_method in summary.json", "kvdistill demo")])
    ranked = sorted(summary.latent_by_method.items(), key=lambda item: -item[1])
    chosen = {summary.kv_method: "chosen"}
    rows = [[method(name).label, percent(accuracy), chosen.get(name, "")] for name, accuracy in ranked]
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
    changed = [("set to zero", probes.zeroed), ("of another question", probes.swapped)]
    changed += [(_kept(slots), share) for slots, share in sorted(probes.fewer.items(), reverse=True)]
    rows = []
    if summary is not None:
        rows.append(Measured(label="as trained", accuracy=summary.latent_kv, key=summary.kv_method))
    rows += [Measured(label=label, accuracy=share) for label, share in changed]
    caption = "Accuracy with the slots as they are, and with slots that were changed before the answer."
    figure = draw(partial(accuracy_bars, rows, chance), folder / "figures" / "probes.svg", caption)
    pairs = list(zip_longest(probes.top_words, probes.step_match))
    decoded = [[f"slot {slot}", percent(match)] for slot, (_, match) in enumerate(pairs, start=1)]
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
        *_kept_tokens(probes.kept or ()),
    ]
    return Section(title, blocks)


def _kept_tokens(kept: Sequence[KeptTokens]) -> list[Block]:
    """What the compressors keep, by layer; nothing where it was not measured."""
    if not kept:
        return []
    rows = []
    for one in kept:
        label = method(one.method).label
        rows += [[f"{label}, layer {layer.layer}", *_kept_cells(layer)] for layer in one.layers]
    base = ""
    if kept[0].base_share is not None:
        base = f" ({percent(kept[0].base_share)} of all tokens do)"
    told = (
        "Which tokens of the chain of thought the targets of the slots keep, over "
        f"{counted(kept[0].num, 'question')}: the share of kept tokens that carry a step's result{base}, "
        "the share of steps whose result some slot keeps, and the entropy over questions of the step and "
        "word that a slot keeps: 0 bits where it is the same everywhere. – means not defined. The full KV "
        "cache counts each token with its weight in the slots that fit it best."
    )
    header = ("target", "kept tokens with a result", "results kept", "role entropy, bits")
    return [Words(told), Table(header, rows)]


def _kept_cells(layer: KeptLayer) -> list[str]:
    cells = [percent(layer.result_share), percent(layer.steps_covered)]
    if layer.role_entropy is None:
        return [*cells, "–"]
    return [*cells, f"{layer.role_entropy:.2f}"]


def _kept(slots: int) -> str:
    return {0: "no slot", 1: "only the first slot"}.get(slots, f"only the first {slots} slots")


def made(folder: Path, command: str, summary: DemoSummary | None) -> Section:
    """Provenance: command, seed, commit, hardware, versions and configuration."""
    title = "How it was made"
    blocks: list[Block] = []
    run = RunRecord.find(folder / "run.json")
    if run is None:
        if summary is not None and summary.seed is not None:
            blocks.append(Words(f"Seed {summary.seed}."))
        return Section(title, [*blocks, Missing("run.json", command)])
    if run.command is not None:
        blocks.append(Code(run.command))
    minutes = "not finished"
    if run.seconds is not None:
        minutes = f"{run.seconds / 60:.1f}"
    facts = {
        "seed": str(run.seed),
        "commit": run.commit or "not from a repository",
        "hardware": run.hardware,
        "started": run.started,
        "minutes": minutes,
    } | run.versions
    table = Table(("", ""), [list(fact) for fact in facts.items()], words=True)
    config = Folded(
        "Every option of the configuration", Code(json.dumps(run.config, indent=2, ensure_ascii=False))
    )
    return Section(title, [*blocks, table, config])
