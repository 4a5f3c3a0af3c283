"""One typed configuration for a run: sections and closed unions, read from TOML, changed by
``--section.option value``.
"""

from kvdistill.config.data import DataSection, DataSet, FileData, HubData, SyntheticData
from kvdistill.config.flags import from_flags
from kvdistill.config.read import changed, load, parse, resolved
from kvdistill.config.sections import FullTuning, Lora, ModelSection, OwnTeacher, RunConfig, TeacherSection

__all__ = [
    "DataSection",
    "DataSet",
    "FileData",
    "FullTuning",
    "HubData",
    "Lora",
    "ModelSection",
    "OwnTeacher",
    "RunConfig",
    "SyntheticData",
    "TeacherSection",
    "changed",
    "from_flags",
    "load",
    "parse",
    "resolved",
]
