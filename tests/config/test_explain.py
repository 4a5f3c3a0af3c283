"""Every wrong input gets a sentence that names where, what, and the nearest name."""

import re

import pytest

from kvdistill.config import FileData, Lora, load, parse
from kvdistill.config.explain import tag_of
from kvdistill.kv import LayerKV
from kvdistill.losses import KVLoss

BASE = ["--model.config.model_type", "llama", "--data.train.kind", "synthetic"]
WRONG = {
    "misspelt section": (
        ["--trainig.lr", "1"],
        r"there is no option trainig\.lr\. Did you mean 'training'\?",
    ),
    "misspelt option": (["--training.lrr", "1"], r"there is no option training\.lrr\. Did you mean 'lr'\?"),
    "misspelt option of an optional section": (
        ["--teacher.name", "x", "--teacher.dtyp", "float32"],
        r"there is no option teacher\.dtyp\. Did you mean 'dtype'\?",
    ),
    "misspelt option of a section by name": (
        ["--teachers.a.kind", "live", "--teachers.a.name", "x", "--teachers.a.dtyp", "float32"],
        r"there is no option teachers\.a\.dtyp\. Did you mean 'dtype'\?",
    ),
    "misspelt kind of a section by name": (
        ["--teachers.a.kind", "lve"],
        r"teachers\.a has no kind 'lve'\. Did you mean 'live'\?",
    ),
    "misspelt option of a dataclass": (
        ["--loss.kv.distnce", "mse"],
        r"there is no option loss\.kv\.distnce\. Did you mean 'distance'\?",
    ),
    "misspelt option of a method": (
        ["--target.method.kind", "rkv", "--target.method.importance_wight", "0.2"],
        r"there is no option target\.method\.importance_wight\. Did you mean 'importance_weight'\?",
    ),
    "misspelt option in a union in a union": (
        ["--data.train.task.nmes", "3"],
        r"there is no option data\.train\.task\.nmes\. Did you mean 'names'\?",
    ),
    "option without its section": (
        ["--epochs", "3"],
        r"there is no option epochs\. Did you mean training\.epochs\?",
    ),
    "nothing near": (
        ["--latent.qqq", "3"],
        r"there is no option latent\.qqq\. Known here: curriculum, delimiters, feedback, layout, passes, "
        r"slots\.",
    ),
    "misspelt method": (
        ["--target.method.kind", "rvk"],
        r"target\.method has no kind 'rvk'\. Did you mean 'rkv'\? Choose one of right_crop, left_crop, rkv, "
        r"rkv_decode, ",
    ),
    "misspelt control": (
        ["--target.control.kind", "shufled"],
        r"target\.control has no kind 'shufled'\. Did you mean 'shuffled'\?",
    ),
    "misspelt kind of data": (
        ["--data.test.kind", "fil"],
        r"data\.test has no kind 'fil'\. Did you mean 'file'\?",
    ),
    "a kind that is not said": (
        ["--data.test.path", "x"],
        r"data\.test does not say which kind it is: add --data\.test\.kind",
    ),
    "misspelt choice": (
        ["--loss.kv.distance", "mze"],
        r"loss\.kv\.distance: should be 'mse', 'l1' or 'smooth_l1' or 'cosine' \(given: 'mze'\)",
    ),
    "neither number nor auto": (
        ["--loss.kv_weight", "abc"],
        r"loss\.kv_weight: should be a number or 'auto' \(given: 'abc'\)",
    ),
    "wrong choice in a list": (
        ["--evaluation.modes", '["latent", "cto"]'],
        r"evaluation\.modes\.1: .*'cot'.*\(given: 'cto'\)",
    ),
    "wrong type": (["--training.lr", "fast"], r"training\.lr: should be a number \(given: 'fast'\)"),
    "out of range": (["--training.lr", "-1"], r"training\.lr: should be above 0 \(given: -1\)"),
    "a method's own range": (
        ["--target.method.importance_weight", "1.5"],
        r"target\.method: RKV: importance_weight \(λ\) is 1\.5",
    ),
    "a task's own range": (
        ["--data.train.task.steps", "30"],
        r"data\.train\.task: Chain\.steps is 30 with 8 names\. Choose",
    ),
    "a loss's own range": (
        ["--loss.kv.lambda_k", "-1"],
        r"loss\.kv: KVLoss: lambda_k, lambda_v and cosine_weight must not be negative",
    ),
    "more passes than slots": (
        ["--latent.slots", "4", "--latent.passes", "5"],
        r"latent\.passes is 5 with 4 slots: .*Choose latent\.passes <= 4",
    ),
    "no slots": (
        ["--latent.slots", "0", "--latent.passes", "0"],
        r"latent\.slots is 0; a latent student needs at least 1 slot",
    ),
    "passes below zero": (
        ["--latent.passes", "-1"],
        r"latent\.passes is -1; choose 0 \(pause tokens\) up to latent\.slots = 24",
    ),
    "name and config": (["--model.name", "gpt2"], r"model: give either model\.name .* or model\.config"),
    "a section that is a value": (["--latent", "3"], r"latent: .*\(given: 3\)"),
    "a window as wide as the slots": (
        ["--target.method.kind", "rkv_decode", "--latent.slots", "8"],
        r"RKVDecode: a window of 8 fills slots=8\. Set window below the number of slots\.",
    ),
    "a control without partners": (
        ["--target.control.kind", "other_sample", "--training.batch_size", "1"],
        r"a batch of one has no other sample .* Raise the batch size",
    ),
    "a mean of many lengths": (
        ["--target.control.kind", "mean_target", "--target.method.kind", "full"],
        r"TargetMean: .* Compress to a fixed number of slots",
    ),
    "one slot in another order": (
        ["--target.control.kind", "shuffled", "--latent.slots", "1", "--latent.passes", "1"],
        r"'shuffled' needs at least two slots",
    ),
    "full and rotated keys": (
        ["--target.method.kind", "full", "--loss.kv.frame", "as_cached"],
        r"rotated keys cannot be interpolated",
    ),
    "full and attention": (
        ["--target.method.kind", "full", "--loss.attention_weight", "1"],
        r"attention to slots has no counterpart",
    ),
    "tokens without full": (
        ["--loss.kv.axis", "tokens"],
        r"loss\.kv\.axis 'tokens' reads .* Leave loss\.kv\.axis out",
    ),
}


@pytest.mark.parametrize(("words", "sentence"), WRONG.values(), ids=WRONG)
def test_wrong_options_are_named_with_the_nearest_name(words: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        load(None, BASE + words)
    assert str(caught.value).startswith("the command line: ")
    assert "\n" not in str(caught.value), "one thing is wrong, so one sentence"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--training.batch_size true", "training.batch_size: should be an integer (given: True)"),
        ('--training.lr "0.1"', "training.lr: should be a number (given: '0.1')"),
        ("--training.resume 1", "training.resume: should be true or false (given: 1)"),
        ("--training.resume yes", "training.resume: should be true or false (given: 'yes')"),
        ('--training.seed "3"', "training.seed: should be an integer (given: '3')"),
        ("--training.max_steps 2.5", "training.max_steps: should be an integer (given: 2.5)"),
        ("--training.lr NaN", "training.lr: should be a number (given: nan)"),
        ("--loss.kv_weight Infinity", "loss.kv_weight: should be a number or 'auto' (given: inf)"),
        ("--loss.kv_weight true", "loss.kv_weight: should be a number or 'auto' (given: True)"),
        (f"--training.lr {'9' * 400}", "training.lr: should be a number (given: 999"),
        ("--target.method.window true", "target.method.window: should be an integer (given: True)"),
        ("--data.train.task.steps true", "data.train.task.steps: should be an integer (given: True)"),
        ("--training.num_workers 100000", "training.num_workers: should be 64 or less (given: 100000)"),
        ("--training.batch_size 99999999999999999999", "training.batch_size: should be 65536 or less"),
        ("--training.epochs 1e18", "training.epochs: should be 1000000 or less (given: 1e+18)"),
        ("--latent.slots 100000", "latent.slots: should be 4096 or less (given: 100000)"),
        ("--evaluation.max_new_tokens 99999999", "evaluation.max_new_tokens: should be 131072 or less"),
        (
            "--data.validation.kind file --data.validation.path x --data.validation.limit 1e22",
            "data.validation.limit: should be",
        ),
        ("--a.b.c 1", "there is no option a.b.c."),
        ("--training.lr.x 3", "training.lr: should be a number"),
    ],
)
def test_values_that_are_no_sensible_number_are_refused(words: str, sentence: str) -> None:
    rkv = ["--target.method.kind", "rkv_decode"] if "window" in words else []
    with pytest.raises(ValueError) as caught:
        load(None, [*BASE, *rkv, *words.split(" ")])
    assert str(caught.value).startswith(f"the command line: {sentence}")
    assert len(str(caught.value)) < 400


def test_missing_options_are_named_one_a_line() -> None:
    with pytest.raises(
        ValueError,
        match=r"model is missing: add it to the file, or give it .* as --model\.\n.*: data is missing: ",
    ):
        load(None)
    with pytest.raises(ValueError, match=r"data\.train is missing"):
        load(None, ["--model.name", "x", "--data.max_length", "64"])
    with pytest.raises(ValueError, match=r"data\.train\.path is missing"):
        load(None, ["--model.name", "x", "--data.train.kind", "file"])


def test_the_file_is_named() -> None:
    with pytest.raises(
        ValueError, match=re.escape("runs/e4.toml: there is no option modle. Did you mean 'model'?")
    ):
        parse({"modle": {}}, "runs/e4.toml")


def test_options_in_dictionaries_and_lists_keep_their_names() -> None:
    with pytest.raises(ValueError, match=r"model\.special_tokens\.eos_token: "):
        parse({"model": {"name": "x", "special_tokens": {"eos_token": []}}}, "a file")
    with pytest.raises(ValueError, match=r"model\.tuning\.targets.*: "):
        parse({"model": {"name": "x", "tuning": {"targets": {}}}}, "a file")


def test_tags_are_the_kinds_that_users_type() -> None:
    assert tag_of(Lora) == "lora"
    assert tag_of(KVLoss) == "kv"
    assert tag_of(FileData) == "file"
    assert tag_of(LayerKV) is None
    assert tag_of(int) is None
