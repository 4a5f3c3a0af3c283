"""One typed configuration for a run: sections and closed unions, read from TOML, changed by ``--section.option value``."""

from kvdistill.config.read import changed, load, parse, resolved
from kvdistill.config.sections import DataSection, DataSet, FileData, FullTuning, Lora, ModelSection, RunConfig, SyntheticData

__all__ = [
    "DataSection",
    "DataSet",
    "FileData",
    "FullTuning",
    "Lora",
    "ModelSection",
    "RunConfig",
    "SyntheticData",
    "changed",
    "load",
    "parse",
    "resolved",
]
