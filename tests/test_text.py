"""What a batch is, and that it moves whole."""

from dataclasses import fields

import torch

import pico
from kvdistill.text import Padded


def test_lengths_count_tokens_and_not_padding() -> None:
    part = Padded(
        torch.tensor([[5, 6, 0], [7, 0, 0]]), torch.tensor([[True, True, False], [True, False, False]])
    )
    assert part.lengths.tolist() == [2, 1]
    assert Padded(
        torch.zeros(2, 0, dtype=torch.long), torch.zeros(2, 0, dtype=torch.bool)
    ).lengths.tolist() == [0, 0]


def test_a_batch_moves_with_every_tensor_and_keeps_its_names() -> None:
    batch = pico.batch(pico.samples(3))
    moved = batch.to("meta")
    assert len(batch) == len(moved) == 3
    assert moved.sample_ids == ("0", "1", "2")
    for field in fields(batch):
        value, there = getattr(batch, field.name), getattr(moved, field.name)
        if isinstance(value, Padded):
            assert (there.ids.device.type, there.mask.device.type) == ("meta", "meta")
            assert there.ids.shape == value.ids.shape
            assert value.ids.device.type == "cpu"
        elif isinstance(value, torch.Tensor):
            assert there.device.type == "meta"
            assert (there.shape, there.dtype) == (value.shape, value.dtype)


def test_moving_to_where_it_is_changes_nothing() -> None:
    batch = pico.batch(pico.samples(2))
    same = batch.to(torch.device("cpu"), non_blocking=True)
    assert torch.equal(same.cot.ids, batch.cot.ids)
    assert torch.equal(same.step_end, batch.step_end)
