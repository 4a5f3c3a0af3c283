"""What happens beside the loop happens at the right steps, once, and on one process."""

from pathlib import Path

import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from kvdistill.record import Metrics
from kvdistill.training.callbacks import EvaluateWhen, SaveWhen, WriteMetrics


@pytest.fixture
def args(tmp_path: Path) -> TrainingArguments:
    return TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True)


def saved(save: SaveWhen, args: TrainingArguments, steps_per_epoch: int, steps: int) -> list[int]:
    """Steps at which the callback asks for a checkpoint in a run that stops after ``steps``."""
    found, state = [], TrainerState()
    for step in range(1, steps + 1):
        state.global_step, control = step, TrainerControl()
        for ask in [save.on_step_end] + [save.on_epoch_end] * (step % steps_per_epoch == 0 or step == steps):
            ask(args, state, control)
            if control.should_save:
                found.append(step)
                save.on_save(args, state, control)
                control.should_save = False
    return found


def test_checkpoints_come_at_epoch_ends_and_every_so_many_steps_but_never_twice(args: TrainingArguments) -> None:
    assert saved(SaveWhen(), args, steps_per_epoch=3, steps=6) == [3, 6]
    assert saved(SaveWhen(2), args, steps_per_epoch=3, steps=6) == [2, 3, 4, 6]
    # A run that stops inside an epoch keeps what it has.
    assert saved(SaveWhen(), args, steps_per_epoch=3, steps=5) == [3, 5]


def test_another_wish_to_save_stays(args: TrainingArguments) -> None:
    control, state = TrainerControl(should_save=True), TrainerState(global_step=1)
    SaveWhen(2).on_step_end(args, state, control)
    assert control.should_save


@pytest.mark.parametrize(("every", "steps", "expected"), [(2, 5, [2, 4, 5]), (2, 4, [2, 4]), (0, 5, [5])])
def test_evaluation_comes_every_so_many_steps_and_at_the_end(args: TrainingArguments, every: int, steps: int, expected: list[int]) -> None:
    model = torch.nn.Linear(1, 1)
    seen = []

    def measure(given: torch.nn.Module, step: int) -> dict[str, float]:
        seen.append((given, step))
        return {"validation_accuracy": step / 10}

    reported, state = [], TrainerState(is_world_process_zero=True)
    callback = EvaluateWhen(measure, every, reported.append)
    for step in range(1, steps + 1):
        state.global_step = step
        callback.on_step_end(args, state, TrainerControl(), model=model)
    callback.on_train_end(args, state, TrainerControl(), model=model)
    assert seen == [(model, step) for step in expected]
    assert reported == [{"validation_accuracy": step / 10} for step in expected]


def test_log_lines_become_rows_of_numbers(args: TrainingArguments, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    state = TrainerState(is_world_process_zero=True, global_step=3)
    write = WriteMetrics(path)
    write.on_log(args, state, TrainerControl(), logs={"loss": 0.5, "epoch": 1, "note": "words"})  # pyright: ignore[reportArgumentType]
    write.on_log(args, state, TrainerControl(), logs={})
    write.on_log(args, state, TrainerControl())
    assert Metrics(path).read_rows() == [{"step": 3, "loss": 0.5, "epoch": 1.0}]


@pytest.mark.parametrize(("stop_at", "expected"), [(None, []), (0.4, [4, 6]), (0.41, [6]), (1.0, [])])
def test_training_stops_once_it_is_good_enough(args: TrainingArguments, stop_at: float | None, expected: list[int]) -> None:
    callback = EvaluateWhen(lambda _, step: {"validation_accuracy": step / 10}, 2, [].append, stop_at)
    asked = []
    for step in range(1, 7):
        control = TrainerControl()
        callback.on_step_end(args, TrainerState(global_step=step), control, model=None)
        asked += [step] if control.should_training_stop else []
    assert asked == expected


def test_a_wish_to_stop_stays(args: TrainingArguments) -> None:
    control = TrainerControl(should_training_stop=True)
    EvaluateWhen(lambda *_: {}, 1, [].append, 0.5).on_step_end(args, TrainerState(global_step=1), control, model=None)
    assert control.should_training_stop


def test_every_process_measures_and_only_the_first_writes(args: TrainingArguments, tmp_path: Path) -> None:
    path, state = tmp_path / "metrics.jsonl", TrainerState(is_world_process_zero=False, global_step=1)
    WriteMetrics(path).on_log(args, state, TrainerControl(), logs={"loss": 1.0})
    control = TrainerControl()
    EvaluateWhen(lambda *_: {"validation_accuracy": 0.9}, 1, [].append, 0.5).on_step_end(args, state, control, model=None)
    assert control.should_training_stop
    assert not path.exists()
