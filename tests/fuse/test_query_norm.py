"""Standardization of question vectors, by hand, and how its statistics follow a student."""

import torch

from kvdistill.fuse.query_norm import QueryNorm, whitening


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


def test_whitened_questions_are_uncorrelated() -> None:
    """Channels x and x + y: the covariance of what comes out is the identity, but for the shrinkage."""
    points = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    mixed = torch.stack((points[:, 0], points[:, 0] + points[:, 1]), 1)
    found = (mixed - mixed.mean(0)) @ whitening(mixed)
    torch.testing.assert_close(found.T @ found / len(found), torch.eye(2), atol=0.06, rtol=0)


def test_few_questions_are_whitened_less_by_hand() -> None:
    # Covariance diag(2, .5), mean eigenvalue 1.25, distance 2 * .75^2 = 1.125. Squared lengths 4, 4, 1, 1:
    # noise (34 / 4 - 4.25) / 4 = 1.0625, so the share of the identity is .9444 and the values 1.2917, 1.2083.
    points = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    found = whitening(points).diagonal()
    torch.testing.assert_close(found[1] / found[0], torch.tensor((1.291667 / 1.208333) ** 0.5))
    torch.testing.assert_close((points @ whitening(points)).square().mean(), torch.tensor(1.0))
    # A channel that does not vary stays finite.
    assert whitening(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).isfinite().all()
