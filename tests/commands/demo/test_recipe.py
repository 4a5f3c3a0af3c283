"""The demo's stages say what they train, and every one of them is a valid configuration."""

from pathlib import Path

import pytest

from kvdistill.commands.demo import recipe as demo_recipe
from kvdistill.compress import StepEnd


@pytest.mark.parametrize("share", [1.0, 0.01])
def test_every_stage_is_a_valid_configuration(share: float, tmp_path: Path) -> None:
    kv, baselines = demo_recipe.lanes(share)
    for stage in (*demo_recipe.warm_stages(share), *kv, *baselines):
        config = stage.config(tmp_path, None, 5)
        assert config.training.max_steps == stage.steps >= 2
        assert config.training.seed == config.data.train.seed == 5


def test_the_kv_term_is_all_that_sets_e1_apart(tmp_path: Path) -> None:
    kv, baselines = demo_recipe.lanes()
    ours, e1 = kv[0].config(tmp_path, None, 0), baselines[0].config(tmp_path, None, 0)
    assert isinstance(ours.target.method, StepEnd)
    assert (ours.loss.kv_weight, e1.loss.kv_weight) == (demo_recipe.KV_WEIGHT, 0.0)
    assert ours.loss.codi_weight == e1.loss.codi_weight
    assert ours.data.train.task == e1.data.train.task  # pyright: ignore
    assert ours.training.lr == e1.training.lr


def test_all_arms_make_the_same_number_of_steps() -> None:
    kv, baselines = demo_recipe.lanes()
    assert [stage.name for stage in (*kv, *baselines)] == [
        "latent_step_end",
        "latent_rkv",
        "latent_right_crop",
        "latent_e1",
        "latent_shuffled",
        "direct",
    ]
    assert {stage.steps for stage in (*kv, *baselines)} == {demo_recipe.LATENT_STEPS}


def test_a_run_starts_from_the_folder_that_it_is_given(tmp_path: Path) -> None:
    stage = demo_recipe.warm_stages()[1]
    assert stage.config(tmp_path, tmp_path / "start", 0).model.name == str(tmp_path / "start")
    assert stage.config(tmp_path, None, 0).model.config is not None
