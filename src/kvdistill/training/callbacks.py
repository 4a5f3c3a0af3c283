"""What happens beside the loop: checkpoints at epoch ends, evaluation every so many steps, metrics in a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from kvdistill.record import Metrics


class SaveWhen(TrainerCallback):
    """Ask for a checkpoint at the end of each epoch and, if wanted, every ``every`` steps."""

    def __init__(self, every: int = 0) -> None:
        self.every, self.saved_at = every, -1

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Save what the epoch taught, if its last step did not."""
        control.should_save = self.saved_at != state.global_step

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Remember what is saved."""
        self.saved_at = state.global_step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Save between epochs."""
        control.should_save = control.should_save or bool(self.every and state.global_step % self.every == 0)


class EvaluateWhen(TrainerCallback):
    """Call ``measure(model, step)`` every ``every`` steps and at the end; what it returns is logged through ``report``.

    Training stops once ``validation_accuracy`` reaches ``stop_at``. Every rank measures, so that all stop at the same step.
    """

    def __init__(
        self,
        measure: Callable[[Any, int], dict[str, float]],
        every: int,
        report: Callable[[dict[str, float]], None],
        stop_at: float | None = None,
    ) -> None:
        self.measure, self.every, self.report, self.stop_at = measure, every, report, stop_at
        self.done_at = -1

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Evaluate in between."""
        if self.every and state.global_step % self.every == 0:
            accuracy = self._run(state, kwargs["model"]).get("validation_accuracy", 0.0)
            control.should_training_stop |= self.stop_at is not None and accuracy >= self.stop_at

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Evaluate what came out."""
        if self.done_at != state.global_step:
            self._run(state, kwargs["model"])

    def _run(self, state: TrainerState, model: Any) -> dict[str, float]:
        self.done_at = state.global_step
        measured = self.measure(model, state.global_step)
        self.report(dict(measured))
        return measured


class WriteMetrics(TrainerCallback):
    """Every log line goes to ``metrics.jsonl``."""

    def __init__(self, path: Path) -> None:
        self.metrics = Metrics(path)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float] | None = None, **kwargs: Any
    ) -> None:
        """Append the line."""
        numbers = {name: value for name, value in (logs or {}).items() if isinstance(value, int | float)}
        if state.is_world_process_zero and numbers:
            self.metrics.append_row(state.global_step, numbers)
