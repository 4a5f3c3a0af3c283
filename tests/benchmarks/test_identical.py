"""The comparison of two runs sees what differs; no run of the package is made."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import identical  # noqa: E402
from _comparison import Comparison, compare_records, compare_runs, read_metrics, tensor_hash  # noqa: E402
from _trees import RunError, Tree, together  # noqa: E402


def write_run(run: Path, lr: float = 1e-3, seconds: float = 1.0) -> Path:
    """What three steps of training a linear layer leave, in the files of a run."""
    torch.manual_seed(0)
    layer, checkpoint = torch.nn.Linear(3, 2), run / "checkpoint-ep1"
    optimizer = torch.optim.AdamW(layer.parameters(), lr=lr)
    checkpoint.mkdir(parents=True)
    rows = []
    for step in range(1, 4):
        loss = layer(torch.ones(4, 3)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rows.append({"step": step, "loss": loss.item()})
    rows.append({"step": 3, "train_runtime": seconds})
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    save_file(layer.state_dict(), checkpoint / "model.safetensors")
    save_file({"mean": torch.arange(3.0), "sum": torch.tensor(seconds)}, checkpoint / "carried.safetensors")
    torch.save(optimizer.state_dict(), checkpoint / "optimizer.pt")
    torch.save({"cpu": torch.get_rng_state()}, checkpoint / "rng_state.pth")
    (checkpoint / "trainer_state.json").write_text('{"global_step": 3}')
    record = {"correct": 1, "num": 2, "ms_batch1": seconds, "source": str(run)}
    (run / "evaluation_latent.json").write_text(json.dumps(record))
    (run / "evaluation_latent.answers.txt").write_text("Ann\nBob\n")
    return run


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    return write_run(tmp_path / "now", seconds=1.0), write_run(tmp_path / "then", seconds=2.0)


def different(now: Path, then: Path) -> list[str]:
    """What the comparison finds."""
    return [found.name.removeprefix("run") for found in compare_runs("run", now, then) if not found.equal]


def test_the_same_training_is_equal_whatever_it_takes(runs: tuple[Path, Path]) -> None:
    found = list(compare_runs("run", *runs))
    assert different(*runs) == []
    assert [each.name.rpartition(": ")[2] for each in found] == [
        *("metrics", "checkpoints", "weights", "optimizer", "random numbers", "further state", "evaluations")
    ]
    # three losses; one checkpoint; weight and bias; step and two moments of both; correct, num, two answers
    assert [each.note for each in found] == [f"{num} values" for num in (3, 1, 2, 6, 1, 1, 4)]


def test_another_learning_rate_is_seen(runs: tuple[Path, Path], tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", lr=1.0001e-3)
    assert different(other, runs[1]) == [
        *(": metrics", ", checkpoint-ep1: weights", ", checkpoint-ep1: optimizer")
    ]
    first = next(compare_runs("run", other, runs[1]))
    assert first.note.startswith("2 loss is "), "the first step has not seen the learning rate"


def change_weight(run: Path) -> None:
    path = run / "checkpoint-ep1" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def change_moment(run: Path) -> None:
    path = run / "checkpoint-ep1" / "optimizer.pt"
    state = torch.load(path, weights_only=True)
    state["state"][1]["exp_avg"][0] += 1e-6
    torch.save(state, path)


def change_metric(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "kv": null}\n')


def change_random_state(run: Path) -> None:
    torch.save({"cpu": torch.get_rng_state() + 1}, run / "checkpoint-ep1" / "rng_state.pth")


def change_extra_state(run: Path) -> None:
    save_file({"mean": torch.arange(3.0) + 1}, run / "checkpoint-ep1" / "carried.safetensors")


def change_answer(run: Path) -> None:
    (run / "evaluation_latent.answers.txt").write_text("Ann\nCid\n")


def remove_checkpoint(run: Path) -> None:
    (run / "checkpoint-ep1" / "trainer_state.json").unlink()


def remove_optimizer(run: Path) -> None:
    (run / "checkpoint-ep1" / "optimizer.pt").unlink()


def remove_evaluation(run: Path) -> None:
    (run / "evaluation_latent.json").unlink()


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (change_weight, ", checkpoint-ep1: weights"),
        (change_moment, ", checkpoint-ep1: optimizer"),
        (change_metric, ": metrics"),
        (change_random_state, ", checkpoint-ep1: random numbers"),
        (change_extra_state, ", checkpoint-ep1: further state"),
        (change_answer, ": evaluations"),
        (remove_checkpoint, ": checkpoints"),
        (remove_optimizer, ", checkpoint-ep1: optimizer"),
        (remove_evaluation, ": evaluations"),
    ],
)
def test_each_change_is_seen_where_it_is(
    change: Callable[[Path], None], seen: str, side: int, runs: tuple[Path, Path]
) -> None:
    change(runs[side])
    assert different(*runs) == [seen]


def test_nothing_is_not_equal_to_nothing(tmp_path: Path) -> None:
    assert different(tmp_path, tmp_path) == [": metrics", ": checkpoints"]
    (found,) = compare_records("evaluate", tmp_path, tmp_path)
    assert found == Comparison("evaluate: evaluations", False, "there is nothing to compare")


def test_names_of_extra_state_are_free_and_another_order_is_named(runs: tuple[Path, Path]) -> None:
    checkpoint = runs[0] / "checkpoint-ep1"
    (checkpoint / "carried.safetensors").unlink()
    save_file({"new/name": torch.arange(3.0)}, checkpoint / "extra_state.safetensors")
    assert different(*runs) == []
    state = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    state["state"] = {0: state["state"][1], 1: state["state"][0]}
    torch.save(state, checkpoint / "optimizer.pt")
    (found,) = [each for each in compare_runs("run", *runs) if not each.equal]
    assert found.name == "run, checkpoint-ep1: optimizer"
    assert found.note.startswith("the same tensors in another order")


def test_a_step_that_was_logged_again_counts_once(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "kv": 2.0}\n{"step": 1, "kv": 3.0, "lr": null}\n')
    assert read_metrics(tmp_path) == {(1, "kv"): 3.0, (1, "lr"): None}


def test_hashes_tell_type_shape_and_every_bit() -> None:
    zeros = torch.zeros(4)
    others = [zeros.view(2, 2), zeros.double(), torch.tensor([0.0, 0, 0, -0.0]), zeros.to(torch.int32)]
    assert tensor_hash(zeros) == tensor_hash(torch.zeros(8)[::2])
    assert len({tensor_hash(each) for each in [zeros, *others]}) == 5
    assert tensor_hash(torch.tensor(1.0, dtype=torch.bfloat16)) != tensor_hash(torch.tensor(1.0))


def test_the_exit_code_tells(capsys: pytest.CaptureFixture[str]) -> None:
    same, other = Comparison("a", True, "2 values"), Comparison("b", False, "1 loss is 2, was 3")
    assert identical.report([same, same]) == 0
    assert identical.report([same, other]) == 1
    assert identical.report([]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[2]) == {"compared": 2, "equal": 2, "different": 0}
    assert lines[4] == "DIFFERENT  b: 1 loss is 2, was 3"
    assert json.loads(lines[5]) == {"compared": 2, "equal": 1, "different": 1}


SCRIPT = """
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[-1]) / "checkpoint-ep1"
folder.mkdir(parents=True)
(folder.parent / "pid").write_text(str(os.getpid()))
if "fail" in sys.argv:
    sys.exit("train_with_kv.py: no such model")
if "short" not in sys.argv:
    (folder / "trainer_state.json").write_text("{}")
    time.sleep(60)
"""


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A checkout whose training script only writes a checkpoint."""
    (tmp_path / "code" / "experiments").mkdir(parents=True)
    (tmp_path / "code" / "experiments" / "train_with_kv.py").write_text(SCRIPT)
    package = tmp_path / "code" / "src" / "kvdistill" / "__init__.py"
    package.parent.mkdir(parents=True)
    package.write_text("")
    (tmp_path / "work").mkdir()
    return Tree(tmp_path / "code", tmp_path / "work")


def test_a_run_is_killed_once_it_has_a_checkpoint(tree: Tree) -> None:
    tree.train_until_killed("run", [])
    assert (tree.work / "run" / "checkpoint-ep1" / "trainer_state.json").is_file()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tree.work / "run" / "pid").read_text()), 0)
    with pytest.raises(RunError, match="ended before it was killed"):
        tree.train_until_killed("other", ["short"])


def test_a_failed_run_is_a_difference_with_its_message(tree: Tree) -> None:
    def case(now: Tree, then: Tree, inputs: identical.Inputs):  # noqa: ANN202
        yield Comparison("a", True, "1 values")
        together(lambda: now.train("one", ["short"]), lambda: then.train("two", ["fail"]))

    found = list(identical.compare_case(case, tree, tree, identical.Inputs(*[tree.work] * 4)))
    assert [each.equal for each in found] == [True, False]
    assert found[1].note.endswith("ended with 1: train_with_kv.py: no such model")


def test_processes_import_the_package_of_their_tree(tree: Tree) -> None:
    assert tree.package() == tree.code / "src" / "kvdistill" / "__init__.py"


def test_the_files_for_both_trees_are_the_same_each_time(tmp_path: Path) -> None:
    one, two = (identical.make_inputs(tmp_path / name) for name in ("one", "two"))
    for name in ("student/model.safetensors", "teacher/model.safetensors", "teacher/tokenizer.json"):
        assert (one.train.parent / name).read_bytes() == (two.train.parent / name).read_bytes()
    shapes = [
        json.loads((one.train.parent / name / "config.json").read_text()) for name in ("student", "teacher")
    ]
    for field in ("hidden_size", "num_hidden_layers"):
        assert shapes[0][field] < shapes[1][field]
    assert shapes[0]["vocab_size"] == shapes[1]["vocab_size"]
