"""``kvdistill demo``: distill a small student's latent slots from its teacher mode's compressed KV cache.

One backbone is first trained on explicit chains of thought, terse and verbose (warm start). From there two
parallel processes train latents with the KV loss, one run per compressor; latents without it (E1); and direct
answers. The compressor is chosen on the validation set and reported on the test set.
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from kvdistill.commands.demo.recipe import (
    CONTROL,
    HOPS,
    METHODS,
    TERSE,
    VERBOSE,
    Stage,
    lanes,
    warm_stages,
)
from kvdistill.commands.demo.summary import summarize, table
from kvdistill.console.progress import StageProgress
from kvdistill.console.wording import counted
from kvdistill.data import Chain
from kvdistill.evaluation.evaluate import Evaluator
from kvdistill.evaluation.example import answer_of, chosen, example_of
from kvdistill.evaluation.kept import measure_kept
from kvdistill.evaluation.probes import probe
from kvdistill.latent.decode import Reasoning
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.records.example import ExampleRecord
from kvdistill.records.jsonfile import write_atomic
from kvdistill.records.schema import Curve, DemoSummary, EvaluationRecord, Metrics
from kvdistill.records.validation import validation_curve
from kvdistill.reporting import palette
from kvdistill.reporting.report import write_demo_report
from kvdistill.run.provenance import record_of
from kvdistill.run.samples import read_data
from kvdistill.run.train import train
from kvdistill.text import Encoded
from kvdistill.training.checkpoint import newest_checkpoint


@dataclass(frozen=True)
class Run:
    """The settings that all stages of a demo share."""

    seed: int
    share: float
    """Share (0 to 1) of the training steps and of the test set."""
    clock: float
    """When the demo began, by ``time.monotonic``, in seconds."""

    @property
    def questions(self) -> int:
        """Number of test questions."""
        return max(32, round(512 * self.share))

    @property
    def timed(self) -> int:
        """Number of test questions whose latency is measured, one by one."""
        return max(2, round(32 * self.share))


def demo(output: str | Path, seed: int, command: str, share: float = 1.0) -> DemoSummary:
    """Run the complete demo, print its table and write summary.json and report.html.

    Args:
        output: folder for models, records and report; records of an earlier demo in it are removed.
        seed: seed of data, weights and order.
        command: the command line as typed, for run.json.
        share: share of each stage's steps and of the test set, above 0 and at most 1, for a quick trial;
            below 1 the bars are not expected to be reached.

    Returns:
        Accuracies, steps, passes and bars.

    Raises:
        ValueError: if ``share`` is not above 0 and at most 1, or ``seed`` is out of range.
    """
    if not 0 < share <= 1:
        raise ValueError(f"--share is {share}; choose a number above 0 and at most 1.")
    if not 0 <= seed < 2**32:
        raise ValueError(f"--seed is {seed}; choose an integer from 0 to {2**32 - 1}.")
    folder, clock = Path(output), time.monotonic()
    started = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
    for old in [*folder.glob("*.json"), *folder.glob("metrics_*.jsonl")]:
        old.unlink()
    torch.set_num_threads(1)
    start = None
    stages = warm_stages(share)
    parts = len(stages) + 2  # the runs side by side, and the evaluation
    for number, stage in enumerate(stages, start=1):
        print(f"[{number}/{parts}] {stage.name}: chains of thought, {stage.goal}", flush=True)
        start = newest_checkpoint(train(stage.config(folder, start, seed)).folder)
        print(f"{stage.name} ended: {_outcome(folder, stage)}", flush=True)
    assert start is not None
    told = "latents with the KV loss beside a control, latents without it and direct answers"
    print(f"[{parts - 1}/{parts}] {told}", flush=True)
    _side_by_side(folder, start, seed, share)
    print(f"[{parts}/{parts}] evaluation on the test set", flush=True)
    summary = _evaluate(folder, start, Run(seed, share, clock))
    config = lanes(share)[0][0].config(folder, start, seed)
    record = replace(record_of(config, started, command), seconds=time.monotonic() - clock)
    record.write(folder / "run.json")
    report = write_demo_report(folder)
    print(table(summary, folder))
    print(f"Report: {report}")
    return summary


def _side_by_side(folder: Path, start: Path, seed: int, share: float) -> None:
    """Train the stages in two processes of one thread each; their progress is read from metrics files."""
    children = []
    for lane in lanes(share):
        runs = []
        for stage in lane:
            path = folder / stage.name / "config.json"
            config = stage.config(folder, start, seed)
            quiet = config.model_copy(
                update={"training": config.training.model_copy(update={"progress": False})}
            )
            write_atomic(path, quiet.model_dump_json(indent=2))
            (folder / stage.name / "metrics.jsonl").unlink(missing_ok=True)
            runs.append(path)
        log = (folder / f"{lane[0].name}.log").open("w")
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}
        words = [sys.executable, "-m", "kvdistill.commands.demo.run", *map(str, runs)]
        children.append((subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, env=environment), log))
    try:
        _follow(folder, [stage for lane in lanes(share) for stage in lane], [child for child, _ in children])
    finally:
        for child, log in children:
            child.terminate()  # it still runs only if the demo was interrupted
            child.wait()
            log.close()
    for child, log in children:
        if child.returncode:
            raise ValueError(f"A training process of the demo stopped: see {log.name}.")


def _follow(folder: Path, stages: list[Stage], children: list[subprocess.Popen[bytes]]) -> None:
    """Show the progress of the stages until the processes have ended."""
    with StageProgress({stage.name: stage.steps for stage in stages}) as progress:
        running = True
        while running:
            time.sleep(1)
            running = any(child.poll() is None for child in children)
            for stage in stages:
                rows = _measured(folder, stage.name)
                if rows:
                    progress.reach(stage.name, int(rows[-1]["step"]), _validation_note(rows))


def _measured(folder: Path, stage: str) -> list[dict[str, float | int]]:
    path = folder / stage / "metrics.jsonl"
    if not path.is_file():
        return []
    return Metrics(path).read_rows()


def _validation_note(rows: list[dict[str, float | int]]) -> str:
    accuracies = _validated(rows)
    if not accuracies:
        return ""
    return f"validation {accuracies[-1]:.2f}"


def _validated(rows: list[dict[str, float | int]]) -> list[float]:
    """All validation accuracies among logged rows."""
    return [row["validation_accuracy"] for row in rows if "validation_accuracy" in row]


def _outcome(folder: Path, stage: Stage) -> str:
    """One phrase on why a stage ended: its goal reached, or all steps made."""
    rows = _measured(folder, stage.name)
    step = int(rows[-1]["step"])
    accuracies = _validated(rows)
    if not accuracies:
        return f"all {counted(step, 'step')} made"
    accuracy = f"validation accuracy {accuracies[-1]:.2f}"
    if stage.stop_at is not None and accuracies[-1] >= stage.stop_at:
        return f"{accuracy} reached at step {step} of at most {stage.steps}"
    return f"all {counted(step, 'step')} made, {accuracy}"


def _evaluate(folder: Path, start: Path, run: Run) -> DemoSummary:
    """Evaluate every row of the table on the test set, one after another so that latencies are comparable."""
    evaluator = Evaluator(batch_size=128, max_new_tokens=5 * HOPS + 8, timed=run.timed, progress=True)
    warm = LatentReasoner.from_pretrained(start)
    rows: dict[str, EvaluationRecord] = {}

    def ask(key: str, model: LatentReasoner, task: Chain, reasoning: Any, label: Any = None) -> None:
        record, _ = evaluator.evaluate(model, _test(model, task, run), reasoning, "chain, test", label)
        record.write(folder / f"evaluation_{key}.json")
        rows[key] = record

    ask("cot", warm, VERBOSE, "cot")
    ask("cot_terse", warm, TERSE, "cot", "cot_terse")
    ask("direct", _last(folder, "direct"), TERSE, "direct")
    ask("latent_e1", _last(folder, "latent_e1"), VERBOSE, "latent")
    for name in (*METHODS, CONTROL):
        ask(f"latent_{name}", _last(folder, f"latent_{name}"), VERBOSE, "latent")
    curves = {name: _curve(folder, f"latent_{name}", name) for name in (*METHODS, CONTROL, "e1")}
    winner = max(METHODS, key=lambda name: curves[name].accuracy[-1])
    (folder / f"evaluation_latent_{winner}.json").replace(folder / "evaluation_latent_kv.json")
    best = _last(folder, f"latent_{winner}")
    print("probes of the latents: zeroed, swapped and cut to fewer slots", flush=True)
    sections = [stage.config(folder, start, run.seed).target for stage in lanes(run.share)[0]]
    targets = {section.method.kind: section.method for section in sections}
    # On the warm start: what the runs' targets held before a step of them was trained.
    kept = measure_kept(warm, _test(warm, VERBOSE, run)[:256], targets, evaluator.batch_size)
    record = probe(best, _test(best, VERBOSE, run)[:256], evaluator)
    replace(record, kept=kept).write(folder / "probes.json")
    minutes = (time.monotonic() - run.clock) / 60
    summary = summarize(rows, curves, winner, minutes, run.seed)
    summary.write(folder / "summary.json")
    _example(folder, {"cot": warm, winner: best}, winner, run).write(folder / "example.json")
    return summary


def _example(folder: Path, models: dict[str, LatentReasoner], winner: str, run: Run) -> ExampleRecord:
    """One test question with the slots of the chosen compressor, answered in every mode compared."""
    models = models | {
        "cot_terse": models["cot"],
        "e1": _last(folder, "latent_e1"),
        "direct": _last(folder, "direct"),
    }
    asked: dict[str, tuple[Chain, Reasoning]] = {
        winner: (VERBOSE, "latent"),
        "cot": (VERBOSE, "cot"),
        "cot_terse": (TERSE, "cot"),
        "e1": (VERBOSE, "latent"),
        "direct": (TERSE, "direct"),
    }
    evaluator = Evaluator(batch_size=1, max_new_tokens=5 * HOPS + 8, timed=0)
    questions = _test(models[winner], VERBOSE, run)
    place = chosen(questions)
    answers = []
    for name, (task, reasoning) in asked.items():
        sample = _test(models[name], task, run)[place]  # another trace of the same question
        answers.append(answer_of(models[name], sample, reasoning, evaluator, name))
    return replace(
        example_of(models[winner], questions[place], VERBOSE.sentence, "chain, test"), answers=answers
    )


def _curve(folder: Path, stage: str, method: str) -> Curve:
    """Validation curve of a run; curve and logged losses are written beside the summary for the report."""
    series = Metrics(folder / stage / "metrics.jsonl").series()
    losses = {
        name: values for name, values in series.items() if name in ("ce_student", "ce_teacher", "codi", "kv")
    }
    path = folder / f"metrics_{method}.jsonl"
    path.unlink(missing_ok=True)
    for step in sorted({step for values in losses.values() for step in values}):
        Metrics(path).append_row(
            step, {name: values[step] for name, values in losses.items() if step in values}
        )
    curve = validation_curve(palette.method(method).label, series)
    assert curve is not None
    curve.write(folder / f"curve_{method}.json")
    return curve


def _last(folder: Path, stage: str) -> LatentReasoner:
    checkpoint = newest_checkpoint(folder / stage)
    assert checkpoint is not None
    return LatentReasoner.from_pretrained(checkpoint)


def _test(model: LatentReasoner, task: Chain, run: Run) -> tuple[Encoded, ...]:
    config = Stage("test", task, 1).config(Path(), None, run.seed)
    data = config.data.train.model_copy(update={"num": run.questions, "split": "test"})
    return read_data(config.data, data, model, Path(config.training.output_dir))


if __name__ == "__main__":
    from kvdistill.config import load

    torch.set_num_threads(1)
    for argument in sys.argv[1:]:
        train(load(argument))
