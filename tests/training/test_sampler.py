"""The order of the samples is a function of seed and epoch, whoever drives it."""

from dataclasses import replace
from functools import cache

import torch
from accelerate.data_loader import prepare_data_loader
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import pico_trained
from kvdistill.data.batches import length_batches
from kvdistill.data.encode import num_tokens
from kvdistill.text import Encoded
from kvdistill.training.sampler import LengthSampler


@cache
def some_sample() -> Encoded:
    return pico_trained.samples(pico_trained.student())[0]


def samples(lengths: list[int]) -> list[Encoded]:
    """Samples whose questions are so many words long."""
    question = some_sample().question
    return [replace(some_sample(), question=replace(question, ids=(3,) * length)) for length in lengths]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(1, 9), st.integers(0, 3), st.integers(0, 3))
def test_every_index_stands_once_in_an_order_that_seed_and_epoch_decide(lengths: list[int], size: int, seed: int, epoch: int) -> None:
    sampler = LengthSampler(samples(lengths), size, seed)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert sorted(order) == list(range(len(sampler))) == list(range(len(lengths)))
    torch.rand(1)
    again = LengthSampler(samples(lengths), size, seed)
    again.set_epoch(epoch)
    assert list(again) == order == list(sampler)


def test_batches_hold_samples_of_one_length() -> None:
    lengths = [1, 5, 9] * 8
    sampler = LengthSampler(samples(lengths), 4, seed=0)
    order = list(sampler)
    batches = [{lengths[index] for index in order[start : start + 4]} for start in range(0, 24, 4)]
    assert all(len(batch) == 1 for batch in batches)
    assert order != sorted(order)
    sampler.set_epoch(1)
    assert list(sampler) != order


def test_two_processes_share_the_order_of_the_epoch_that_accelerate_names() -> None:
    data = samples([1, 2, 3, 4] * 6)
    loaders = []
    for rank in range(2):
        loader = DataLoader(range(24), batch_size=4, sampler=LengthSampler(data, 4, seed=7))  # pyright: ignore[reportArgumentType]
        loaders.append(prepare_data_loader(loader, num_processes=2, process_index=rank))
    expected = length_batches([num_tokens(sample) for sample in data], 4, 7, 3)
    for rank, loader in enumerate(loaders):
        loader.set_epoch(3)
        assert [batch.tolist() for batch in loader] == expected[rank::2]
