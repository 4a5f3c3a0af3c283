"""The random texts of the architecture check: only tokens without a meaning of their own."""

import torch

import pico
from kvdistill.capture.random_texts import packed_texts


def test_texts_avoid_tokens_with_a_meaning() -> None:
    model = pico.backbone("llama")
    model.config.pad_token_id, model.config.eos_token_id = 0, [2, 5]
    ids = packed_texts(model).ids
    assert not torch.isin(ids, torch.tensor([0, 2, 5])).any()
    assert len(ids.unique()) > 10
