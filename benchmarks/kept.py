"""What each compressor keeps of a warm-started student's chains of thought, before latents are trained.

    python benchmarks/kept.py [--checkpoint FOLDER] [--questions 256] [--fillers repeated]

The task is ``chain`` with eight names; its verbose steps end with their result after three words: ``then A
hands B`` (giver), ``then then then B`` (repeated) or three drawn words and B (varied), with four hand-overs
always, or one to four with traces padded to four steps or not. Four slots.

Without a checkpoint the script trains one small Llama per filler on explicit chains of thought (a minute or
two each): a common terse start with seven hand-overs, then both styles, one to four hand-overs, padded; the
varied filler starts from the repeated one.
A table per case has the share of kept tokens that carry a step's result, the share of steps whose result is
kept, and the entropy of a slot's role in bits, in layer 0 and in the last layer. The last line is JSON:
``{case: {compressor: [result share, role entropy]}}`` in layer 0, and under ``cot`` the model's accuracy by
case.
"""

import argparse
import contextlib
import json
import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "_reexec.py"))

import sys
import tempfile
import warnings

import torch

from kvdistill.commands.demo.recipe import Stage
from kvdistill.compress import (
    RKV,
    Attention,
    Compressor,
    Cosine,
    Full,
    LeftCrop,
    Random,
    RightCrop,
    StepEnd,
    Uniform,
)
from kvdistill.data import Chain, encode_all
from kvdistill.data.chain import Filler
from kvdistill.evaluation.evaluate import Evaluator
from kvdistill.evaluation.kept import measure_kept
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.records.probes import KeptTokens
from kvdistill.run.student import template_of
from kvdistill.run.train import train
from kvdistill.training.checkpoint import newest_checkpoint

FILLERS: tuple[Filler, ...] = ("giver", "repeated", "varied")
DEEPEST = 4
GATE = 0.95
"""Accuracy of the chain of thought below which a model is no warm start."""
LAMBDAS = (0.0, 0.1, 0.5, 1.0)
CASES = {
    "4": {"steps": DEEPEST},
    "1-4 padded": {"steps": (1, DEEPEST), "pad": True},
    "1-4": {"steps": (1, DEEPEST)},
}
"""Hand-overs of a question, and whether its trace is padded."""


def compressors() -> dict[str, Compressor]:
    """The compressors by the names that they have in the tables."""
    found: dict[str, Compressor] = {"step_end": StepEnd(), "uniform": Uniform()}
    for weight in LAMBDAS:
        for selection in ("per_head", "shared"):
            found[f"rkv {weight:g} {selection}"] = RKV(importance_weight=weight, selection=selection)
    return found | {
        "full": Full(),
        "right_crop": RightCrop(),
        "left_crop": LeftCrop(),
        "attention": Attention(),
        "cosine": Cosine(),
        "random": Random(),
    }


def warm_start(folder: Path, filler: Filler) -> Path:
    """Train a student on explicit chains of thought of one filler; stages made before are not made again.

    Each filler starts from the one before it: where the result of a step is has to be known first.
    """
    both = Chain(names=8, steps=(1, DEEPEST), trace="mixed", filler=filler, pad=True)
    cot = {"task": "cot", "lr": 2e-3, "progress": False, "eval_steps": 25}
    place = FILLERS.index(filler)
    if place:
        start = warm_start(folder, FILLERS[place - 1])
    else:
        terse = Stage("terse", Chain(names=8, steps=7), 900, cot | {"stop_at_accuracy": 0.95})
        start = made(folder, terse, None)
    mixed = Stage(f"{filler}_mixed", both, 1500, cot | {"stop_at_accuracy": 0.985})
    annealed = Stage(f"{filler}_annealed", both, 500, cot | {"scheduler": "cosine", "warmup_steps": 0})
    return made(folder, annealed, made(folder, mixed, start))


def made(folder: Path, stage: Stage, start: Path | None) -> Path:
    """The checkpoint of a stage, which is trained where there is none."""
    found = newest_checkpoint(folder / stage.name)
    if found is None:
        # What training prints is no result.
        with contextlib.redirect_stdout(sys.stderr):
            found = newest_checkpoint(train(stage.config(folder, start, seed=0)).folder)
    assert found is not None
    return found


def measured(model: LatentReasoner, task: Chain, questions: int) -> tuple[float, list[KeptTokens]]:
    """Accuracy of the chain of thought, and what each compressor keeps of the gold chains."""
    assert model.tokenizer is not None
    samples = encode_all(task.make(questions, "test", 0), model.tokenizer, template_of(model)).samples
    evaluator = Evaluator(batch_size=128, max_new_tokens=5 * DEEPEST + 8, timed=0)
    accuracy = evaluator.accuracy(model, samples[:128], "cot")
    return accuracy, measure_kept(model, samples, compressors(), batch_size=128)


def lines(case: str, accuracy: float, kept: list[KeptTokens]) -> list[str]:
    """The table of one case."""
    base, doubt = 100 * (kept[0].base_share or 0.0), ""
    if accuracy < GATE:
        doubt = " (not learned: no warm start)"
    found = [
        f"\n{case}: CoT {100 * accuracy:.1f} % right{doubt}, {base:.0f} % of all tokens are results",
        f"{'':<18}{'layer 0: results':>18}{'steps':>8}{'bits':>7}"
        f"{'last: results':>16}{'steps':>8}{'bits':>7}",
    ]
    for one in kept:
        cells = []
        for layer, width in ((one.layers[0], 18), (one.layers[-1], 16)):
            share, steps, bits = layer.result_share, layer.steps_covered, layer.role_entropy
            assert share is not None and steps is not None
            role = "–"
            if bits is not None:
                role = f"{bits:.2f}"
            cells.append(f"{100 * share:>{width - 2}.0f} %{100 * steps:>6.0f} %{role:>7}")
        found.append(f"{one.method:<18}{''.join(cells)}")
    return found


def main() -> None:
    """Train where no checkpoint is given, measure, print a table per case and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="folder of a student that knows the words of chain")
    parser.add_argument("--questions", type=int, default=256)
    parser.add_argument("--fillers", nargs="+", choices=FILLERS, default=FILLERS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, dict[str, object]] = {}
    accuracies: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        for filler in given.fillers:
            path = given.checkpoint or warm_start(Path(folder), filler)
            model = LatentReasoner.from_pretrained(path)
            for name, options in CASES.items():
                case = f"{filler}, {name}"
                task = Chain(names=8, trace="verbose", filler=filler, **options)
                accuracy, kept = measured(model, task, given.questions)
                print("\n".join(lines(case, accuracy, kept)), flush=True)
                accuracies[case] = round(accuracy, 4)
                figures[case] = {
                    one.method: [
                        round(one.layers[0].result_share or 0.0, 3),
                        round(one.layers[0].role_entropy or 0.0, 3),
                    ]
                    for one in kept
                }
    print(json.dumps(figures | {"cot": accuracies}))


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main()
