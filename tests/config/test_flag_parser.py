"""The parser of both scripts: names as typed, values, and the help."""

import pytest

from kvdistill.config.flag_parser import TypedFlag, held_value, option_type, parse_flags
from kvdistill.config.flag_table import FLAGS


def typed(*words: str) -> dict[str, TypedFlag]:
    return {flag.name: found for flag, found in parse_flags(words, "train", "Train.").given.items()}


def test_the_name_that_was_typed_is_kept_beside_the_values() -> None:
    assert typed("--learning_rate", "1", "--epochs=2") == {
        "lr": TypedFlag("learning_rate", ("1",)),
        "epochs": TypedFlag("epochs", ("2",)),
    }
    found = typed("--teacher_models", "a/b", "c d", "--teacher_weights", ".5", "-1", "--bf16")
    assert found["teacher_models"].values == ("a/b", "c d")
    assert found["teacher_weights"].values == (".5", "-1"), "a negative number is no flag"
    assert found["bf16"].value == "true"


def test_of_one_name_the_last_value_counts_and_two_names_are_refused() -> None:
    assert typed("--lr", "1", "--lr", "2")["lr"].value == "2"
    with pytest.raises(ValueError, match="--max_samples and --subset_size are two names of one option"):
        typed("--max_samples", "1", "--subset_size", "1")


def test_options_and_values_beside_a_list_of_teachers_stay_apart() -> None:
    line = parse_flags(
        ["--phase", "3", "--teacher_models", "a", "b", "--teachers.a.dtype", "bfloat16"], "train", ""
    )
    assert (line.config, line.phase, line.rest) == (None, "3", ["--teachers.a.dtype", "bfloat16"])
    assert [found.values for found in line.given.values()] == [("a", "b")]


@pytest.mark.parametrize("name", ["learning_rate", "lr", "teacher_models", "phase", "num_train_epochs"])
def test_a_flag_without_its_value_is_named_as_it_was_typed(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^--{name}: expected (at least )?one argument\. --help lists all"):
        typed(f"--{name}")


def test_help_has_one_entry_for_a_flag_and_its_further_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        typed("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "--lr X learning rate (default: 0.0005; also --learning_rate)" in text
    assert "(ratio" in text.partition("--layer_mapping_strategy X ")[2][:120]
    for flag in FLAGS:
        for name in flag.aliases:
            assert text.count(f"also --{name}") == 1
            assert f" --{name} X " not in text


def test_values_and_types_of_options_by_their_dotted_names() -> None:
    assert held_value({"a": {"b": 3}}, "a.b") == 3
    assert held_value({"a": 3}, "a.b") is None
    assert option_type("training.lr") == (float, 5e-4)
    assert option_type("training.none") == (None, None)
