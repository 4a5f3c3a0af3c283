"""One process asks itself; several are asked in tests/run/test_train.py, where torchrun starts them."""

import torch

from kvdistill.training.ranks import Ranks


def test_a_single_process_is_the_whole() -> None:
    alone = Ranks.here()
    assert alone == Ranks(0, 1)
    alone.wait()
    values = torch.tensor([1.0, 2.0])
    assert alone.sum(values) is values
    assert alone.largest(7) == 7
    assert alone.totals({"kv": (3.0, 2.0)}) == {"kv": (3.0, 2.0)}
