"""Names of earlier versions: read, and never written."""

from typing import Any

import pytest

from kvdistill.records.renamed import METRICS, STUDENT, present_names, present_option, present_options


def test_options_and_values_get_their_present_names() -> None:
    tree = {
        "training": {"task": "explicit", "lr": 0.1},
        "loss": {
            "kv": {"geometry": "tokens", "beta": 2.0},
            "extra": [{"weight": 1, "loss": {"kind": "kv", "geometry": "slots"}}, {"weight": 2}],
        },
    }
    assert present_options(tree) == {
        "training": {"task": "cot", "lr": 0.1},
        "loss": {
            "kv": {"axis": "tokens", "beta": 2.0},
            "extra": [{"weight": 1, "loss": {"kind": "kv", "axis": "slots"}}, {"weight": 2}],
        },
    }
    assert tree["loss"]["kv"] == {"geometry": "tokens", "beta": 2.0}  # pyright: ignore


@pytest.mark.parametrize(
    "tree",
    [
        {"training": {"task": "cot"}, "loss": {"kv": {"axis": "slots"}, "extra": []}},
        {"model": {"config": {"geometry": 1, "task": "explicit"}}},
        {"training": "explicit", "loss": None},
        {"training": {"task": ["explicit"]}, "loss": {"kv": "geometry", "extra": {"loss": {"geometry": 1}}}},
        {"loss": {"extra": [None, {"loss": "geometry"}]}},
    ],
)
def test_everything_else_stays_as_it_is(tree: dict[str, Any]) -> None:
    assert present_options(tree) == tree


def test_an_option_under_both_names_is_refused() -> None:
    tree = {"loss": {"kv": {"geometry": "tokens", "axis": "tokens"}}}
    sentence = r"loss\.kv\.geometry is the earlier name of loss\.kv\.axis: give one of them\."
    with pytest.raises(ValueError, match=sentence):
        present_options(tree)


def test_a_dotted_name_is_renamed_as_a_whole() -> None:
    assert present_option("loss.kv.geometry") == "loss.kv.axis"
    assert present_option("geometry") == "geometry"
    assert present_option("training.task") == "training.task"


def test_metrics_and_settings_keep_their_order_and_their_newer_value() -> None:
    row = {"kv": 2.0, "kv_floor": 1.0, "kv_k": 3.0}
    assert list(present_names(row, METRICS).items()) == [("kv", 2.0), ("kv_lower_bound", 1.0), ("kv_k", 3.0)]
    assert present_names({"taught": False, "latents_trained": True}, STUDENT) == {"latents_trained": True}
