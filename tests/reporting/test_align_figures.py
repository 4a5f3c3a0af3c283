"""The figures of an alignment show the numbers that they are given, with the names at the right cells."""

from pathlib import Path

import numpy as np
import pytest

from kvdistill.align import Adapter, GroupMean, LayerMap, LayerPair
from kvdistill.reporting import align_figures
from kvdistill.reporting.align_figures import NAMED, draw_maps, draw_tokens, matrix
from kvdistill.reporting.align_report import TokenTable
from kvdistill.reporting.blocks import Picture
from pico_align import geometry

TOKENS = TokenTable(
    ["Ann", "·to"], ["A", "nn", "·", "to", "unread"], [[0.5, 0.5, 0.0, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5, 0.0]]
)


@pytest.mark.parametrize("narrow", [False, True])
def test_a_matrix_has_its_numbers_and_names(narrow: bool) -> None:
    values = np.array([[0.0, 0.25, 1.0], [0.5, 0.0, 0.0]])
    figure = matrix(values, (["r0", "r1"], ["c0", "c1", "c2"]), ("rows", "columns"), narrow)
    (axes,) = figure.axes
    assert np.array_equal(axes.images[0].get_array(), values)  # pyright: ignore
    assert [label.get_text() for label in axes.get_yticklabels()] == ["r0", "r1"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["c0", "c1", "c2"]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("rows", "columns")


def test_of_many_names_only_some_are_written() -> None:
    many = [str(place) for place in range(2 * NAMED + 1)]
    figure = matrix(np.eye(len(many)), (many, many), ("", ""), narrow=False)
    shown = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert shown == many[::3]


def test_tokens_are_shown_up_to_the_last_one_that_is_read(tmp_path: Path) -> None:
    (axes,) = align_figures._tokens(TOKENS, "big", narrow=False).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["A", "nn", "·", "to"]
    picture = draw_tokens(TOKENS, "big", tmp_path)
    assert isinstance(picture, Picture)
    assert picture.path.name == "tokens_big.svg" and ">nn<" in picture.path.read_text()


def test_tokens_that_are_not_covered_are_drawn_too(tmp_path: Path) -> None:
    assert isinstance(draw_tokens(TokenTable(["a"], ["b"], [[0.0]]), "big", tmp_path), Picture)


def test_the_maps_of_an_adapter(tmp_path: Path) -> None:
    """Layers 0.25 and 0.75; heads by name."""
    pairs = LayerMap((LayerPair(0, 0, 0.25), LayerPair(0, 1, 0.75)))
    adapter = Adapter(geometry(1, 2, 4, 4), geometry(2, 4, 4, 4), pairs, GroupMean())
    blocks = draw_maps(adapter, "big", tmp_path)
    names = []
    for block in blocks:
        assert isinstance(block, Picture)
        names.append(block.path.name)
    assert names == ["layers_big.svg", "heads_keys_big.svg", "heads_values_big.svg"]
    text = (tmp_path / "heads_keys_big.svg").read_text()
    assert all(f">{name}<" in text for name in ("0.0", "0.1", "1.3"))
