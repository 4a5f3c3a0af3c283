"""Settings that make no sense are refused in words; the others come back from JSON as they were."""

import json
from pathlib import Path

import pytest

import pico
from kvdistill.latent.config import LatentConfig, check_slots


@pytest.mark.parametrize(
    ("slots", "passes", "message"),
    [
        (0, 0, r"latent\.slots is 0; a latent student needs at least 1 slot \(KaVa uses 24\)\."),
        (-3, 1, r"latent\.slots is -3"),
        (4, -1, r"latent\.passes is -1; choose 0 \(pause tokens\) up to latent\.slots = 4"),
        (
            4,
            5,
            r"latent\.passes is 5 with 4 slots: after 4 passes every slot is final, .* Choose "
            r"latent\.passes <= 4\.",
        ),
    ],
)
def test_slots_and_passes_that_make_no_sense(slots: int, passes: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_slots(slots, passes)
    with pytest.raises(ValueError, match=message):
        LatentConfig(slots=slots, passes=passes)


@pytest.mark.parametrize(("slots", "passes"), [(1, 0), (1, 1), (24, 3), (24, 24)])
def test_the_ends_of_the_range_are_fine(slots: int, passes: int) -> None:
    check_slots(slots, passes)


def test_misspelt_settings() -> None:
    with pytest.raises(ValueError, match=r"latent\.feedback is 'mpl'; choose one of mlp, none, add\."):
        LatentConfig(feedback="mpl")
    with pytest.raises(ValueError, match=r"latent\.delimiters is 'teacher'; choose one of student, both\."):
        LatentConfig(delimiters="teacher")


def test_settings_survive_a_folder(tmp_path: Path) -> None:
    settings = {
        "slots": 5,
        "passes": 2,
        "feedback": "none",
        "delimiters": "both",
        "special": dict(pico.SPECIAL),
        "template": {"prompt": "So"},
        "lora": {"r": 4},
        "base": "some/model",
        "latents_trained": True,
    }
    LatentConfig(backbone=pico.CONFIGS["gemma3"](), **settings).save_pretrained(tmp_path)
    loaded = LatentConfig.from_pretrained(tmp_path)
    assert {name: getattr(loaded, name) for name in settings} == settings
    assert loaded.backbone.to_dict() == pico.CONFIGS["gemma3"]().to_dict()


@pytest.mark.parametrize("name", ["llama", "llama_tied", "gpt2"])
def test_ties_are_those_of_the_backbone(name: str) -> None:
    assert LatentConfig(backbone=pico.CONFIGS[name]()).tie_word_embeddings == (name != "llama")


@pytest.mark.parametrize("trained", [True, False])
def test_a_student_of_an_earlier_version_still_tells_whether_its_latents_are_trained(
    tmp_path: Path, trained: bool
) -> None:
    LatentConfig(latents_trained=not trained).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    saved = json.loads(file.read_text())
    del saved["latents_trained"]
    file.write_text(json.dumps(saved | {"taught": trained}))
    loaded = LatentConfig.from_pretrained(tmp_path)
    assert loaded.latents_trained is trained
    loaded.save_pretrained(tmp_path)
    again = json.loads(file.read_text())
    assert again["latents_trained"] is trained and "taught" not in again


def test_a_student_saved_without_a_layout_is_shifted(tmp_path: Path) -> None:
    """Checkpoints of earlier versions have no such setting."""
    LatentConfig(slots=2, passes=6, layout="blocks").save_pretrained(tmp_path)
    assert LatentConfig.from_pretrained(tmp_path).layout == "blocks"
    file = tmp_path / "config.json"
    saved = json.loads(file.read_text())
    del saved["layout"]
    file.write_text(json.dumps(saved | {"passes": 2}))
    assert LatentConfig.from_pretrained(tmp_path).layout == "shift"
    with pytest.raises(ValueError, match="choose one of shift, blocks"):
        LatentConfig(layout="block")
