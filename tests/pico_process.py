"""Training runs in processes of their own: killed at any call, or several together. They are forked, so that
nothing is imported again.
"""

import os
import pickle
import signal
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from transformers import TrainerState

import kvdistill.reporting.report
import kvdistill.run.evaluation
import kvdistill.run.folder
import kvdistill.run.train
import kvdistill.training.checkpoint
import kvdistill.training.trainer
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.records.schema import Metrics

PLACES: tuple[tuple[Any, str], ...] = (
    (kvdistill.training.trainer.LatentTrainer, "compute_loss"),
    (kvdistill.training.trainer.LatentTrainer, "_save_rng_state"),
    (kvdistill.training.trainer, "save_extra_state"),
    (kvdistill.training.trainer, "publish"),
    (kvdistill.training.checkpoint, "_to_disk"),
    (LatentReasoner, "save_pretrained"),
    (TrainerState, "save_to_json"),
    (Metrics, "append_row"),
    (kvdistill.run.train, "clear_run_dir"),
    (kvdistill.run.evaluation, "write_evaluation"),
    (kvdistill.reporting.report, "write_report"),
    (kvdistill.run.train, "mark_completed"),
)
"""Calls before and after which a run may be killed: steps, every stage of a checkpoint, the log, the closing
files.
"""


@contextmanager
def counting(at_event: Callable[[int, str], None]) -> Iterator[list[str]]:
    """Every call of ``PLACES`` is two events, one as it begins and one as it ends."""
    events: list[str] = []
    before = [(owner, name, getattr(owner, name)) for owner, name in PLACES]

    def event(text: str) -> None:
        at_event(len(events), text)
        events.append(text)

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            event(f"{name} begins")
            result = function(*args, **kwargs)
            event(f"{name} has ended")
            return result

        return call

    for owner, name, function in before:
        setattr(owner, name, watched(name, function))
    try:
        yield events
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)


def forked(work: Callable[[], object], **environment: str) -> int:
    """Start ``work`` in a forked process and return its id; an error is printed and gives exit code 1."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.environ.update(environment)
        for state in (AcceleratorState, PartialState, GradientState):
            state._reset_state()
        torch.set_num_threads(1)
        work()
        code = 0
    except BaseException:  # a child must never return into the test runner
        traceback.print_exc()
    finally:
        os._exit(code)


def wait(child: int) -> int:
    """Exit code of a process; minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killing(work: Callable[[], object], event: str, times: int) -> Callable[[], None]:
    """``work`` in a process that is killed when ``event`` happens for the ``times``-th time."""

    def run() -> None:
        seen: list[str] = []

        def kill(_: int, text: str) -> None:
            seen.append(text)
            if seen.count(event) == times:
                os.kill(os.getpid(), signal.SIGKILL)

        with counting(kill):
            work()

    return run


def killed_at(work: Callable[[], object], number: int) -> int:
    """Run ``work`` in a process that is killed at the given event; the exit code is 0 where it ends before
    that.
    """

    def kill(index: int, _: str) -> None:
        if index == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def run() -> None:
        with counting(kill):
            work()

    return wait(forked(run))


def events_of(work: Callable[[], object], notes: Path) -> list[str]:
    """The events of an undisturbed run in a process of its own."""

    def run() -> None:
        with counting(lambda *_: None) as events:
            work()
        notes.write_bytes(pickle.dumps(events))

    assert wait(forked(run)) == 0
    return pickle.loads(notes.read_bytes())


def together(work: Callable[[], object], num: int) -> list[int]:
    """Exit codes of ``num`` processes that torch.distributed joins, as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": str(num),
        "LOCAL_WORLD_SIZE": str(num),
        "OMP_NUM_THREADS": "1",
    }
    children = [forked(work, RANK=str(rank), LOCAL_RANK=str(rank), **shared) for rank in range(num)]
    return [wait(child) for child in children]
