"""Trainer callbacks: checkpoints, stopping at signals, validation, progress bar, log files."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import (
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from kvdistill.console.progress import Bar, on_terminal
from kvdistill.console.signals import Interrupted, Kept, signals_kept
from kvdistill.records.renamed import METRICS, present_names
from kvdistill.records.schema import Metrics
from kvdistill.training.means import TERMS
from kvdistill.training.ranks import Ranks

TIMES = ("train_loss", "total_flos")
"""Metrics that Trainer logs at the end, left out: wrong after a resume, or not measured."""


class SaveWhen(TrainerCallback):
    """Request a checkpoint at the end of each epoch and every ``every`` steps (0: at epoch ends only).

    Has to come last among the callbacks, after those that log or stop training.
    """

    def __init__(self, every: int = 0) -> None:
        self.every = every

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Save inside an epoch; its end, and the end of training, are saved after their last log line."""
        due = self.every > 0 and state.global_step % self.every == 0
        control.should_save |= due and not _ends_epoch(state, control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Save at the end of the epoch."""
        control.should_save = True


class StopAtSignal(TrainerCallback):
    """After a signal, save a checkpoint at the end of the step and stop. Has to come after ``SaveWhen``.

    A signal may reach one process a step before the others, so the processes all-reduce it after each step.
    """

    def __init__(self, kept: Kept, ranks: Ranks) -> None:
        self.kept, self.ranks = kept, ranks
        self.agreed = 0

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Request the checkpoint; the end of an epoch or of training is saved anyway, after its log line."""
        self.agreed = self.ranks.largest(self.kept.signum, args.device)
        control.should_save |= self.agreed > 0 and not _ends_epoch(state, control)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop training once the checkpoint is written.

        Raises:
            Interrupted: with the signal, and the checkpoint's step.
        """
        if self.agreed:
            raise Interrupted(self.agreed, f"a checkpoint of step {state.global_step} has been written")


def _ends_epoch(state: TrainerState, control: TrainerControl) -> bool:
    """Whether the step that has just ended is the last one of its epoch, or of training."""
    return (
        control.should_training_stop or state.global_step >= state.max_steps or (state.epoch or 0.1) % 1 == 0
    )


class EvaluateWhen(TrainerCallback):
    """Validate every ``every`` steps (0: never in between) and after the last step.

    Every rank measures, so that all stop at the same step.

    Args:
        measure: Takes the student and the step; returns metrics by name.
        every: Steps between evaluations.
        report: Logs the metrics.
        stop_at: Training stops once ``validation_accuracy`` (0 to 1) reaches it; None never stops.
    """

    def __init__(
        self,
        measure: Callable[[Any, int], dict[str, float]],
        every: int,
        report: Callable[[dict[str, float]], None],
        stop_at: float | None = None,
    ) -> None:
        self.measure, self.every, self.report, self.stop_at = measure, every, report, stop_at

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Evaluate where it is due, and after the last step."""
        last = state.global_step >= state.max_steps
        if last or (self.every and state.global_step % self.every == 0):
            measured, wanted = self.measure(kwargs["model"].trained(), state.global_step), control.should_log
            self.report(dict(measured))
            # Logging the evaluation has reset the flag, but the training metrics are still to be logged.
            control.should_log = wanted
            control.should_training_stop |= reached(measured, self.stop_at)


class EndEpoch(TrainerCallback):
    """Log the means of an epoch, before its checkpoint is saved."""

    def __init__(self, report: Callable[[], None]) -> None:
        self.report = report

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Log the means of the epoch."""
        self.report()


class Progress(ProgressCallback):
    """Print log lines and, on a terminal, a progress bar below them."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the bar at the current step, so that a resumed run estimates times from its own steps."""
        self.current_step = state.global_step
        if state.is_world_process_zero and on_terminal():
            self.training_bar = Bar(total=state.max_steps, initial=state.global_step, dynamic_ncols=True)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Update the bar."""
        if self.training_bar is not None:
            self.training_bar.update(state.global_step - self.current_step)
            self.current_step = state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Print the log line."""
        row = numbers(logs or {})
        if state.is_world_process_zero and row.keys() - {"epoch"}:
            tqdm.write(line(state.global_step, state.max_steps, row))
            sys.stdout.flush()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Close the bar as it is; the terminal continues on the next line."""
        if self.training_bar is not None:
            self.training_bar.close()
            self.training_bar = None


class WriteLogs(TrainerCallback):
    """Write every log line to ``metrics.jsonl`` and, as text, to ``training_log.txt``.

    A resumed run first rewrites both files from the history in its checkpoint, so that each step occurs once.

    Args:
        folder: Folder of the run.
        title: First line of ``training_log.txt``; empty for none.
    """

    def __init__(self, folder: Path, title: str = "") -> None:
        self.metrics, self.words, self.title = (
            Metrics(folder / "metrics.jsonl"),
            folder / "training_log.txt",
            title,
        )

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Rewrite the files from the log history: empty for a new run, the checkpoint's after a resume.

        Metrics that an earlier version logged get their present names, so that each has one name in the files
        and in later checkpoints.
        """
        state.log_history = [present_names(row, METRICS) for row in state.log_history]
        if not state.is_world_process_zero:
            return
        rows = [(int(row["step"]), numbers(row)) for row in state.log_history]
        self.metrics.write_rows(rows)
        lines = [self.title, *(line(step, state.max_steps, row) for step, row in rows)]
        self.words.parent.mkdir(parents=True, exist_ok=True)
        self.words.write_text("".join(f"{text}\n" for text in lines if text), encoding="utf-8")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Append the log line to both files."""
        row = numbers(logs or {})
        if state.is_world_process_zero and row:
            self.metrics.append_row(state.global_step, row)
            with self.words.open("a", encoding="utf-8") as file:
                file.write(f"{line(state.global_step, state.max_steps, row)}\n")


def reached(measured: Mapping[str, Any], stop_at: float | None) -> bool:
    """Whether ``validation_accuracy`` has reached ``stop_at``; never where that is None."""
    return stop_at is not None and measured.get("validation_accuracy", 0.0) >= stop_at


def numbers(logs: Mapping[str, Any]) -> dict[str, float]:
    """Numeric metrics of a log line, sorted by name as a checkpoint stores them."""
    return {
        name: value
        for name, value in sorted(logs.items())
        if isinstance(value, int | float) and name not in ("step", *TIMES)
    }


def line(step: int, max_steps: int, row: Mapping[str, float]) -> str:
    """Format a row of metrics: means of an interval or an epoch, an evaluation, or the end of training."""
    at = f"step {step}/{max_steps}"
    if "epoch_loss" in row:
        means = "  ".join(f"{name} {row[f'epoch_{name}']:.4f}" for name in TERMS if f"epoch_{name}" in row)
        epoch = row["epoch"]
        ended = f"epoch {epoch:.4g} ended"
        if epoch % 1:
            ended = f"training ended inside epoch {int(epoch) + 1} (at {epoch:.4g})"
        return f"{at}  {ended}, means over it: {means}"
    if "loss" in row:
        means = "  ".join(f"{name} {row[name]:.4f}" for name in TERMS if name in row)
        return f"{at}  epoch {row['epoch']:.2f}  {means}  lr {row.get('learning_rate', 0):.2e}"
    return f"{at}  " + "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "epoch")


@contextmanager
def interruptible(trainer: Trainer, ranks: Ranks) -> Iterator[None]:
    """Stop training with a checkpoint at a signal inside the block; close the progress bar in any case."""
    with signals_kept() as kept:
        trainer.add_callback(StopAtSignal(kept, ranks))
        try:
            yield
        finally:
            for callback in trainer.callback_handler.callbacks:
                if isinstance(callback, Progress):
                    callback.close()
