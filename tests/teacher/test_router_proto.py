"""Prototypes: weighted means by hand, clusters that are found again, files of other students refused."""

from pathlib import Path

import pytest
import torch

from kvdistill.teacher.router_proto import (
    PROTOTYPES,
    Prototypes,
    make_prototypes,
    read_prototypes,
    weighted_clusters,
    write_prototypes,
)
from kvdistill.text import QuestionRead

STUDENT = {"layers": [[0, 1, 2, 2]], "weights": "float32:1"}


def test_weighted_means_by_hand() -> None:
    """Eight questions at 1 and eight at -1, weighed .75 and .25 by the first teacher and the other way."""
    questions = torch.tensor([[1.0]] * 8 + [[-1.0]] * 8)
    competence = torch.tensor([[0.75, 0.25]] * 8 + [[0.25, 0.75]] * 8)
    vectors, mass = make_prototypes("cls", questions, competence, 8)
    # Means .75 - .25 = .5 and -.5. Shares .75 / 8 and .25 / 8: sum of squares .625 / 8 = .078125, less the
    # 1 / 16 of equal ones: .015625 by chance. Left of the mean: 1 - 4 * .015625 / .25 = .75.
    torch.testing.assert_close(vectors[:, 0], torch.tensor([[0.375], [-0.375]]))
    torch.testing.assert_close(mass, torch.tensor([[0.5], [0.5]]))


def test_means_that_chance_makes_are_zero() -> None:
    questions = torch.randn(200, 8, generator=torch.Generator().manual_seed(0)) / 8**0.5
    questions -= questions.mean(0)
    good = (torch.arange(200) % 2 == 0).float()
    competence = torch.stack((0.12 + 0.76 * good, 0.88 - 0.76 * good), 1)
    vectors, _ = make_prototypes("mean", questions, competence, 8)
    assert not vectors.any()


def test_clusters_are_the_questions_that_a_teacher_is_good_at() -> None:
    generator = torch.Generator().manual_seed(0)
    centers = torch.tensor([[0.0, 8.0], [8.0, 0.0], [-8.0, -8.0]])
    kinds = torch.arange(300) % 3
    questions = centers[kinds] + torch.randn(300, 2, generator=generator)
    competence = torch.stack([(kinds == 0), (kinds != 0)], 1).double().clamp(0.01, 0.99).float()
    vectors, mass = weighted_clusters(questions, competence, 3)
    for teacher in range(2):
        nearest = torch.cdist(vectors[teacher], centers).argmin(1)
        # Clusters that hold hardly any weight may be anywhere.
        good = mass[teacher][(nearest == 0) == (teacher == 0)].sum()
        assert good.item() == pytest.approx((0.33, 0.66)[teacher], abs=0.02)
        heaviest = mass[teacher].argmax()
        assert (nearest[heaviest] == 0) == (teacher == 0)


def test_equal_teachers_have_equal_prototypes() -> None:
    questions = torch.randn(40, 3)
    for kind in ("cls", "mean", "kmeans"):
        vectors, mass = make_prototypes(kind, questions, torch.full((40, 2), 0.5), 4)
        assert torch.equal(vectors[0], vectors[1])
        assert torch.equal(mass[0], mass[1])


def test_too_few_questions_for_the_clusters_are_refused() -> None:
    with pytest.raises(ValueError, match="only 2 calibration questions"):
        weighted_clusters(torch.randn(2, 3), torch.ones(2, 2), 3)


def test_files_are_read_in_the_order_of_the_teachers_and_refused_otherwise(tmp_path: Path) -> None:
    found = Prototypes(torch.randn(2, 1, 4), torch.rand(2, 1), torch.zeros(4), torch.ones(4), torch.eye(4))
    write_prototypes(tmp_path / PROTOTYPES, found, STUDENT, ("a", "b"), QuestionRead(1))
    read = read_prototypes(tmp_path, STUDENT, ("b", "a"), QuestionRead(1))
    assert torch.equal(read.vectors, found.vectors.flip(0))
    for student, teachers, read_here, message in (
        (STUDENT | {"weights": "float32:2"}, ("a", "b"), QuestionRead(1), "another student"),
        (STUDENT, ("a", "b"), QuestionRead(2), "another layer"),
        (STUDENT, ("a", "c"), QuestionRead(1), "the teachers here are a, c"),
    ):
        with pytest.raises(ValueError, match=message):
            read_prototypes(tmp_path, student, teachers, read_here)
    (tmp_path / PROTOTYPES).write_bytes(b"not a file of tensors")
    with pytest.raises(ValueError, match="holds no prototypes"):
        read_prototypes(tmp_path, STUDENT, ("a", "b"), QuestionRead(1))
