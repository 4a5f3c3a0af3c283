"""What happens beside the loop happens at the right steps, once, and on one process."""

import io
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

from kvdistill.console.progress import Bar
from kvdistill.console.signals import Interrupted, Kept
from kvdistill.records.schema import Metrics
from kvdistill.training import callbacks
from kvdistill.training.callbacks import (
    EndEpoch,
    EvaluateWhen,
    Progress,
    SaveWhen,
    StopAtSignal,
    WriteLogs,
    interruptible,
    line,
)
from kvdistill.training.ranks import Ranks

STUDENTLESS = SimpleNamespace(trained=lambda: None)


@pytest.fixture
def args(tmp_path: Path) -> TrainingArguments:
    return TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True)


def saved(save: SaveWhen, args: TrainingArguments, steps_per_epoch: int, steps: int) -> list[int]:
    """Steps at which the callback asks for a checkpoint in a run of so many steps."""
    found, state = [], TrainerState(max_steps=steps)
    for step in range(1, steps + 1):
        state.global_step, state.epoch, control = step, step / steps_per_epoch, TrainerControl()
        for ask in [save.on_step_end] + [save.on_epoch_end] * (step % steps_per_epoch == 0 or step == steps):
            ask(args, state, control)
            found += [step] if control.should_save else []
            control.should_save = False
    return found


def test_checkpoints_come_at_epoch_ends_and_every_so_many_steps_but_never_twice(
    args: TrainingArguments,
) -> None:
    assert saved(SaveWhen(), args, steps_per_epoch=3, steps=6) == [3, 6]
    assert saved(SaveWhen(2), args, steps_per_epoch=3, steps=6) == [2, 3, 4, 6]
    # A run that stops inside an epoch keeps what it has.
    assert saved(SaveWhen(), args, steps_per_epoch=3, steps=5) == [3, 5]


def test_another_wish_to_save_stays(args: TrainingArguments) -> None:
    control, state = TrainerControl(should_save=True), TrainerState(global_step=1, max_steps=9)
    SaveWhen(2).on_step_end(args, state, control)
    assert control.should_save


def test_where_training_stops_the_epoch_is_said_before_it_is_saved(args: TrainingArguments) -> None:
    control, state = (
        TrainerControl(should_training_stop=True),
        TrainerState(global_step=2, max_steps=9, epoch=0.3),
    )
    SaveWhen(2).on_step_end(args, state, control)
    assert not control.should_save
    said = []
    EndEpoch(lambda: said.append(state.global_step)).on_epoch_end(args, state, control)
    assert said == [2]


@pytest.mark.parametrize(("every", "steps", "expected"), [(2, 5, [2, 4, 5]), (2, 4, [2, 4]), (0, 5, [5])])
def test_evaluation_comes_every_so_many_steps_and_at_the_end(
    args: TrainingArguments, every: int, steps: int, expected: list[int]
) -> None:
    model = torch.nn.Linear(1, 1)
    seen = []

    def measure(given: torch.nn.Module, step: int) -> dict[str, float]:
        seen.append((given, step))
        return {"validation_accuracy": step / 10}

    reported, state = [], TrainerState(is_world_process_zero=True, max_steps=steps)
    callback = EvaluateWhen(measure, every, reported.append)
    for step in range(1, steps + 1):
        state.global_step = step
        callback.on_step_end(args, state, TrainerControl(), model=SimpleNamespace(trained=lambda: model))
    assert seen == [(model, step) for step in expected]
    assert reported == [{"validation_accuracy": step / 10} for step in expected]


def test_an_evaluation_does_not_take_the_place_of_a_line_of_the_log(args: TrainingArguments) -> None:
    control = TrainerControl(should_log=True)
    callback = EvaluateWhen(lambda *_: {}, 1, lambda _: setattr(control, "should_log", False))
    callback.on_step_end(args, TrainerState(global_step=1, max_steps=2), control, model=STUDENTLESS)
    assert control.should_log


def test_log_lines_become_rows_of_numbers_and_words(args: TrainingArguments, tmp_path: Path) -> None:
    state = TrainerState(is_world_process_zero=True, global_step=3, max_steps=8)
    write = WriteLogs(tmp_path, "kvdistill train --config x.toml")
    write.on_train_begin(args, state, TrainerControl())
    write.on_log(
        args, state, TrainerControl(), logs={"loss": 0.5, "epoch": 1.0, "note": "words", "train_loss": 3.0}
    )  # pyright: ignore
    write.on_log(args, state, TrainerControl(), logs={})
    write.on_log(args, state, TrainerControl())
    assert Metrics(tmp_path / "metrics.jsonl").read_rows() == [{"step": 3, "loss": 0.5, "epoch": 1.0}]
    words = "kvdistill train --config x.toml\nstep 3/8  epoch 1.00  loss 0.5000  lr 0.00e+00\n"
    assert (tmp_path / "training_log.txt").read_text() == words


def test_a_run_that_goes_on_forgets_what_its_checkpoint_does_not_know(
    args: TrainingArguments, tmp_path: Path
) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "kv": 1.0}\n{"step": 2, "kv": 2.0}\n{"st')
    history = [
        {"step": 1, "loss": 4.0, "kv": 1.0, "epoch": 0.5},
        {"step": 1, "validation_accuracy": 0.25, "epoch": 0.5},
    ]
    state = TrainerState(is_world_process_zero=True, global_step=1, max_steps=8, log_history=history)
    WriteLogs(tmp_path).on_train_begin(args, state, TrainerControl())
    assert [row["step"] for row in Metrics(tmp_path / "metrics.jsonl").read_rows()] == [1, 1]
    assert (tmp_path / "training_log.txt").read_text().splitlines() == [
        "step 1/8  epoch 0.50  loss 4.0000  kv 1.0000  lr 0.00e+00",
        "step 1/8  validation_accuracy 0.25",
    ]


def test_the_end_of_an_epoch_in_words() -> None:
    row = {"epoch_loss": 2.5, "epoch_ce_student": 1.0, "epoch_codi": 0.5, "epoch_kv": 1.0, "epoch": 2.0}
    assert (
        line(6, 8, row)
        == "step 6/8  epoch 2 ended, means over it: loss 2.5000  ce_student 1.0000  codi 0.5000  kv 1.0000"
    )


def test_an_end_inside_an_epoch_is_not_called_its_end() -> None:
    assert line(425, 900, {"epoch_loss": 0.5, "epoch": 1.107}).startswith(
        "step 425/900  training ended inside epoch 2 (at 1.107), means"
    )


@pytest.mark.parametrize(("step", "epoch", "wanted"), [(2, 0.4, True), (5, 1.0, False), (9, 1.8, False)])
def test_a_signal_asks_for_a_checkpoint_at_the_end_of_the_step(
    args: TrainingArguments, step: int, epoch: float, wanted: bool
) -> None:
    """What ends an epoch, or the training, is saved by another callback."""
    kept = Kept()
    stop = StopAtSignal(kept, Ranks())
    state, control = TrainerState(global_step=step, max_steps=9, epoch=epoch), TrainerControl()
    stop.on_step_end(args, state, control)
    stop.on_save(args, state, control)
    assert not control.should_save
    kept.signum = 15
    stop.on_step_end(args, state, control)
    assert control.should_save == wanted
    with pytest.raises(Interrupted, match=f"a checkpoint of step {step} has been written"):
        stop.on_save(args, state, control)


@pytest.mark.parametrize("error", [None, RuntimeError("diverged")])
def test_the_bar_is_closed_however_training_ends(args: TrainingArguments, error: Exception | None) -> None:
    trainer = Trainer(torch.nn.Linear(1, 1), args, callbacks=[Progress()])
    (progress,) = (each for each in trainer.callback_handler.callbacks if isinstance(each, Progress))
    progress.training_bar = bar = Bar(total=1, file=io.StringIO())
    with pytest.raises(RuntimeError) if error else nullcontext(), interruptible(trainer, Ranks()):
        assert any(isinstance(each, StopAtSignal) for each in trainer.callback_handler.callbacks)
        if error:
            raise error
    assert (bar.disable, progress.training_bar) == (True, None)


@pytest.mark.parametrize(("stop_at", "expected"), [(None, []), (0.4, [4, 6]), (0.41, [6]), (1.0, [])])
def test_training_stops_once_it_is_good_enough(
    args: TrainingArguments, stop_at: float | None, expected: list[int]
) -> None:
    callback = EvaluateWhen(lambda _, step: {"validation_accuracy": step / 10}, 2, [].append, stop_at)
    asked = []
    for step in range(1, 7):
        control = TrainerControl()
        callback.on_step_end(args, TrainerState(global_step=step, max_steps=9), control, model=STUDENTLESS)
        asked += [step] if control.should_training_stop else []
    assert asked == expected


def test_a_wish_to_stop_stays(args: TrainingArguments) -> None:
    control = TrainerControl(should_training_stop=True)
    EvaluateWhen(lambda *_: {}, 1, [].append, 0.5).on_step_end(
        args, TrainerState(global_step=1, max_steps=9), control, model=STUDENTLESS
    )
    assert control.should_training_stop


def test_every_process_measures_and_only_the_first_writes(args: TrainingArguments, tmp_path: Path) -> None:
    state = TrainerState(is_world_process_zero=False, global_step=1, max_steps=9)
    WriteLogs(tmp_path).on_train_begin(args, state, TrainerControl())
    WriteLogs(tmp_path).on_log(args, state, TrainerControl(), logs={"loss": 1.0})
    control = TrainerControl()
    EvaluateWhen(lambda *_: {"validation_accuracy": 0.9}, 1, [].append, 0.5).on_step_end(
        args, state, control, model=STUDENTLESS
    )
    assert control.should_training_stop
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("watched", [True, False])
def test_a_bar_on_a_terminal_alone(
    watched: bool,
    args: TrainingArguments,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(callbacks, "on_terminal", lambda: watched)
    progress, state = Progress(), TrainerState(max_steps=3, is_world_process_zero=True)
    progress.on_train_begin(args, state, TrainerControl())
    for step in (1, 2, 3):
        state.global_step = step
        progress.on_step_end(args, state, TrainerControl())
    progress.on_train_end(args, state, TrainerControl())
    assert ("3/3" in capsys.readouterr().err) == watched


def test_a_run_that_goes_on_logs_each_metric_under_one_name(args: TrainingArguments, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "kv_floor": 0.5}\n')
    history: list[dict[str, float]] = [{"step": 1, "kv": 1.0, "kv_floor": 0.5, "epoch": 0.5}]
    state = TrainerState(is_world_process_zero=True, global_step=1, max_steps=8, log_history=history)
    write = WriteLogs(tmp_path)
    write.on_train_begin(args, state, TrainerControl())
    state.global_step = 2
    write.on_log(args, state, TrainerControl(), logs={"kv": 0.75, "kv_lower_bound": 0.25, "epoch": 1.0})
    assert "kv_floor" not in (tmp_path / "metrics.jsonl").read_text()
    assert "kv_floor" not in (tmp_path / "training_log.txt").read_text()
    assert Metrics(tmp_path / "metrics.jsonl").series()["kv_lower_bound"] == {1: 0.5, 2: 0.25}
    assert state.log_history[0].keys() == {"step", "kv", "kv_lower_bound", "epoch"}
