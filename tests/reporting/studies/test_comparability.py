"""Options that differ although they should not, by name with both values."""

from pathlib import Path
from typing import Any

import pytest

from kvdistill.reporting.studies.comparability import differences
from kvdistill.reporting.studies.experiments import discover


@pytest.fixture
def said(tmp_path: Path, write_run: Any) -> Any:
    """The differences of E1 to E5 on two seeds, some of them ``{(experiment, seed): options}`` with options
    of their own.
    """

    def write(own: dict[tuple[str, int], dict[str, Any]]) -> list[str]:
        for experiment in ("E1", "E2", "E3", "E4", "E5", "direct"):
            for seed in (0, 1):
                write_run(
                    tmp_path / experiment / f"seed{seed}", experiment, 0.5, **own.get((experiment, seed), {})
                )
        return differences(discover(tmp_path).studies[0].counting)

    return write


def both(experiment: str, **options: Any) -> dict[tuple[str, int], dict[str, Any]]:
    return {(experiment, seed): options for seed in (0, 1)}


def test_the_five_experiments_are_alike(said: Any) -> None:
    assert said({}) == []


def test_what_does_not_matter_is_not_said(said: Any) -> None:
    own = both("E2", training__output_dir="elsewhere", training__progress=True, loss__kv__axis="tokens")
    own |= both("E1", loss__kv__distance="l1", teacher={"name": "big"}, target__anneal_layers=0.0)
    own |= both("direct", training__lr=1.0)
    assert said(own) == []


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (both("E4", training__lr=5e-4), "training.lr: 0.001 in E1, E2, E3, E5; 0.0005 in E4."),
        (
            {("E2", 1): {"training__batch_size": 8}},
            "training.batch_size: 64 in E1, E2 (seed 0), E3, E4, E5; 8 in E2 (seed 1).",
        ),
        (both("E3", latent__pauses=2), "latent.pauses: absent in E1, E2, E4, E5; 2 in E3."),
        (both("E1", loss__codi_weight=10.0), "loss.codi_weight: 10.0 in E1; 1.0 in E2, E3, E4, E5."),
        (both("E4", loss__kv__distance="l1"), 'loss.kv.distance: "mse" in E2, E3, E5; "l1" in E4.'),
        (
            both("E3", teacher={"name": "big"}),
            'teacher.name: absent in E2, E4, E5; "big" in right_crop, teacher (lift).',
        ),
        (
            {("E4", 1): {"loss__kv_weight": 2.0}},
            'loss.kv_weight: "auto" in E4 (seed 0), E5; 2.0 in E4 (seed 1).',
        ),
        (
            both("E5", target__method={"kind": "full"}),
            "target.method.importance_weight: 0.1 in E4; absent in E5.",
        ),
        ({("E5", 1): {"target__control": {"kind": "shuffled", "seed": 3}}}, None),
    ],
)
def test_what_matters_is_said_with_both_values(
    said: Any, own: dict[tuple[str, int], dict[str, Any]], expected: str | None
) -> None:
    found = said(own)
    assert (found == []) if expected is None else (expected in found)


def test_what_hangs_on_the_seed_is_equal_inside_a_seed(said: Any) -> None:
    assert (
        said(
            {
                (name, 1): {"data__train": {"kind": "synthetic", "num": 512, "seed": 1}}
                for name in ("E1", "E2", "E3", "E4", "E5")
            }
        )
        == []
    )
    found = said({("E4", 1): {"model__name": "outputs/warm/seed0/checkpoint-ep3"}})
    assert found == [
        'model.name: "outputs/warm/seed1/checkpoint-ep3" in E1 (seed 1), E2 (seed 1), E3 (seed 1), E5 (seed '
        "1); "
        '"outputs/warm/seed0/checkpoint-ep3" in E4 (seed 1).'
    ]
    other = said(both("E4", model__name="outputs/warm_long/seed0/checkpoint-ep3"))
    assert other == [
        'model.name: "outputs/warm/seed*/checkpoint-ep3" in E1, E2, E3, E5; '
        '"outputs/warm_long/seed*/checkpoint-ep3" in E4.'
    ]
