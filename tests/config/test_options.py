"""Every option of the configuration is listed, with a default and a meaning."""

from typing import Any

from kvdistill.config import RunConfig, load
from kvdistill.config.explain import members
from kvdistill.config.options import MEANINGS, describe_options, options_of


def every() -> list[Any]:
    found = []
    for name, field in RunConfig.model_fields.items():
        kinds = [kind for kind in members(field.annotation) or [field.annotation] if isinstance(kind, type)]
        found += [option for kind in kinds if kind is not type(None) for option in options_of(kind, name)]
    return found


def leaves(tree: dict[str, Any], above: str = "") -> list[str]:
    """The options of a resolved configuration."""
    found = []
    for name, value in tree.items():
        inside = isinstance(value, dict) and value
        found += leaves(value, f"{above}{name}.") if inside else [f"{above}{name}"]
    return found


def test_every_option_has_a_meaning() -> None:
    assert not [option.name for option in every() if not option.meaning]
    assert len(every()) > 90


def test_every_option_of_a_configuration_is_listed() -> None:
    config = load(
        "experiments/configs/chain.toml",
        ["--model.tuning.kind", "lora", "--target.method.kind", "rkv_decode"],
    )
    text = describe_options()
    apart = (
        "data.validation.",
        "data.test.",
        "model.config",
        "model.new_tokenizer",
        "loss.kind",
        "teacher",
        "bridge",
        "latent.curriculum",
    )
    wanted = [name for name in leaves(config.model_dump(mode="json")) if not name.startswith(apart)]
    single = {"loss.kv.kind", "loss.codi.kind", "loss.attention.kind"}
    assert not [name for name in wanted if name not in single and f"--{name} " not in text]
    assert "--data.test.* null" in text
    assert "--latent.curriculum.start 1" in text
    assert "--bridge.kind null" in text and "one of same, lift, lower" in " ".join(text.split())
    assert "the same options as data.train.*" in text


def test_defaults_are_those_of_the_configuration() -> None:
    defaults = {option.name: option.default for option in every() if not option.needs}
    assert defaults["training.lr"] == "0.0005"
    assert defaults["data.max_length"] == "1024"
    assert defaults["target.method.kind"] == "rkv"
    assert defaults["data.train.kind"] == "(required)"
    assert defaults["evaluation.modes"] == '["latent", "cot", "direct"]'


def test_options_of_several_kinds_are_listed_once() -> None:
    seeds = [option for option in every() if option.name == "target.method.importance_weight"]
    assert [option.needs for option in seeds] == [("method.kind rkv",), ("method.kind rkv_decode",)]


def test_lines_are_short_and_every_meaning_belongs_to_an_option() -> None:
    assert max(map(len, describe_options().splitlines())) <= 110
    assert MEANINGS.keys() <= {option.name for option in every()}
