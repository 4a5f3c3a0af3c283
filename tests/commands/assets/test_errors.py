from collections.abc import Callable

import pytest
from datasets import load_dataset
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import httpx

from kvdistill.commands.assets.errors import RESUME, HubError, in_words
from kvdistill.commands.assets.hub import find_data, find_model
from kvdistill.console.exits import exit_code
from pico_hub import Hub, put_data, put_model


def told(find: Callable[..., object], *arguments: str) -> str:
    """What a user reads where a model or data set cannot be had."""
    with pytest.raises(HubError) as caught:
        find(*arguments)
    return str(caught.value)


def test_a_gated_model_says_where_to_accept_and_how_to_log_in(local_hub: Hub) -> None:
    put_model(local_hub.folder, "meta/llama", {"config.json": b"{}"})
    local_hub.gated.add("meta/llama")
    sentence = told(find_model, "meta/llama")
    assert sentence.startswith(
        f"meta/llama is gated. Accept its licence at {local_hub.url}/meta/llama with your account, log in "
        "here with"
    )
    assert "`hf auth login`" in sentence


def test_a_gated_data_set_is_recognised_in_the_words_of_datasets(local_hub: Hub) -> None:
    put_data(local_hub.folder, "some/rows", [{"question": "q", "answer": "a"}], ["main"], ["train"])
    local_hub.gated.add("some/rows")
    with (
        pytest.raises(
            HubError, match=rf"some/rows is gated. Accept its licence at {local_hub.url}/datasets/some/rows"
        ),
        in_words("dataset", "some/rows"),
    ):
        load_dataset("some/rows", "main")


@pytest.mark.parametrize("wrong", ["Qwen/Qwen2.5-7B-Instrct", "Qwem/Qwen2.5-7B-Instruct"])
def test_a_misspelt_name_gets_the_nearest(local_hub: Hub, wrong: str) -> None:
    put_model(local_hub.folder, "Qwen/Qwen2.5-7B-Instruct", {"config.json": b"{}"})
    assert told(find_model, wrong) == (
        f"The hub shows no model {wrong}. Did you mean Qwen/Qwen2.5-7B-Instruct? Check the spelling "
        "(owner/name); if it is private, "
        "log in with `hf auth login`."
    )


def test_a_name_that_resembles_nothing_gets_no_guess(local_hub: Hub) -> None:
    assert told(find_data, "who/ever").startswith("The hub shows no data set who/ever. Check the spelling")


def test_a_missing_revision_is_named(local_hub: Hub) -> None:
    put_model(local_hub.folder, "a/b", {"config.json": b"{}"})
    assert (
        f"a/b has no such revision (404 Client Error.). Look at {local_hub.url}/a/b, or leave --revision out"
        in told(find_model, "a/b", "v9")
    )


def test_what_is_no_name_is_told_with_an_example() -> None:
    assert told(find_model, "a b/c").startswith(
        "'a b/c' is no name of the hub (Repo id must use alphanumeric chars"
    )


def test_a_hub_that_is_not_there_and_offline_mode_differ(
    local_hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert told(find_model, "a/b").startswith(
        "a/b: http://127.0.0.1:9 cannot be reached ([Errno 111] Connection refused). Check the network"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    offline = "a/b cannot be fetched: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set. Where there is a network"
    assert told(find_model, "a/b").startswith(offline)
    with pytest.raises(HubError, match=offline), in_words("model", "a/b"):
        snapshot_download("a/b")


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(401, "Log in again with `hf auth login`, and run"), (503, "Wait a little, and run")],
)
def test_a_refusal_says_what_helps(status: int, remedy: str) -> None:
    response = httpx.Response(status, request=httpx.Request("GET", "http://hub"))
    with pytest.raises(HubError) as caught, in_words("model", "a/b"):
        raise HfHubHTTPError(f"{status} refused\nmore", response=response)
    assert str(caught.value).startswith(
        f"a/b: the hub refused ({status} refused). {remedy} the same command again"
    )


def test_a_full_disk_keeps_its_own_words() -> None:
    with (
        pytest.raises(HubError, match=r"^a/b: \[Errno 28\] No space left on device$"),
        in_words("model", "a/b"),
    ):
        raise OSError(28, "No space left on device")


def test_errors_of_the_program_pass_through() -> None:
    with pytest.raises(KeyError), in_words("model", "a/b"):
        raise KeyError("broken")


def test_an_error_of_the_hub_ends_a_script_with_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        find_model("a b/c")

    assert exit_code("x.py", work, RESUME) == 2
    assert capsys.readouterr().err.startswith("x.py: 'a b/c' is no name of the hub")
