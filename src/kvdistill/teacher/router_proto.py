"""Prototypes of teachers: the questions that each is good at, in the student's space."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from kvdistill.console.extras import require_extra
from kvdistill.text import QuestionRead

PROTOTYPES = "prototypes.safetensors"
"""Name of the file in a run folder."""
FORMAT = 2
CHANCE = 4.0
"""Squared length below which a mean of questions is chance, in units of what is expected by chance."""
SAMPLES = 256
"""Questions per step of the clustering."""


@dataclass(frozen=True, slots=True)
class Prototypes:
    """Prototypes of E teachers, with the statistics of the questions that they were made from."""

    vectors: Float[Tensor, "E P D"]
    """Of whitened questions, whose usual length is 1."""
    mass: Float[Tensor, "E P"]
    """Share of the calibration questions that each counts for, weighted by competence."""
    mean: Float[Tensor, " D"]
    """Of each channel of the questions' last tokens."""
    std: Float[Tensor, " D"]
    whitening: Float[Tensor, "D D"]
    """Multiplies a standardized question."""


def weighted_means(
    questions: Float[Tensor, "N D"], competence: Float[Tensor, "N E"]
) -> tuple[Float[Tensor, "E 1 D"], Float[Tensor, "E 1"]]:
    """One prototype per teacher: the mean of the questions, weighted by its competence.

    A mean that is no longer than chance makes it becomes 0, and others are shortened by the same measure: a
    teacher whose competence does not depend on the question is alike to none.

    Args:
        questions: (N, D), question vectors of mean 0.
        competence: (N, E), 0 or more.

    Returns:
        Prototypes (E, 1, D) and the mean competence of each teacher (E, 1).

    Source: ours; the positive-part estimator of https://doi.org/10.2307/2284155.
    """
    total = competence.sum(0).clamp_min(1e-12)
    shares = competence / total
    # (E, N) @ (N, D) -> (E, D)
    means = shares.T @ questions
    # Squared length of such a mean where competence and questions are unrelated: the variance of the shares,
    # times the squared length of a question.
    chance = (shares.square().sum(0) - 1 / len(questions)) * questions.square().sum(-1).mean()
    excess = 1 - CHANCE * chance.clamp_min(0) / means.square().sum(-1).clamp_min(1e-12)
    return (means * excess.clamp_min(0)[:, None])[:, None], competence.mean(0)[:, None]


def weighted_clusters(
    questions: Float[Tensor, "N D"], competence: Float[Tensor, "N E"], clusters: int, seed: int = 0
) -> tuple[Float[Tensor, "E P D"], Float[Tensor, "E P"]]:
    """Several prototypes per teacher: k-means of the questions, weighted by its competence.

    Args:
        questions: (N, D), whitened question vectors; at least ``clusters``.
        competence: (N, E), 0 or more.
        clusters: P, prototypes per teacher.
        seed: Seed of the clustering, the same for every teacher.

    Returns:
        Prototypes (E, P, D), and the competence in each cluster, over N (E, P).

    Raises:
        ValueError: if there are fewer questions than clusters.

    Source: mini-batch k-means, https://doi.org/10.1145/1772690.1772862; the weights: ours.
    """
    if len(questions) < clusters:
        raise ValueError(
            f"fusion.clusters is {clusters}, and there are only {len(questions)} calibration questions: "
            "lower it, or give more training data."
        )
    require_extra("routing", "fusion.prototypes kmeans")
    # Only this needs scikit-learn, and it loads slowly.
    from sklearn.cluster import MiniBatchKMeans

    points = questions.double().numpy()
    vectors, mass = [], []
    for weights in competence.double().T:
        model = MiniBatchKMeans(clusters, random_state=seed, n_init=3)  # pyright: ignore[reportArgumentType]
        # The first part fills every cluster, so it holds at least as many questions.
        size = max(SAMPLES, clusters)
        for start in range(0, max(len(points) - clusters + 1, 1), size):
            stop = start + size
            model.partial_fit(points[start:stop], sample_weight=weights[start:stop].numpy())
        vectors.append(torch.from_numpy(model.cluster_centers_).to(questions))
        nearest = torch.from_numpy(model.predict(points)).long()
        held = torch.zeros(clusters, dtype=torch.double).index_add_(0, nearest, weights)
        mass.append((held / len(points)).to(questions))
    return torch.stack(vectors), torch.stack(mass)


def make_prototypes(
    kind: Literal["mean", "cls", "kmeans"],
    questions: Float[Tensor, "N D"],
    competence: Float[Tensor, "N E"],
    clusters: int,
    seed: int = 0,
) -> tuple[Float[Tensor, "E P D"], Float[Tensor, "E P"]]:
    """Prototypes of E teachers from calibration questions.

    Args:
        kind: ``mean`` (``questions`` are means over tokens), ``cls`` (they are last tokens) or ``kmeans``.
        questions: (N, D), whitened question vectors.
        competence: (N, E), 0 or more.
        clusters: Prototypes per teacher with ``kmeans``.
        seed: Seed of the clustering.

    Returns:
        Prototypes (E, P, D) and their mass (E, P).
    """
    if kind == "kmeans":
        return weighted_clusters(questions, competence, clusters, seed)
    return weighted_means(questions, competence)


def write_prototypes(
    path: Path, found: Prototypes, student: Mapping[str, Any], teachers: Sequence[str], read: QuestionRead
) -> None:
    """Write prototypes with what they belong to.

    Args:
        path: The file.
        found: The prototypes.
        student: What identifies the student, as JSON holds it.
        teachers: Short names, in the order of the prototypes.
        read: Which of the student's keys are the question's vector.
    """
    tensors = {name: getattr(found, name).detach().cpu().contiguous() for name in Prototypes.__slots__}
    about = {"format": FORMAT, "student": student, "teachers": list(teachers), **read._asdict()}
    save_file(tensors, path, metadata={"about": json.dumps(about)})


def read_prototypes(
    path: Path, student: Mapping[str, Any], teachers: Sequence[str], read: QuestionRead
) -> Prototypes:
    """Read prototypes of the same student, teachers and layer.

    Args:
        path: The file, or its folder.
        student: What identifies the student of this run.
        teachers: Short names, in the order of this run.
        read: Which of the student's keys are the question's vector in this run.

    Returns:
        The prototypes, in the order of ``teachers``.

    Raises:
        ValueError: if the file is missing or damaged, or belongs to another student, layer or teachers.
    """
    if path.is_dir():
        path = path / PROTOTYPES
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            tensors = {name: file.get_tensor(name) for name in Prototypes.__slots__}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no prototypes ({error}). Name {PROTOTYPES} of a run.") from error
    for name, here in {"student": dict(student), **read._asdict()}.items():
        if about.get(name) != here:
            raise ValueError(
                f"{path}: these prototypes were made with another {name} than this run's, so their question "
                "vectors cannot be compared. Leave fusion.prototype_file out to make new ones."
            )
    if sorted(about["teachers"]) != sorted(teachers):
        raise ValueError(
            f"{path} has prototypes of {', '.join(about['teachers'])}, and the teachers here are "
            f"{', '.join(teachers)}. Leave fusion.prototype_file out to make new ones."
        )
    order = [about["teachers"].index(name) for name in teachers]
    for name in ("vectors", "mass"):
        tensors[name] = tensors[name][order]
    return Prototypes(**tensors)
