"""Standardization of question vectors, by hand, and how its statistics follow a student."""

import torch

from kvdistill.fuse.query_norm import QueryNorm


def test_queries_are_standardized_and_constant_channels_are_zero() -> None:
    norm = QueryNorm(2)
    norm.fit(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    torch.testing.assert_close(norm(torch.tensor([[4.0, 6.0]])), torch.tensor([[2.0, 0.0]]))


def test_statistics_follow_the_student_over_all_processes() -> None:
    old, batch = torch.randn(50, 2), 3 + 2 * torch.randn(50, 2)
    norm = QueryNorm(2)
    norm.fit(old)
    norm.observe(batch)
    # The mean of a mixture of 70 % old and 30 % new, and its deviation.
    mean = 0.7 * old.mean(0) + 0.3 * batch.mean(0)
    square = 0.7 * old.square().mean(0) + 0.3 * batch.square().mean(0)
    torch.testing.assert_close(norm.mean, mean)
    torch.testing.assert_close(norm.std, (square - mean.square()).sqrt(), atol=1e-4, rtol=1e-4)
    half = QueryNorm(2)
    half.fit(old)
    offset = batch - old.mean(0)
    whole = torch.stack((offset.sum(0), offset.square().sum(0), torch.full((2,), 50.0)))
    half.observe(batch[:10], lambda _: whole)
    torch.testing.assert_close(half.mean, norm.mean)
