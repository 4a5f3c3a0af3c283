"""Typed configuration of a run, read from TOML or JSON and overridden by ``--section.option value``.

A section is a pydantic model; a choice between methods is a union told apart by ``kind``.
"""

from kvdistill.config.data import DataSection, DataSet, FileData, HubData, SyntheticData
from kvdistill.config.flags import from_flags
from kvdistill.config.read import changed, load, parse, resolved, with_defaults
from kvdistill.config.sampling import Sampling
from kvdistill.config.sections import FullTuning, Lora, ModelSection, OwnTeacher, RunConfig, TeacherSection
from kvdistill.config.teachers import live_of
from kvdistill.config.training import FREE

__all__ = [
    "FREE",
    "DataSection",
    "DataSet",
    "FileData",
    "FullTuning",
    "HubData",
    "Lora",
    "ModelSection",
    "OwnTeacher",
    "RunConfig",
    "Sampling",
    "SyntheticData",
    "TeacherSection",
    "changed",
    "from_flags",
    "live_of",
    "load",
    "parse",
    "resolved",
    "with_defaults",
]
