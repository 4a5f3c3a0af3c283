import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from huggingface_hub.utils import httpx

from kvdistill.data.hub import Hub, read_hub
from kvdistill.data.rows import BadRow, DataError, Row

CARD = """---
configs:
- config_name: main
  data_files: [{split: train, path: main/train.jsonl}, {split: test, path: main/test.jsonl}]
- config_name: other
  data_files: [{split: train, path: other/train.jsonl}]
---
"""


@pytest.fixture(scope="module")
def folder(session_tmp: Path) -> Path:
    """A data set laid out as on the hub: two configurations of different forms, and a row without answer."""
    root = session_tmp / "hub" / "gsm-mini"
    for name in ("main", "other"):
        (root / name).mkdir(parents=True)
    (root / "README.md").write_text(CARD, encoding="utf-8")
    rows = [{"question": f"q{i}?", "answer": f"so\n#### {i:,}"} for i in range(5)]
    rows[3]["answer"] = "3"
    for split in ("train", "test"):
        (root / f"main/{split}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
        )
    (root / "other/train.jsonl").write_text(
        '{"question": "q", "steps": ["a"], "answer": "1"}\n', encoding="utf-8"
    )
    return root


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, session_tmp: Path) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", session_tmp / "hub-cache")


def test_rows_by_name_configuration_and_split(folder: Path) -> None:
    loaded = read_hub(Hub(name=str(folder), config="main"))
    assert [(e.sample_id, e.answer) for e in loaded.examples] == [
        (f"gsm-mini-train:{i + 1}", str(i)) for i in (0, 1, 2, 4)
    ]
    (bad,) = loaded.bad
    assert bad.where == f"{folder} (main, train), row 4"
    assert bad.text == '{"question": "q3?", "answer": "3"}'
    (example,) = read_hub(Hub(name=str(folder), config="other")).examples
    assert (example.steps, example.answer) == (("a",), "1")
    assert read_hub(Hub(name=str(folder), config="other"), "gsm8k_eq").examples == [example]


def test_streamed_rows_are_the_same_and_go_on_anywhere(folder: Path) -> None:
    hub = Hub(name=str(folder), config="main")
    whole = list(hub.rows())
    assert [row.where for row, _ in whole] == [
        f"{folder} (main, train), row {number}" for number in range(1, 6)
    ]
    assert all(isinstance(row, Row) for row, _ in whole)
    for done, (_, state) in enumerate(whole, start=1):
        kept = json.loads(json.dumps(state))
        assert [row for row, _ in hub.rows(kept)] == [row for row, _ in whole[done:]]
    with pytest.raises(
        DataError,
        match=r"\(other, train\): the reading to be continued was of .*\(main, train\). Name that data set "
        r"again",
    ):
        next(Hub(name=str(folder), config="other").rows(whole[0][1]))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("name", "config", "split", "says"),
    [
        (
            "",
            None,
            "train",
            "the data set has several configurations. Choose 'main', 'other' as its config "
            "(--dataset_config).",
        ),
        (
            "",
            "man",
            "train",
            "there is no configuration 'man'. Choose 'main', 'other' as its config (--dataset_config).",
        ),
        ("", "main", "trian", "there is no split 'trian'"),
        (
            "/nothing",
            "main",
            "train",
            "there is no such data set here. Check the name, or the path of the folder.",
        ),
    ],
)
def test_what_is_not_there_is_listed(
    folder: Path, name: str, config: str | None, split: str, says: str, streaming: bool
) -> None:
    hub = Hub(name=f"{folder}{name}", config=config, split=split)
    with pytest.raises(DataError) as error:
        hub.open(streaming)
    assert str(error.value).startswith(f"{folder}{name} ({f'{config}, ' if config else ''}{split}): {says}")
    assert "trian" not in split or "Choose 'train', 'test' as its split (--dataset_split)." in str(
        error.value
    )


def test_a_data_set_that_is_not_here_cannot_be_had_offline() -> None:
    with pytest.raises(
        DataError,
        match=r"^openai/gsm8k \(main, train\): the hub cannot be reached .*unset HF_HUB_OFFLINE, or name a "
        r"folder",
    ):
        read_hub(Hub(name="openai/gsm8k", config="main"))


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (httpx.ConnectError("no route"), "the hub cannot be reached (no route). Connect to the network"),
        (
            DatasetNotFoundError("Dataset 'a/b' is a gated dataset on the Hub. You must be authenticated"),
            "log in with `hf auth login`.",
        ),
        (
            DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub or cannot be accessed."),
            "there is no such data set, or it is private.",
        ),
        (
            RuntimeError("Dataset scripts are no longer supported, but found b.py"),
            "needs code of its own to be read, which is never run.",
        ),
        (
            DatasetGenerationError("An error occurred"),
            "the data set cannot be read (An error occurred). Check its files",
        ),
    ],
)
def test_what_goes_wrong_is_said_in_words(
    monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    def fail(*arguments: Any, **settings: Any) -> None:
        assert arguments == ("a/b", None)
        assert settings == {"split": "train", "streaming": True}
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError) as found:
        Hub(name="a/b").open(streaming=True)
    assert str(found.value).startswith("a/b (train): ")
    assert says in str(found.value)


def test_an_empty_data_set_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list([]))
    with pytest.raises(DataError, match=r"a/b \(train\): none of its 0 rows can be used. There are none"):
        read_hub(Hub(name="a/b"))


def test_rows_of_the_hub_are_no_files() -> None:
    bad = Hub(name="a/b").origin.row(2, [1])
    assert isinstance(bad, BadRow)
    assert bad.where == "a/b (train), row 2"


def test_a_missing_extra_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvdistill.console.extras.find_spec", lambda name: None)
    with pytest.raises(DataError) as caught:
        read_hub(Hub(name="some/rows"))
    assert str(caught.value) == (
        "some/rows (train): a data set of the hub needs an extra: datasets is not installed. Run: "
        "pip install 'kvdistill[hub]'"
    )
