"""Chains that a run samples before its first step, once for all runs that share the folder."""

from pathlib import Path

import pytest

import pico_trained
from kvdistill.config import RunConfig
from kvdistill.records.traces import read_traces
from kvdistill.run.preparation import is_complete, prepare_chains
from kvdistill.training.ranks import Ranks


def config(folder: Path, **teacher: object) -> RunConfig:
    """Two teachers of one model and one folder of chains."""
    rows = "".join(
        f"{e.question}||{' '.join(e.steps)} #### {e.answer}\n" for e in pico_trained.examples()[:3]
    )
    (folder / "rows.txt").write_text(rows)
    section = {
        "kind": "live",
        "name": str(folder / "model"),
        "reads": "own",
        "traces": str(folder / "chains"),
    }
    return RunConfig.model_validate(
        {
            "model": {"name": "base"},
            "data": {"train": {"kind": "file", "path": str(folder / "rows.txt")}},
            "teachers": {"a": {**section, "draw": 0}, "b": {**section, "draw": 1}},
            "sampling": {"num_samples": 2, "max_new_tokens": 8},
            "target": {"method": {"kind": "step_end"}},
        }
    )


def test_chains_are_sampled_where_they_are_missing_and_left_alone_after(tmp_path: Path) -> None:
    pico_trained.trained().save_pretrained(tmp_path / "model")
    run, said, folder = config(tmp_path), [], tmp_path / "chains"
    assert not is_complete(folder)
    prepare_chains(run, Ranks(), said.append)
    assert said[0] == f"teachers.a: 2 chains a question are sampled to {folder}"
    assert len(read_traces(folder)) == 3
    path = folder / "samples.jsonl"
    data = path.read_bytes()
    # An interrupted call is continued by the next run.
    path.write_bytes(data[:-9])
    assert not is_complete(folder)
    prepare_chains(run, Ranks(), said.append)
    assert path.read_bytes() == data
    before = path.stat().st_mtime_ns
    (tmp_path / "model" / "model.safetensors").unlink()  # not read any more
    prepare_chains(run, Ranks(), said.append)
    assert path.stat().st_mtime_ns == before


def test_other_ranks_and_runs_without_caches_sample_nothing(tmp_path: Path) -> None:
    run = config(tmp_path)
    without = run.model_copy(update={"loss": run.loss.__class__(kv_weight=0.0)})
    prepare_chains(without, Ranks(), pytest.fail)
    assert not (tmp_path / "chains").exists()
