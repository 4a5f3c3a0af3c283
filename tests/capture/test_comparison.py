"""The comparison itself: it notices a small change of any kind, and nothing else."""

import pytest
import torch
from torch import nn

import pico
from kvdistill.capture.attention import CaptureError
from kvdistill.capture.comparison import EXACT, Comparison, first_line
from kvdistill.capture.random_texts import packed_texts


def comparison(name: str = "llama") -> Comparison:
    return Comparison(pico.backbone(name), packed_texts(pico.backbone(name)), embedded=True)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3", "qwen3"])
def test_captured_calls_equal_plain_ones(name: str) -> None:
    with torch.no_grad():
        check = comparison(name)
        assert check.position_offset("sdpa") == 0
        check.prefix_call(check.packed_call(0))
        check.free_embeddings()


def test_a_leak_along_the_row_is_noticed() -> None:
    """A layer that adds a little of the column before: right for one text alone, wrong across padding and
    segments.
    """

    class Leak(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            out = self.inner(hidden)
            out[:, 1:] += 0.05 * hidden[:, :-1]
            return out

    model = pico.backbone("llama")
    model.model.layers[0].mlp = Leak(model.model.layers[0].mlp)  # pyright: ignore
    with torch.no_grad():
        check = Comparison(model, packed_texts(model), embedded=True)
        with pytest.raises(
            CaptureError, match=r"hidden states differ when texts are packed and padded \(relative difference"
        ):
            check.packed_call(0)


def test_another_head_is_noticed() -> None:
    model = pico.backbone("llama")
    with torch.no_grad():
        check = Comparison(model, packed_texts(model), embedded=True)
        check.head(model.lm_head)  # pyright: ignore
        with pytest.raises(CaptureError, match="scales or changes its logits"):
            check.head(lambda rows: 1.01 * model.lm_head(rows))  # pyright: ignore


def test_differences_by_hand() -> None:
    model = pico.backbone("llama")
    check = Comparison(model, packed_texts(model), embedded=True)
    rows = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    check.require("nothing", [(rows, rows), (rows + EXACT, rows)])
    for wrong in (rows + 0.01, rows.where(rows != 0, torch.nan), rows[:1]):
        with pytest.raises(CaptureError, match="something"):
            check.require("something", [(rows, rows), (wrong, rows)])


def test_the_first_line_of_an_error() -> None:
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(KeyError()) == "KeyError"
