"""The KV loss by layer and step."""

from pathlib import Path

import numpy as np

from kvdistill.records.schema import Metrics
from kvdistill.reporting.blocks import Picture
from kvdistill.reporting.layer_section import layer_losses, layer_section


def test_layers_are_rows_from_the_highest_and_steps_are_columns() -> None:
    series = {
        "kv_layer0": {1: 0.1, 2: 0.2},
        "kv_layer10": {1: 0.5, 3: 0.6},
        "kv_layer2": {1: 0.3, 2: 0.4, 3: 0.5},
        "kv_lower_bound": {1: 9.0},
    }
    image = layer_losses(series)
    assert image is not None
    assert (image.rows, image.columns) == (["10", "2", "0"], ["1", "2", "3"])
    expected = [[0.5, np.nan, 0.6], [0.3, 0.4, 0.5], [0.1, 0.2, np.nan]]
    np.testing.assert_array_equal(image.values, expected)
    assert layer_losses({"kv_layer0": {1: 0.1, 2: 0.2}}) is None
    assert layer_losses({"kv_layer0": {1: 0.1}, "kv_layer1": {1: 0.1}}) is None


def test_a_run_that_logged_layers_has_the_section(tmp_path: Path) -> None:
    assert layer_section(tmp_path) == []
    metrics = Metrics(tmp_path / "metrics.jsonl")
    metrics.append_row(1, {"loss": 1.0})
    assert layer_section(tmp_path) == []
    metrics.append_row(2, {"kv_layer0": 1.0, "kv_layer1": 0.1})
    metrics.append_row(4, {"kv_layer0": 0.5, "kv_layer1": 0.01})
    (section,) = layer_section(tmp_path)
    assert section.title == "KV loss by layer"
    (picture,) = section.blocks
    assert isinstance(picture, Picture)
    assert ">compared layer<" in picture.html()
