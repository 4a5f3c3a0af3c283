"""How often and how soon runs learn, by hand; and accuracy by depth over seeds."""

from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from kvdistill.records.schema import DepthCount
from kvdistill.reporting.studies.experiments import Run, discover
from kvdistill.reporting.studies.learning import by_depth, learning, learning_goal

NAMES = ("E1", "E4", "CoT")


def counting(folder: Path) -> list[Run]:
    return discover(folder).studies[0].counting


def test_the_goal_is_nine_tenths_of_the_chain_of_thought(tmp_path: Path, write_study: Any) -> None:
    assert learning_goal(counting(write_study(tmp_path / "a", {"E1": [0.4]}))) == 0.9
    runs = counting(write_study(tmp_path / "b", {"E1": [0.4], "CoT": [0.9, 0.7]}))
    assert learning_goal(runs) == pytest.approx(0.9 * 0.8)


def test_each_experiment_stands_beside_e1(tmp_path: Path, write_study: Any) -> None:
    # Validation rises to 1/4, 1/2, 3/4 and all of the test accuracy at steps 100 to 400; E4's at once.
    accuracies = {"E1": [1.0, 0.5, 0.5, 0.5], "E4": [1.0, 1.0, 0.9, 1.0], "CoT": [1.0]}
    runs = counting(write_study(tmp_path, accuracies, {"E4": (0.2, 1.0, 1.0, 1.0)}))
    e1, e4 = learning(runs, NAMES, 0.9)
    assert (e1.experiment, e1.learned, e1.num, e1.num_reached, e1.num_timed) == ("E1", 1, 4, 1, 4)
    assert (e1.p_learned, e1.p_steps, e1.steps) == (None, None, None)
    # Clopper-Pearson of one in four: from 1 - 0.975^(1/4).
    assert e1.low == pytest.approx(1 - 0.975**0.25)
    assert (e4.learned, e4.num_reached, e4.steps, e4.high) == (4, 4, 200.0, 1.0)
    # 4 of 4 against 1 of 4: C(4,1) of C(8,3) = 56 ways a side.
    assert e4.p_learned == pytest.approx(2 * 4 / 56)
    # At 200 all four of E4 reach it, of eight at risk: expected 2, variance 4 · 1/4 · 4/7. At 400 E4 is gone.
    assert e4.p_steps == pytest.approx(2 * stats.norm.sf(2 / (4 / 7) ** 0.5))


def test_runs_without_curves_or_without_e1_are_not_compared(tmp_path: Path, write_study: Any) -> None:
    runs = counting(write_study(tmp_path / "a", {"E1": [0.5], "E4": [0.95]}, {"E4": (1.0,)}))
    e4 = learning(runs, NAMES, 0.9)[1]
    assert (e4.learned, e4.num_timed, e4.steps, e4.p_steps, e4.p_learned) == (1, 0, None, None, 1.0)
    (alone,) = learning(counting(write_study(tmp_path / "b", {"E4": [0.95]})), NAMES, 0.9)
    assert (alone.p_learned, alone.p_steps) == (None, None)


def test_depths_are_averaged_over_seeds(tmp_path: Path, write_run: Any) -> None:
    for seed, right in enumerate((3, 4)):
        counts = {1: DepthCount(num=4, correct=4), 2: DepthCount(num=4, correct=right)}
        write_run(tmp_path / "E1" / f"seed{seed}", "E1", 0.5, measured={"by_depth": counts})
    write_run(tmp_path / "E4" / "seed0", "E4", 0.5)
    table = by_depth(counting(tmp_path), NAMES)
    assert table is not None and list(table) == ["E1"]
    assert table["E1"][1].mean == 1.0 and table["E1"][2].by_seed == {0: 0.75, 1: 1.0}
    assert by_depth(counting(tmp_path), ["E4"]) is None
