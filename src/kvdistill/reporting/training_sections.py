"""The training sections of a report: validation curves and the terms of the loss."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from kvdistill.console.wording import number
from kvdistill.records.schema import Curve, DemoSummary, Metrics
from kvdistill.records.validation import validation_curve
from kvdistill.reporting.blocks import Block, Missing, Table, Words, percent
from kvdistill.reporting.drawing import draw
from kvdistill.reporting.figures import accuracy_curves, curve_name, loss_curves
from kvdistill.reporting.nats import nats, nats_curves
from kvdistill.reporting.page import Section
from kvdistill.reporting.palette import method
from kvdistill.reporting.stats import area, roughness, steps_to

_NOT_LOSSES = {
    "epoch",
    "grad_norm",
    "learning_rate",
    "total_flos",
    "validation_accuracy",
    "validation_nats",
    "route_agreement",
    "route_entropy",
    "validation_route_agreement",
}
"""Columns that are no terms of the loss; those of routing have a section of their own."""
_NOT_PREFIXES = ("eval_", "train_", "importance_", "distinctness_", "weight_")
_LAYER, _LAYER_PANELS = "kv_layer", 6
"""Start of the names of the layers' terms, and how many of them get a panel."""
_RANGES = ("importance_min", "importance_max", "distinctness_min", "distinctness_max")
_TERMS = {
    "loss": "what training minimizes: the weighted sum of the terms",
    "ce_student": "cross-entropy of the answer after the latent slots",
    "ce_teacher": "cross-entropy of the chain of thought and the answer, written out",
    "codi": "distance of the hidden states just before the answer, latent from written out",
    "kv": "distance of the slots' keys and values from the compressed cache",
    "kv_k": "the keys' part of kv",
    "kv_v": "the values' part of kv",
    "kv_layer*": "kv of one layer, the lowest first",
    "kv_lower_bound": "the kv that the best possible student would be left with",
    "kv_weight": "the weight of kv in the loss",
    "step_ce": "cross-entropy of the slots to the written tokens of their reasoning step",
    "step_ce_accuracy": "share of those tokens that their slot ranks first",
    "step_ce_share": "share of the chain's tokens that have a slot",
    "step_decoder": "cross-entropy of the auxiliary decoder that writes a reasoning step from its slot",
    "step_decoder_share": "share of the chain's tokens that it writes",
    "mux": "divergence of the slots' words from a weighted mix of the written tokens of their span",
    "validation_kv": "kv on validation samples, against targets without a control",
    "validation_ce": "cross-entropy of the answer on validation samples",
    "attention_kl": "divergence of the answer's attention over the slots from that over the compressed cache",
}
"""Logged terms with their explanation, in the order of the panels."""


def training(
    folder: Path, summary: DemoSummary | None, curves: Mapping[str, Curve], chance: float | None
) -> Section:
    """Validation curves, and a table of the measures of each curve.

    Args:
        folder: figures are written to ``figures/`` in it.
        summary: the demo's summary, whose threshold all curves have to reach; None for a run, where each
            curve is measured by 90 % of its own last accuracy.
        curves: validation curve by method.
        chance: chance accuracy (0 to 1), or None.
    """
    blocks: list[Block] = []
    levels: dict[str, float] = {}
    threshold = None
    if summary is not None:
        threshold = summary.threshold
        blocks.append(Words(_first_reached(summary, curves)))
        levels |= {"CoT": summary.cot, "threshold": threshold}
    if not curves:
        return Section("Training", [*blocks, Missing("curve_*.json", "kvdistill demo")])
    if chance is not None:
        levels["chance"] = chance
    caption = "Validation accuracy while training, each curve to its end."
    blocks.append(draw(partial(accuracy_curves, curves, levels), folder / "figures" / "curves.svg", caption))
    if any(curve.nats is not None for curve in curves.values()):
        caption = "Log-probability of the right answer on the validation set while training, in nats."
        blocks.append(draw(partial(nats_curves, curves), folder / "figures" / "nats.svg", caption))
    told = (
        "Mean over training is the area under the curve, divided by its length; lost in falls is the sum of "
        "all drops between "
        "neighboring evaluations."
    )
    return Section("Training", [*blocks, _measures(curves, threshold), Words(told)])


def _measures(curves: Mapping[str, Curve], threshold: float | None) -> Table:
    """The measures of each curve; log-probabilities only where a curve has them."""
    goal = "step to 90 % of its last"
    if threshold is not None:
        goal = f"step to {percent(threshold)}"
    header = ["method", "last step", "last accuracy", goal, "mean over training", "lost in falls"]
    rows = []
    for key, curve in curves.items():
        measures = [
            percent(curve.accuracy[-1]),
            number(_step_to(threshold, curve), "never"),
            percent(area(curve)),
            _points(roughness(curve)),
        ]
        rows.append([curve_name(key, curve), str(curve.steps[-1]), *measures])
    if any(curve.nats is not None for curve in curves.values()):
        header.append("last nats")
        rows = [
            [*row, nats((curve.nats or [None])[-1])] for row, curve in zip(rows, curves.values(), strict=True)
        ]
    return Table(header, rows)


def _step_to(threshold: float | None, curve: Curve) -> int | None:
    """First step at a threshold, or at 90 % of the curve's own last accuracy where there is none."""
    if threshold is None:
        return steps_to(0.9, curve)
    return steps_to(1.0, curve, of=threshold)


def run_curve(folder: Path) -> dict[str, Curve]:
    """The validation curve in a run's metrics.jsonl; empty where none was logged."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return {}
    curve = validation_curve("this run", Metrics(path).series())
    if curve is None:
        return {}
    return {"latent": curve}


def losses(folder: Path, command: str) -> Section:
    """The loss terms from every ``metrics*.jsonl``: one panel per term, and what each term is.

    Args:
        folder: the folder of the metrics; figures are written to ``figures/`` in it.
        command: the command that writes metrics, named where there are none.
    """
    logged: dict[str, dict[str, dict[int, float]]] = {}
    for path in sorted(folder.glob("metrics*.jsonl")):
        run = path.stem.removeprefix("metrics").strip("_") or "run"
        for name, values in Metrics(path).series().items():
            logged.setdefault(name, {})[run] = values
    shown = {name: logged[name] for name in _shown(logged)}
    if not shown:
        return Section("Losses", [Missing("metrics.jsonl", command)])
    caption = "Terms of the loss over training steps, each on its own scale; means since the point before."
    blocks: list[Block] = [draw(partial(loss_curves, shown), folder / "figures" / "losses.svg", caption)]
    known = [[name, _TERMS[name]] for name in dict.fromkeys(map(_known_name, shown)) if name in _TERMS]
    if known:
        blocks.append(Table(("term", "what it is"), known, words=True))
    if any(name in logged for name in _RANGES):
        told = (
            "importance_min to distinctness_max in metrics.jsonl are the ranges of the two terms of "
            "R-KV's score, over tokens."
        )
        blocks.append(Words(told))
    return Section("Losses", blocks)


def _first_reached(summary: DemoSummary, curves: Mapping[str, Curve]) -> str:
    steps = {"e1": summary.steps_to_90_e1, summary.kv_method: summary.steps_to_90_kv}
    told = []
    for key, step in steps.items():
        reached = "never in this run"
        if step is not None:
            reached = f"step {step}"
        elif key in curves:
            reached = f"not in {curves[key].steps[-1]} steps"
        told.append(f"{method(key).label}: {reached}")
    return f"Validation accuracy first reached {percent(summary.threshold)}: {'; '.join(told)}."


def _shown(logged: Mapping[str, object]) -> list[str]:
    """The logged terms that get a panel, in order; of many layers a few at equal distances."""
    names = [name for name in sorted(logged, key=_place) if _is_term(name, logged)]
    layers = [name for name in names if name.startswith(_LAYER)]
    last, panels = len(layers) - 1, min(len(layers), _LAYER_PANELS)
    kept = {layers[place * last // max(panels - 1, 1)] for place in range(panels)}
    return [name for name in names if not name.startswith(_LAYER) or name in kept]


def _known_name(term: str) -> str:
    """The key of a term in ``_TERMS``."""
    if term.startswith(_LAYER):
        return f"{_LAYER}*"
    return term


def _place(term: str) -> tuple[int, int, str]:
    """Sort key: known terms in their order and layers by number, then the others by name."""
    known = _known_name(term)
    if known not in _TERMS:
        return (len(_TERMS), 0, term)
    number = term.removeprefix(_LAYER)
    layer = 0
    if number.isdigit():
        layer = int(number)
    return (list(_TERMS).index(known), layer, term)


def _is_term(name: str, logged: Mapping[str, object]) -> bool:
    """Whether a logged value gets a panel: no bookkeeping, no epoch means of a term that is shown anyway."""
    doubled = name.startswith("epoch_") and name.removeprefix("epoch_") in logged
    return name not in _NOT_LOSSES and not name.startswith(_NOT_PREFIXES) and not doubled


def _points(share: float) -> str:
    """A difference of shares in percentage points, with one decimal."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}points"
