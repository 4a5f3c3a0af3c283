"""transformers' auto classes know the student after ``import kvdistill``, whatever is imported first."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM

import pico
from kvdistill.latent.reasoner import LatentReasoner

ROOT = Path(__file__).resolve().parents[2]
LOAD = """
config = AutoConfig.from_pretrained(folder)
assert type(config).__name__ == "LatentConfig" and config.slots == 3
model = AutoModel.from_pretrained(folder)
assert type(model).__name__ == "LatentReasoner"
assert AutoModelForCausalLM.from_pretrained(folder).config.slots == 3
"""
AUTO = "from transformers import AutoConfig, AutoModel, AutoModelForCausalLM\n"
ORDERS = {
    "kvdistill first, then a library that the student needs": f"""
import kvdistill
assert "transformers" not in sys.modules
assert type(sys.meta_path[0]).__module__ == "kvdistill.latent.auto"
kvdistill.register_config()
assert len([finder for finder in sys.meta_path if isinstance(finder, type(sys.meta_path[0]))]) == 1
import peft
assert "kvdistill.latent.config" in sys.modules and "kvdistill.latent.reasoner" not in sys.modules
assert not any(type(finder).__module__ == "kvdistill.latent.auto" for finder in sys.meta_path)
import inspect, transformers.models.auto.configuration_auto as table
assert "CONFIG_MAPPING" in inspect.getsource(table)
{AUTO}""",
    "transformers first": f"{AUTO}import kvdistill\n",
    "the student first": f"from kvdistill.latent.config import LatentConfig\n{AUTO}",
}


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"import sys\nfolder = sys.argv[1]\n{code}", str(folder)]
    path = {"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, env=path, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def saved(session_tmp: Path) -> Path:
    folder = session_tmp / "auto"
    pico.reasoner("llama", slots=3, passes=2).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("order", ORDERS)
def test_auto_classes_load_a_student_in_a_fresh_process(order: str, saved: Path) -> None:
    done = python(ORDERS[order] + LOAD, saved)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("auto", [AutoModel, AutoModelForCausalLM])
def test_auto_classes_load_what_the_class_itself_loads(auto: type[AutoModel], saved: Path) -> None:
    found = auto.from_pretrained(saved, dtype=torch.bfloat16, attn_implementation="eager")
    own = LatentReasoner.from_pretrained(saved, dtype=torch.bfloat16, attn_implementation="eager")
    assert isinstance(found, LatentReasoner)
    assert found.dtype == torch.bfloat16
    assert found.backbone.config._attn_implementation == own.backbone.config._attn_implementation
    assert "eager" in found.backbone.config._attn_implementation
    for (name, value), (_, other) in zip(found.state_dict().items(), own.state_dict().items(), strict=True):
        assert torch.equal(value, other), name


def test_a_setting_that_the_caller_changes_is_kept(saved: Path) -> None:
    assert AutoModel.from_pretrained(saved, passes=1).config.passes == 1
    assert AutoModel.from_pretrained(saved).config.passes == 2
    config = LatentReasoner.from_pretrained(saved).config
    assert isinstance(AutoModel.from_config(config), LatentReasoner)
