"""Figure of a grid."""

from pathlib import Path

import pytest

from kvdistill.records.study import PLAN, ArmPlan
from kvdistill.reporting.studies.arm_figures import grid_curves
from kvdistill.reporting.studies.arms import study_numbers
from pico_study import plan, write_run


def point(line: str, value: float) -> ArmPlan:
    return ArmPlan(label=f"{line} {value:g}", seeds=[0, 1], grid="m", line=line, value=value)


@pytest.mark.parametrize("narrow", [False, True])
def test_a_grid_is_a_line_for_each_kind_of_arm_with_ticks_at_its_values(tmp_path: Path, narrow: bool) -> None:
    arms = {f"m_{line}_{value:g}": point(line, value) for line in ("a", "b") for value in (4.0, 16.0)}
    plan(*arms, arms=arms, grids={"m": "slots"}, baseline=None).write(tmp_path / PLAN)
    for place, name in enumerate(arms):
        for seed in (0, 1):
            write_run(tmp_path / name / f"seed{seed}", seed, 20 + 10 * place + seed)
    rows = list(study_numbers(tmp_path).rows.values())
    axes = grid_curves(rows, "slots M", narrow).axes[0]
    lines = [container.lines[0].get_ydata() for container in axes.containers]  # pyright: ignore
    assert [list(line) for line in lines] == [pytest.approx([20.5, 30.5]), pytest.approx([40.5, 50.5])]
    assert list(axes.get_xticks()) == [4.0, 16.0]
    assert axes.get_xlabel() == "slots M"
