import hashlib
import json
from pathlib import Path

import pytest
from datasets import Dataset

from kvdistill.commands.assets.errors import HubError
from kvdistill.commands.assets.export import default_config, export, load_splits
from kvdistill.data import load
from pico_hub import AUG_ROWS, GSM8K_ROWS, Hub, put_data


def test_gsm8k_is_written_in_its_own_form(local_hub: Hub, tmp_path: Path) -> None:
    put_data(local_hub.folder, "openai/gsm8k", GSM8K_ROWS, ["main", "socratic"], ["train", "test"])
    train, test = export("openai/gsm8k", load_splits("openai/gsm8k"), tmp_path / "new" / "data")
    assert [done.path.name for done in (train, test)] == ["gsm8k_train.jsonl", "gsm8k_test.jsonl"]
    content = train.path.read_bytes()
    assert content == "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in GSM8K_ROWS).encode()
    assert str(train) == f"5 rows -> {train.path} (sha256 {hashlib.sha256(content).hexdigest()})"
    examples = load(train.path).examples
    assert [(example.question, example.answer) for example in examples] == [
        (f"What is {i} + 1? ½", str(i + 1)) for i in range(5)
    ]
    assert examples[0].steps == ("0 + 1 = <<0+1=1>>1",)
    assert len(load(test.path, "gsm8k").examples) == 4


def test_steps_stay_a_list_and_the_files_are_those_that_configurations_name(
    local_hub: Hub, tmp_path: Path
) -> None:
    put_data(local_hub.folder, "whynlp/gsm8k-aug-nl", AUG_ROWS, ["default"], ["train", "validation", "test"])
    done = export("whynlp/gsm8k-aug-nl", load_splits("whynlp/gsm8k-aug-nl"), tmp_path)
    assert [file.path.name for file in done] == [
        f"gsm8k_aug_nl_{split}.jsonl" for split in ("train", "validation", "test")
    ]
    named = (
        Path(__file__).resolve().parents[3] / "experiments/configs/kava_qwen2.5_0.5b_aug_nl.toml"
    ).read_text(encoding="utf-8")
    assert all(f'"data/{file.path.name}"' in named for file in done)
    assert [example.steps for example in load(done[0].path, "steps_json").examples] == [
        tuple(row["steps"]) for row in AUG_ROWS
    ]


def test_only_the_splits_that_are_asked_for(local_hub: Hub) -> None:
    put_data(local_hub.folder, "a/b", GSM8K_ROWS, ["default"], ["train", "test"])
    assert list(load_splits("a/b", wanted=["test"])) == ["test"]
    with pytest.raises(HubError, match=r"a/b has no split 'dev'. It has: train, test."):
        load_splits("a/b", wanted=["train", "dev"])


def test_a_missing_configuration_is_told_with_those_there_are(local_hub: Hub) -> None:
    put_data(local_hub.folder, "a/b", GSM8K_ROWS, ["main", "socratic"], ["train"])
    with pytest.raises(
        HubError, match=r"^a/b: BuilderConfig 'plain' not found. Available: \['main', 'socratic'\]"
    ):
        load_splits("a/b", "plain")
    assert (default_config("openai/gsm8k"), default_config("a/b")) == ("main", None)


def test_other_columns_are_left_out_and_an_unknown_form_is_refused(tmp_path: Path) -> None:
    rows = Dataset.from_list([{"id": 7, "answer": "#### 1", "question": "q"}])
    (done,) = export("a/b", {"train": rows}, tmp_path)
    assert done.path.read_text() == '{"question": "q", "answer": "#### 1"}\n'
    strange = {"train": rows, "test": Dataset.from_list([{"problem": "q", "solution": "1"}])}
    with pytest.raises(
        HubError,
        match=r"a/c, split test: the columns problem, solution fit no form that is written: question, "
        r"steps, answer; or",
    ):
        export("a/c", strange, tmp_path)
    assert not (tmp_path / "c_train.jsonl").exists(), "forms are looked at before anything is written"


def test_the_same_content_is_left_alone_and_other_content_is_kept_without_overwrite(tmp_path: Path) -> None:
    rows = {"train": Dataset.from_list(GSM8K_ROWS)}
    (first,) = export("a/b", rows, tmp_path)
    before = first.path.stat().st_mtime_ns
    (again,) = export("a/b", rows, tmp_path)
    assert (again.written, again.sha256, first.path.stat().st_mtime_ns) == (False, first.sha256, before)
    assert ", there already (sha256" in str(again)
    other = {"train": Dataset.from_list(GSM8K_ROWS[:2])}
    with pytest.raises(
        HubError,
        match=rf"{first.path} is there with other content. Give --overwrite to replace it, or --output_dir",
    ):
        export("a/b", other, tmp_path)
    assert len(load(first.path).examples) == 5
    (replaced,) = export("a/b", other, tmp_path, overwrite=True)
    assert (replaced.written, len(load(first.path).examples)) == (True, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["b_train.jsonl"]


def test_an_interrupted_export_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Dataset):
        def __iter__(self):  # noqa: ANN204
            yield GSM8K_ROWS[0]
            raise KeyboardInterrupt

    rows = Dataset.from_list(GSM8K_ROWS)
    rows.__class__ = Interrupted
    with pytest.raises(KeyboardInterrupt):
        export("a/b", {"train": rows}, tmp_path)
    assert list(tmp_path.iterdir()) == []
