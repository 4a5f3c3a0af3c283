"""Options of stages: merging, and the configuration of a run."""

from pathlib import Path

from kvdistill.config.study import Arm
from kvdistill.config.study_file import read_study
from kvdistill.config.study_stages import arm_options, nested, overlaid
from pico_study import study_file


def test_options_are_merged_and_a_changed_kind_drops_those_of_the_previous_one() -> None:
    below = {
        "target": {"method": {"kind": "rkv", "importance_weight": 0.1}, "anneal_layers": 0.5},
        "a": [1, 2],
    }
    merged = overlaid(below, {"target": {"method": {"kind": "full"}}, "a": 3})
    assert merged == {"target": {"method": {"kind": "full"}, "anneal_layers": 0.5}, "a": 3}
    model = {"config": {"model_type": "llama", "num_hidden_layers": 2}, "dtype": "float32"}
    assert overlaid(model, {"config": {"model_type": "gpt2", "n_layer": 3}}) == {
        "config": {"model_type": "gpt2", "n_layer": 3},
        "dtype": "float32",
    }
    kept = overlaid(below, nested("target.method.importance_weight", 1.0))
    assert kept["target"]["method"] == {"kind": "rkv", "importance_weight": 1.0}
    assert below["target"]["method"] == {"kind": "rkv", "importance_weight": 0.1}


def test_an_arm_may_have_a_base_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "big.toml").write_text('[model]\nname = "big"\n[training]\nlr = 9.0\n')
    arm = Arm(base="big.toml", training={"max_steps": 5})
    found = arm_options(tmp_path / "study.toml", {"model": {"name": "small"}, "loss": {"kv_weight": 1}}, arm)
    assert found == {"model": {"name": "big"}, "training": {"lr": 9.0, "max_steps": 5}}


def test_an_arm_takes_target_and_loss_of_its_configuration_file_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "e2.toml").write_text(
        '[target]\nmethod = {kind = "full"}\n[loss]\nkv_weight = 3.0\n[training]\nlr = 9.0\n'
    )
    base = {"loss": {"codi_weight": 1.0}, "training": {"lr": 1e-3}}
    arm = Arm(config="e2.toml", loss={"kv_weight": 2.0})
    assert arm_options(tmp_path / "study.toml", base, arm) == {
        "loss": {"codi_weight": 1.0, "kv_weight": 2.0},
        "target": {"method": {"kind": "full"}},
        "training": {"lr": 1e-3},
    }


def test_a_run_has_its_seed_everywhere_and_starts_from_its_checkpoint(tmp_path: Path) -> None:
    study = read_study(study_file(tmp_path))
    first = study.stages["terse"].config(Path("a"), None, 3)
    assert first.model.config is not None
    assert (first.training.seed, first.training.output_dir, first.training.resume) == (3, "a", True)
    data = (first.data.train, first.data.validation, first.data.test)
    assert [section.seed for section in data] == [3, 3, 3]  # pyright: ignore
    assert [section.task.trace for section in data] == ["terse"] * 3  # pyright: ignore
    assert first.evaluation.modes == ("cot",)
    arm = study.stages["step_end"].config(Path("b"), Path("checkpoint"), 4)
    assert (arm.model.name, arm.model.config, arm.model.tuning.kind) == ("checkpoint", None, "full")
    assert (arm.target.method.kind, arm.training.task, arm.evaluation.modes) == (
        "step_end",
        "latent",
        ("latent",),
    )
