"""``probes.json`` comes back as it went, with and without what a compressor keeps."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kvdistill.records.probes import KeptLayer, KeptTokens, ProbesRecord

PROBES = ProbesRecord(zeroed=0.1, swapped=0.2, fewer={1: 0.3}, top_words=[["a"]], step_match=[1.0])
LAYERS = [
    KeptLayer(layer=0, tokens=4.0, result_share=0.5, steps_covered=0.25, role_entropy=1.5),
    KeptLayer(layer=3, tokens=None, result_share=None, steps_covered=None, role_entropy=None),
]


def test_what_is_kept_comes_back_as_it_went(tmp_path: Path) -> None:
    kept = [KeptTokens(method="rkv", num=8, base_share=0.25, layers=LAYERS)]
    kept.append(KeptTokens(method="full_resampled", num=8, base_share=None, layers=LAYERS[1:]))
    record = replace(PROBES, kept=kept)
    record.write(tmp_path / "probes.json")
    assert ProbesRecord.read(tmp_path / "probes.json") == record


def test_files_of_earlier_versions_have_nothing_kept(tmp_path: Path) -> None:
    PROBES.write(tmp_path / "probes.json")
    document = json.loads((tmp_path / "probes.json").read_text())
    assert "kept" not in document
    assert ProbesRecord.read(tmp_path / "probes.json").kept is None
    (tmp_path / "probes.json").write_text(json.dumps(document | {"kept": [{"method": "rkv"}]}))
    with pytest.raises(ValueError, match=r"probes\.json: "):
        ProbesRecord.read(tmp_path / "probes.json")
