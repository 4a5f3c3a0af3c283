"""The short flags: each reaches its option, and what is wrong is named as it was typed."""

from pathlib import Path
from typing import Any

import pytest

from kvdistill.compress import CompressorMethod
from kvdistill.config import FileData, FullTuning, HubData, Lora, RunConfig, from_flags, resolved
from kvdistill.config.explain import members, tag_of
from kvdistill.config.flag_parser import RECIPE
from kvdistill.config.flag_table import FLAGS, Flag
from kvdistill.target import NoControl, Shuffled

VALUES: dict[str, tuple[str, Any]] = {
    "model_name": ("folder/model", "folder/model"),
    "teacher_name": ("folder/big", "folder/big"),
    "teacher_models": ("folder/big", "folder/big"),
    "teacher_weights": ("0.5", 0.5),
    "fusion_method": ("fixed", "fixed"),
    "router_type": ("gate", "gate"),
    "entropy_target": ("diverse", "diverse"),
    "entropy_reg_strength": ("0.5", 0.5),
    "competence": ("a table", "a table"),
    "layer_mapping_strategy": ("nearest", "nearest"),
    "rope_scaling_method": ("ntk", "ntk"),
    "rope_scaling_factor": ("2", 2.0),
    "dataset_name": ("owner/set", "owner/set"),
    "dataset_config": ("socratic", "socratic"),
    "dataset_split": ("test", "test"),
    "train_file": ("rows *.jsonl", "rows *.jsonl"),
    "validation_file": ("v.jsonl", "v.jsonl"),
    "test_file": ("t.jsonl", "t.jsonl"),
    "streaming": ("true", True),
    "subset_size": ("100", 100),
    "prompt_template": ("chat", "chat"),
    "output_dir": ("outputs/e 1", "outputs/e 1"),
    "epochs": ("1.5", 1.5),
    "max_steps": ("7", 7),
    "batch_size": ("3", 3),
    "gradient_accumulation_steps": ("2", 2),
    "lr": ("1e-4", 1e-4),
    "warmup_steps": ("0.1", 0.1),
    "max_length": ("99", 99),
    "target_len": ("6", 6),
    "num_iterations": ("2", 2),
    "kv_method": ("step_end", "step_end"),
    "kv_loss": ("smooth_l1", "smooth_l1"),
    "kv_weight": ("auto", "auto"),
    "lambda_k": ("0.5", 0.5),
    "lambda_v": ("2", 2),
    "beta_cos": ("0.1", 0.1),
    "gamma_kl": ("0.2", 0.2),
    "delta_ce": ("0", 0),
    "codi_weight": ("0", 0),
    "shuffle_kv": ("true", "shuffled"),
    "save_steps": ("5", 5),
    "eval_steps": ("4", 4),
    "logging_steps": ("2", 2),
    "num_workers": ("1", 1),
    "trust_remote_code": ("true", True),
    "torch_dtype": ("bfloat16", "bfloat16"),
    "fp16": ("true", "fp16"),
    "bf16": ("true", "bf16"),
    "gradient_checkpointing": ("true", True),
    "device_map": ("cuda:1", "cuda:1"),
    "lora_r": ("16", 16),
    "seed": ("3", 3),
    "resume": ("true", True),
}
TEACHER = ["--teacher_name", "big"]
TWO = ["--teachers.a.kind", "live", "--teachers.a.name", "x", "--teachers.b.kind", "own"]
ROUTED = [*TWO, "--fusion.competence_weight", "0"]
NEEDED = {
    "streaming": ["--subset_size", "100"],
    "teacher_weights": TEACHER,
    "router_type": ROUTED,
    "entropy_target": ROUTED,
    "entropy_reg_strength": ROUTED,
    "competence": [*TWO, "--fusion.kind", "similarity"],
    "layer_mapping_strategy": TEACHER,
    "rope_scaling_method": [*TEACHER, "--rope_scaling_factor", "2"],
    "rope_scaling_factor": [*TEACHER, "--rope_scaling_method", "ntk"],
}
"""Further words of the flags that do not go alone."""
TOML = """
[model]
name = "base"
tuning.kind = "full"
[data.train]
kind = "file"
path = "rows.jsonl"
format = "gsm8k"
[target]
control = {kind = "shuffled"}
[training]
precision = "bf16"
gradient_checkpointing = true
"""


def told(*words: str) -> RunConfig:
    return from_flags(words, "train", "Train.")


def option(config: RunConfig, path: str) -> Any:
    tree: Any = resolved(config)
    for part in path.split("."):
        tree = tree[part]
    return tree


def refused(*words: str) -> str:
    with pytest.raises(ValueError) as caught:
        told(*words)
    return str(caught.value)


@pytest.fixture
def toml(tmp_path: Path) -> str:
    path = tmp_path / "run.toml"
    path.write_text(TOML)
    return str(path)


# What the flags reach.


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.name)
def test_every_flag_reaches_its_option(flag: Flag) -> None:
    text, value = VALUES[flag.name]
    more = NEEDED.get(flag.name, [])
    path = flag.option
    if flag.name == "teacher_models":
        path = "teachers.big.name"
    lines = [
        line for name in (flag.name, *flag.aliases) for line in ([f"--{name}", text], [f"--{name}={text}"])
    ]
    if flag.switch:
        lines.append([f"--{flag.name}"])
    for words in lines:
        assert option(told(*words, *more), path) == value


def test_every_flag_has_its_case() -> None:
    assert set(VALUES) == {flag.name for flag in FLAGS}


def test_without_a_word_the_recipe_is_run() -> None:
    config = told()
    assert config.model.name == RECIPE["model"]["name"] == "Qwen/Qwen2.5-0.5B-Instruct"
    assert isinstance(config.data.train, HubData)
    assert (config.data.train.name, config.data.train.config, config.data.train.split) == (
        "openai/gsm8k",
        "main",
        "train",
    )
    assert isinstance(config.data.test, HubData)
    assert config.data.test.split == "test"
    assert config.training.seed == 0
    assert not config.model.trust_remote_code


def test_other_data_take_the_place_of_the_recipes() -> None:
    for words in (["--train_file", "rows.jsonl"], ["--dataset_name", "owner/set"]):
        config = told(*words)
        assert config.data.test is None, "no test of one data set after training on another"
        assert getattr(config.data.train, "config", None) is None
    both = told("--train_file", "a.jsonl", "--test_file", "b.jsonl").data
    assert (both.train, both.test) == (FileData(path="a.jsonl"), FileData(path="b.jsonl"))
    assert told("--test_file", "b.jsonl").data.train == told().data.train


def test_a_file_is_changed_by_flags_and_those_by_the_options_themselves(toml: str) -> None:
    config = told(
        "--config",
        toml,
        "--lr",
        "1e-3",
        "--train_file",
        "other.jsonl",
        "--training.lr",
        "2e-3",
        "--latent.feedback=none",
    )
    assert config.training.lr == 2e-3
    assert config.data.train == FileData(path="other.jsonl", format="gsm8k")
    assert config.latent.feedback == "none"
    assert isinstance(config.model.tuning, FullTuning)
    hub = told("--config", toml, "--dataset_name", "owner/set", "--dataset_split", "s").data.train
    assert hub == HubData(name="owner/set", split="s"), "nothing of the file's kind of data is left"


def test_adapters_are_chosen_by_their_rank(toml: str) -> None:
    assert isinstance(told("--lora_r", "0").model.tuning, FullTuning)
    assert told("--lora_r", "4").model.tuning == Lora(r=4)
    assert told("--config", toml, "--lora_r", "4", "--model.tuning.alpha", "8").model.tuning == Lora(
        r=4, alpha=8
    )
    assert refused("--lora_r", "-1") == "the command line: --lora_r: should be 1 or more (given: -1)"


def test_switches_can_be_put_off(toml: str) -> None:
    assert told("--config", toml).target.control == Shuffled()
    assert told("--config", toml, "--shuffle_kv", "false").target.control == NoControl()
    assert (
        told(
            "--config", toml, "--target.control.kind", "mean_target", "--shuffle_kv", "false"
        ).target.control.kind
        == "mean_target"
    )
    for words, precision in (
        (["--bf16", "false"], "float32"),
        (["--fp16", "false"], "bf16"),
        (["--fp16"], "fp16"),
        (["--bf16", "false", "--fp16"], "fp16"),
        (["--bf16", "--fp16", "false"], "bf16"),
    ):
        assert told("--config", toml, *words).training.precision == precision, words
    assert not told("--config", toml, "--gradient_checkpointing", "false").training.gradient_checkpointing
    assert told("--bf16", "--seed", "3").training.seed == 3, "a bare switch takes no value from the next flag"


def test_names_that_look_like_numbers_stay_as_they_are_typed() -> None:
    config = told("--output_dir", "1e3", "--dataset_config", "1.10", "--model_name", "true")
    assert (config.training.output_dir, config.model.name) == ("1e3", "true")
    assert config.data.train.config == "1.10"  # pyright: ignore
    assert told("--dataset_config", "null").data.train.config is None  # pyright: ignore


# What is refused.


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            "--kv_los l1",
            "There is no option --kv_los. Did you mean --kv_loss? --help lists all; every other option is "
            "--section.option value.",
        ),
        ("--batch-size 4", "There is no option --batch-size. Did you mean --batch_size?"),
        ("--traning.lr 3", "there is no option traning.lr. Did you mean 'training'?"),
        ("--training.warmup_step 3", "there is no option training.warmup_step. Did you mean 'warmup_steps'?"),
        ("--kv_method rkw", "--kv_method has no kind 'rkw'. Did you mean 'rkv'? Choose one of right_crop,"),
        ("--target.control.kind shufled", "target.control has no kind 'shufled'. Did you mean 'shuffled'?"),
        ("--kv_loss l3", "--kv_loss: should be 'mse', 'l1' or 'smooth_l1' or 'cosine'"),
        ("--prompt_template chatt", "--prompt_template has no kind 'chatt'. Did you mean 'chat'?"),
        ("--lr", "--lr: expected one argument. --help lists all flags."),
        ("--lr fast", "--lr: should be a number (given: 'fast')"),
        ("--learning_rate fast", "--learning_rate: should be a number (given: 'fast')"),
        ("--training.lr fast", "training.lr: should be a number"),
        ("--training.lr", "--training.lr has no value: write --training.lr value."),
        (
            "--training.weight_decay",
            "--training.weight_decay has no value: write --training.weight_decay value.",
        ),
        ("--bf16 perhaps", "--bf16: invalid choice: 'perhaps' (choose from"),
        ("--fp16 --bf16", "--fp16 and --bf16 both say how precisely to compute: give one of them."),
        (
            "--train_file a --dataset_name b",
            "--train_file and --dataset_name both say what to train on: give one of them.",
        ),
        (
            "--lr 1 --learning_rate 2",
            "--lr and --learning_rate are two names of one option: give one of them.",
        ),
        ("--kv_compression rkw", "--kv_compression has no kind 'rkw'. Did you mean 'rkv'?"),
        ("--learning_rat 1", "There is no option --learning_rat. Did you mean --learning_rate?"),
        ("--max_samples 0", "--max_samples: should be 1 or more (given: 0)"),
        (
            "--train_file a --dataset_split b",
            "--dataset_split does not go with data.train of the kind 'file': leave it out, or choose",
        ),
        ("rows.jsonl", "'rows.jsonl' is in the place of an option"),
        ("--target_len 0", "latent: --target_len is 0; a latent student needs at least 1 slot"),
        (
            "--target_len 2 --num_iterations 5",
            "latent: --num_iterations is 5 with 2 slots: after 2 passes every slot is",
        ),
        ("--max_length 3", "--max_length: should be 8 or more (given: 3)"),
        ("--subset_size 0", "--subset_size: should be 1 or more (given: 0)"),
        (
            "--streaming",
            "--streaming: the length of a stream is not known; give --max_steps, or --subset_size",
        ),
        ("--shuffle_kv --batch_size 1", "controls: a batch of one has no other sample"),
        (
            "--teacher_name big --loss.attention_weight 1",
            "teacher: a separate teacher's attention has other heads than the student's",
        ),
        (
            "--config nowhere.toml",
            "There is no configuration file nowhere.toml. Shipped ones are in experiments/configs.",
        ),
    ],
)
def test_what_is_wrong_is_said_in_the_words_that_were_typed(words: str, sentence: str) -> None:
    said = refused(*words.split())
    assert said.removeprefix("the command line: ").removeprefix("the options together: ").startswith(sentence)


def test_the_file_is_named_in_which_something_is_wrong(toml: str) -> None:
    Path(toml).write_text(TOML.replace("gradient_checkpointing", "gradient_checkpoint"))
    wanted = (
        f"{toml}: there is no option training.gradient_checkpoint. Did you mean 'gradient_checkpointing'?"
    )
    assert refused("--config", toml) == wanted


def test_help_lists_every_flag_with_choices_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        told("--help")
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for flag in FLAGS:
        assert f" --{flag.name} " in text
        assert flag.help in text
    for words in (
        "(default: 0.0005; also --learning_rate)",
        "float16; default: float32)",
        "(mse, l1, smooth_l1, cosine; default: mse; also --kv_loss_type)",
        "auto (default: 1.0)",
    ):
        assert words in text
    assert (
        f"({', '.join(str(tag_of(kind)) for kind in members(CompressorMethod))}; default: rkv; also " in text
    )
    assert (
        text.count("(default: none)") > 3
        and "--bf16 [{true,false}] mixed precision in bfloat16 (default: false)" in text
    )
    assert "Every option of the configuration can also be given as --section.option value" in text


def test_names_of_earlier_versions_are_taken_beside_flags(tmp_path: Path) -> None:
    file = tmp_path / "old.toml"
    file.write_text(f'{TOML}task = "explicit"\n[loss.kv]\ngeometry = "slots"\n')
    words = ["--config", str(file), "--kv_method", "full", "--loss.kv.geometry", "tokens"]
    found = from_flags(words, "x", "y")
    assert (found.training.task, found.loss.kv.axis) == ("cot", "tokens")
    assert from_flags(["--training.task", "explicit"], "x", "y").training.task == "cot"
