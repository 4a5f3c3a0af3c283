"""What happens beside the loop: checkpoints at epoch ends, evaluation every so many steps, the lines of the
log.
"""

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
from kvdistill.records.schema import Metrics
from kvdistill.training.means import TERMS
from kvdistill.training.ranks import Ranks

TIMES = ("train_loss", "total_flos")
"""What Trainer says at the end that is wrong after a resume, or not measured."""


class SaveWhen(TrainerCallback):
    """Ask for a checkpoint at the end of each epoch and, if wanted, every ``every`` steps. Comes last among
    the callbacks.
    """

    def __init__(self, every: int = 0) -> None:
        self.every = every

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Save between epochs; the end of an epoch or of the training is saved after its last log line."""
        due = self.every > 0 and state.global_step % self.every == 0
        control.should_save |= due and not _ends_epoch(state, control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Save what the epoch taught."""
        control.should_save = True


class StopAtSignal(TrainerCallback):
    """Where a signal has come, save a checkpoint at the end of the step and stop. Comes after ``SaveWhen``.

    A signal may reach one process a step before the others, so they agree on it at each step's end.
    """

    def __init__(self, kept: Kept, ranks: Ranks) -> None:
        self.kept, self.ranks = kept, ranks
        self.agreed = 0

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask for the checkpoint; what ends an epoch or the training is saved anyway, behind its last line of
        the log.
        """
        self.agreed = self.ranks.largest(self.kept.signum, args.device)
        control.should_save |= self.agreed > 0 and not _ends_epoch(state, control)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the training once the checkpoint is written.

        Raises:
            Interrupted: with the signal, and the checkpoint's step.
        """
        if self.agreed:
            raise Interrupted(self.agreed, f"a checkpoint of step {state.global_step} has been written")


def _ends_epoch(state: TrainerState, control: TrainerControl) -> bool:
    """Whether the step that has just ended is the last one of its epoch, or of the training."""
    return (
        control.should_training_stop or state.global_step >= state.max_steps or (state.epoch or 0.1) % 1 == 0
    )


class EvaluateWhen(TrainerCallback):
    """Call ``measure(student, step)`` every ``every`` steps and at the end; what it returns is logged through
    ``report``.

    Training stops once ``validation_accuracy`` reaches ``stop_at``. Every rank measures, so that all stop at
    the same step.
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
        """Evaluate in between, and after the last step."""
        last = state.global_step >= state.max_steps
        if last or (self.every and state.global_step % self.every == 0):
            measured, wanted = self.measure(kwargs["model"].student, state.global_step), control.should_log
            self.report(dict(measured))
            control.should_log = (
                wanted  # a line of the log, such as this one, is taken for the one that was wanted
            )
            control.should_training_stop |= reached(measured, self.stop_at)


class EndEpoch(TrainerCallback):
    """Say what the epoch came to, before it is saved."""

    def __init__(self, report: Callable[[], None]) -> None:
        self.report = report

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Log the means of the epoch."""
        self.report()


class Progress(ProgressCallback):
    """The lines of the log, and on a terminal Trainer's bar below them."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin at the step that a resumed run is at, so that its steps alone tell how long a step takes."""
        self.current_step = state.global_step
        if state.is_world_process_zero and on_terminal():
            self.training_bar = Bar(total=state.max_steps, initial=state.global_step, dynamic_ncols=True)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Move the bar."""
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
        """Show the line."""
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
        """Leave the bar as it is, and go to the next line of the terminal."""
        if self.training_bar is not None:
            self.training_bar.close()
            self.training_bar = None


class WriteLogs(TrainerCallback):
    """Every log line goes to ``metrics.jsonl`` and, in words, to ``training_log.txt``.

    A run that goes on begins with what its checkpoint remembers, so that the files hold each step once, as if
    nothing had happened.
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
        """Write the history of the checkpoint again, if there is one."""
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
        """Append the line."""
        row = numbers(logs or {})
        if state.is_world_process_zero and row:
            self.metrics.append_row(state.global_step, row)
            with self.words.open("a", encoding="utf-8") as file:
                file.write(f"{line(state.global_step, state.max_steps, row)}\n")


def reached(measured: Mapping[str, Any], stop_at: float | None) -> bool:
    """Whether an evaluation is good enough to stop."""
    return stop_at is not None and measured.get("validation_accuracy", 0.0) >= stop_at


def numbers(logs: Mapping[str, Any]) -> dict[str, float]:
    """What of a log line is kept, by name: in that order a checkpoint gives it back."""
    return {
        name: value
        for name, value in sorted(logs.items())
        if isinstance(value, int | float) and name not in ("step", *TIMES)
    }


def line(step: int, max_steps: int, row: Mapping[str, float]) -> str:
    """A row of metrics in words: an interval's or an epoch's means, an evaluation, or the end."""
    at = f"step {step}/{max_steps}"
    if "epoch_loss" in row:
        means = "  ".join(f"{name} {row[f'epoch_{name}']:.4f}" for name in TERMS if f"epoch_{name}" in row)
        epoch = row["epoch"]
        ended = (
            f"epoch {epoch:.4g} ended"
            if epoch % 1 == 0
            else f"training ended inside epoch {int(epoch) + 1} (at {epoch:.4g})"
        )
        return f"{at}  {ended}, means over it: {means}"
    if "loss" in row:
        means = "  ".join(f"{name} {row[name]:.4f}" for name in TERMS if name in row)
        return f"{at}  epoch {row['epoch']:.2f}  {means}  lr {row.get('learning_rate', 0):.2e}"
    return f"{at}  " + "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "epoch")


@contextmanager
def interruptible(trainer: Trainer, ranks: Ranks) -> Iterator[None]:
    """Signals inside the block end the training with a checkpoint; however it ends, its progress bar is
    closed.
    """
    with signals_kept() as kept:
        trainer.add_callback(StopAtSignal(kept, ranks))
        try:
            yield
        finally:
            for callback in trainer.callback_handler.callbacks:
                if isinstance(callback, Progress):
                    callback.close()
