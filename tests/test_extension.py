"""What a new method costs: one file, and one line where the kinds are listed. Tried on a copy."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

COMPRESSOR = '''"""Longest values: a compressor that a test adds."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from kvdistill.compress.base import ScoreCompressor
from kvdistill.kv import LayerKV


@dataclass(frozen=True, kw_only=True)
class ValueNorm(ScoreCompressor):
    """Keep the tokens with the longest values.

    Source: a test.
    """

    kind: Literal["value_norm"] = "value_norm"

    def score(self, layer: LayerKV) -> Float[Tensor, "B H T"]:
        return layer.values.norm(dim=-1)
'''
LOSS = '''"""Latent norm: a loss that a test adds."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from kvdistill.kv import LossOutput
from kvdistill.losses.inputs import LossInputs, Need


@dataclass(frozen=True, kw_only=True)
class LatentNorm:
    """Mean square of the student's latent values.

    Source: a test.
    """

    kind: Literal["latent_norm"] = "latent_norm"
    power: float = 2.0
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __call__(self, inputs: LossInputs) -> LossOutput:
        layers = inputs.outputs.student.kv.layers
        loss = torch.stack([layer.values.abs().pow(self.power).mean() for layer in layers]).mean()
        return LossOutput(loss, {"latent_norm": loss.detach()})
'''
CONTROL = '''"""Zero target: a negative control that a test adds."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from kvdistill.kv import ModelKV


@dataclass(frozen=True, kw_only=True)
class ZeroTarget:
    """Zeros in place of every target.

    Source: a test.
    """

    kind: Literal["zero_target"] = "zero_target"
    needs_partner: ClassVar[bool] = False
    needs_running_mean: ClassVar[bool] = False

    def apply(self, target: ModelKV, cot_id, step_seed, mean=None) -> ModelKV:
        zeros = (layer.replace(keys=0 * layer.keys, values=0 * layer.values) for layer in target.layers)
        return target.map(tuple(zeros))
'''
TEACHER = '''"""Half as loud: a teacher that a test adds."""

from dataclasses import dataclass
from typing import Any

from kvdistill.kv import Geometry, TeacherCache, TwoModes
from kvdistill.text import Batch


@dataclass(frozen=True)
class HalfTeacher:
    """The student's own teacher mode with keys and values halved."""

    name: str
    student: Any
    reader: None = None

    def fingerprint(self) -> str:
        return "half"

    def geometry(self) -> Geometry:
        return self.student.geometry()

    def cache(self, batch: Batch, outputs: TwoModes) -> TeacherCache:
        kv = outputs.teacher.kv
        layers = (layer.replace(keys=layer.keys / 2, values=layer.values / 2) for layer in kv.layers)
        return TeacherCache(self.name, kv.map(tuple(layers)))


def open_half(name, section, student, data, opening) -> HalfTeacher:
    return HalfTeacher(name, student)
'''
SECTION = '''class HalfTeacher(Section):
    """A teacher that a test adds."""

    kind: Literal["half"] = "half"
    weight: float = 1.0
    layers: Ratio = Ratio()


AnyTeacher = Annotated[HalfTeacher | '''
ADDED = {
    "compress/value_norm.py": COMPRESSOR,
    "losses/latent_norm.py": LOSS,
    "target/zero_target.py": CONTROL,
    "teacher/half.py": TEACHER,
}
LISTED = (
    (
        "compress/__init__.py",
        "\nCompressorMethod = (\n    RightCrop",
        "\nfrom kvdistill.compress.value_norm import ValueNorm"
        "\n\nCompressorMethod = (\n    ValueNorm | RightCrop",
    ),
    (
        "losses/objective.py",
        "\nLossTerm = ",
        "\nfrom kvdistill.losses.latent_norm import LatentNorm\n\nLossTerm = LatentNorm | ",
    ),
    (
        "target/controls.py",
        "\nControl = ",
        "\nfrom kvdistill.target.zero_target import ZeroTarget\n\nControl = ZeroTarget | ",
    ),
    ("config/teachers.py", "AnyTeacher = Annotated[", SECTION),
    ("run/teachers.py", '"own": open_own,', '"half": open_half, "own": open_own,'),
    ("run/teachers.py", "\nOPEN:", "\nfrom kvdistill.teacher.half import open_half\n\nOPEN:"),
)
"""File, text in it, what takes its place: the line that lists the kinds, and the import that goes with it."""
CHECK = """
import sys
import torch
from kvdistill.commands.trace import trace
from kvdistill.config import load
from kvdistill.config.options import describe_options
words = ["--target.method.kind", "value_norm", "--target.control.kind", "zero_target"]
words += ["--teachers.h.kind", "half"]
words += ["--loss.extra", '[{"weight": 0.5, "loss": {"kind": "latent_norm", "power": 3.0}}]']
loss = trace(None, words)
plain = trace(None, words[:-2])
assert torch.allclose(loss.loss, plain.loss + 0.5 * loss.metrics["latent_norm"])
text = describe_options()
assert "value_norm" in text and "zero_target" in text
config = load("experiments/configs/chain.toml", words)
assert config.loss.extra[0].loss.power == 3.0 and config.bridge_method.kind == "same"
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources with four methods added."""
    copy = tmp_path_factory.mktemp("extended") / "src"
    shutil.copytree(
        ROOT / "src" / "kvdistill", copy / "kvdistill", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name, text in ADDED.items():
        (copy / "kvdistill" / name).write_text(text)
    for name, before, after in LISTED:
        path = copy / "kvdistill" / name
        text = path.read_text()
        assert text.count(before) == 1, f"{name} has another form"
        path.write_text(text.replace(before, after))
    return copy


def test_a_compressor_a_loss_a_control_and_a_teacher_are_one_file_and_one_line_each(package: Path) -> None:
    """The configuration, the step, the log and the trace pick them up by their kinds."""
    environment = {"PYTHONPATH": str(package), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHECK], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "target: value_norm, control zero_target" in done.stdout
    assert "teachers: h; bridge: SameBridge" in done.stdout
    assert "latent_norm" in done.stdout


def test_nothing_else_names_the_kinds() -> None:
    """What runs a step does not ask which method it was given."""
    for name in ("pipeline.py", "target/build.py", "target/bridge.py", "training/trainer.py", "run/step.py"):
        text = (ROOT / "src" / "kvdistill" / name).read_text()
        assert "isinstance(" not in text.replace("isinstance(config.bridge_method, Same)", "").replace(
            "assert isinstance(found, Projector)", ""
        ).replace("isinstance(self.train_dataset, Stream)", ""), name
