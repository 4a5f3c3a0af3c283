"""Adapters fitted in advance give the same run, bit for bit, as those fitted by it."""

from pathlib import Path

from kvdistill.commands.align.fit import fit
from kvdistill.run.adapters import ADAPTERS
from kvdistill.run.train import train
from pico_compare import curves
from pico_teachers import live, run


def test_a_run_with_fitted_adapters_is_the_run_that_fits_them(
    models: dict[str, Path], tmp_path: Path
) -> None:
    teachers = {"w": live(models["words"]), "b": live(models["bytes"], layers={"kind": "cka"})}
    told: list[str] = []
    folder = tmp_path / "fitted"
    # The adapters that the configuration names are those to be written.
    taken = {"kind": "lower", "adapters": str(folder)}
    path = fit(run(models["base"], tmp_path / "unused", teachers, bridge=taken), folder, told.append)
    assert path == folder / ADAPTERS
    assert sorted(each.name for each in folder.iterdir()) == [ADAPTERS, "calibration.json"]
    assert f'adapters = "{folder}"' in told[-1]
    train(run(models["base"], tmp_path / "one", teachers))
    train(run(models["base"], tmp_path / "other", teachers, bridge=taken))
    assert curves(tmp_path / "one") == curves(tmp_path / "other")
    assert (tmp_path / "other/calibration.json").read_bytes() == (folder / "calibration.json").read_bytes()
