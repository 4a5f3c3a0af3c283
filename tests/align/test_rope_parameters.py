"""Rotary parameters to set at load: by hand, and in transformers' configurations."""

from typing import Any

import pytest
import transformers as tf

from kvdistill.align.rope_parameters import SCALINGS, check_scaling, readable_window, scaled_parameters

OWN = {"rope_type": "default", "rope_theta": 10_000.0}


def scaled(kind: str, own: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return scaled_parameters({"rope_type": kind, "factor": 4.0} | more, own or OWN, 4, 100)


def test_parameters_by_hand() -> None:
    """Four turning channels: theta' is 10000 · 4^(4/2)."""
    assert scaled("ntk") == {"rope_type": "default", "rope_theta": 160_000.0}
    assert scaled("linear") == {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}
    window = {"original_max_position_embeddings": 100}
    assert scaled("yarn") == {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0} | window
    thresholds = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    assert scaled("llama3", low_freq_factor=2.0) == (
        {"rope_type": "llama3", "rope_theta": 10_000.0, "factor": 4.0} | window | thresholds
    ) | {"low_freq_factor": 2.0}


def test_a_scaling_of_the_same_method_keeps_its_other_parameters() -> None:
    own = OWN | {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 50, "beta_fast": 16}
    assert scaled("yarn", own) == own | {"factor": 4.0}
    assert scaled("ntk", own) == own | {"rope_theta": 160_000.0}
    assert scaled("linear", OWN | {"partial_rotary_factor": 0.5})["partial_rotary_factor"] == 0.5


@pytest.mark.parametrize(("before", "asked"), [("llama3", "yarn"), ("proportional", "ntk")])
def test_another_scaling_is_refused(before: str, asked: str) -> None:
    with pytest.raises(ValueError, match=f"own rotary scaling is {before}, which {asked} would replace"):
        scaled(asked, OWN | {"rope_type": before})


@pytest.mark.parametrize("kind", SCALINGS)
def test_transformers_takes_them(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    lists = {"short_factor": [1.0, 1.0], "long_factor": [2.0, 3.0]} if kind == "longrope" else {}
    check_scaling({"rope_type": kind, "factor": 4.0} | lists)
    parameters = scaled(kind, **lists)
    config = tf.LlamaConfig(
        hidden_size=8, num_attention_heads=2, max_position_embeddings=400, rope_parameters=dict(parameters)
    )
    assert config.rope_parameters == parameters
    assert not caplog.records
    assert readable_window(parameters, 100) == (100 if kind == "ntk" else 400)


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ({"rope_type": "ntkk", "factor": 2}, "rope_type is 'ntkk': give one of linear, ntk, dynamic, yarn"),
        ({"factor": 2}, "rope_type is None"),
        ({"rope_type": "yarn"}, "factor is None: give a number of at least 1"),
        ({"rope_type": "yarn", "factor": 0.5}, "factor is 0.5"),
        ({"rope_type": "yarn", "factor": True}, "factor is True"),
        ({"rope_type": "longrope", "factor": 2}, "longrope needs short_factor and long_factor"),
    ],
)
def test_what_is_no_scaling_is_refused(scaling: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_scaling(scaling)


def test_windows_by_hand() -> None:
    """Qwen's YaRN keeps 100 in its configuration and reads 400; Llama 3.1 already names the longer one."""
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 100}
    assert readable_window(yarn, 100) == 400
    assert readable_window(yarn | {"rope_type": "llama3"}, 500) == 500
    assert readable_window({"rope_type": "dynamic", "factor": 2.0}, 100) == 200
    assert readable_window({}, 100) == 100
