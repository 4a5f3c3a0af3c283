"""Linear CKA by hand and by its slow definition, and the layers it pairs."""

import pytest
import torch

from kvdistill.align.cka import CKA, LayerSimilarity
from kvdistill.align.layer_map import LayerPair
from kvdistill.kv import Geometry, LayerGeometry, ModelKV
from pico_align import cache, flat, geometry, mapped

STUDENT, TEACHER = geometry(2, 2, 3, 2), geometry(3, 1, 4, 5)


def measured(ours, theirs, student=STUDENT, teacher=TEACHER) -> torch.Tensor:
    found = LayerSimilarity(student, teacher)
    found.add(theirs, ours)
    return found.similarity()


def slow(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """From the centered Gram matrices, one entry for each pair of tokens."""
    x, y = (each.double() - each.double().mean(0) for each in (x, y))
    left, right = x @ x.T, y @ y.T
    return (left * right).sum() / (left.norm() * right.norm())


def test_equal_to_the_definition_with_gram_matrices() -> None:
    mask = torch.rand(4, 7) > 0.3
    ours, theirs = cache(STUDENT, 4, 7, mask), cache(TEACHER, 4, 7)
    found = measured(ours, theirs)
    for i in range(2):
        for j in range(3):
            wanted = [
                slow(flat(ours, (i,), n)[mask], flat(theirs, (j,), n)[mask]) for n in ("keys", "values")
            ]
            torch.testing.assert_close(found[i, j], sum(wanted) / 2)


def test_by_hand() -> None:
    """Centered x = (-1, 0, 1) and y = (1, -2, 1) have the product 0; z = (-2, 1, 1) with x 3: 9 / (2 * 6)."""
    one = geometry(1, 1, 1, 1)

    def scalar(values: list[float]) -> ModelKV:
        return mapped(cache(one, 1, 3), one, lambda *_: torch.tensor(values)[None, :, None])

    x = scalar([4.0, 5.0, 6.0])
    assert measured(x, scalar([1.0, -2.0, 1.0]), one, one).item() == pytest.approx(0, abs=1e-12)
    assert measured(x, scalar([0.0, 3.0, 3.0]), one, one).item() == pytest.approx(0.75)
    assert measured(x, scalar([-8.0, -10.0, -12.0]), one, one).item() == pytest.approx(1)
    assert measured(x, scalar([0.1, 0.1, 0.1]), one, one).item() == 0


def test_halves_of_the_samples_sum_to_all() -> None:
    parts = [(cache(STUDENT), cache(TEACHER)) for _ in range(2)]
    both, one, other = (LayerSimilarity(STUDENT, TEACHER) for _ in range(3))
    for ours, theirs in parts:
        both.add(theirs, ours)
    one.add(parts[0][1], parts[0][0])
    other.add(parts[1][1], parts[1][0])
    # A stand-in for two processes: the tensors of the other one, in the order in which they are summed.
    sent: list[torch.Tensor] = []
    other.all_reduce(lambda tensor: sent.append(tensor) or tensor)
    one.all_reduce(lambda tensor: tensor + sent.pop(0))
    torch.testing.assert_close(one.similarity(), both.similarity())


def test_memory_is_known_beforehand() -> None:
    found = LayerSimilarity(STUDENT, TEACHER)
    held = [found.count, *(x for which in range(2) for x in found.sums[which] + found.own[which])]
    held += [x for rows in found.cross for row in rows for x in row]
    assert LayerSimilarity.bytes_needed(STUDENT, TEACHER) == sum(x.nbytes for x in held)


def test_the_two_most_similar_are_paired_by_hand() -> None:
    found = CKA().pair(STUDENT, TEACHER, torch.tensor([[0.75, 0.125, 0.25], [0.0, 0.0, 0.0]]))
    assert found.of(0) == (LayerPair(0, 0, 0.75), LayerPair(0, 2, 0.25))
    assert found.of(1) == (LayerPair(1, 0, 0.5), LayerPair(1, 1, 0.5))
    assert CKA.needs_similarity


def test_the_second_is_of_the_kind_of_the_first() -> None:
    full, sliding = (LayerGeometry(1, 2, 2, None, "none", window=window) for window in (None, 8))
    teacher = Geometry((full, sliding, full))
    found = CKA().pair(geometry(1, 1, 2, 2), teacher, torch.tensor([[0.1, 0.5, 0.3]]))
    assert found.pairs == (LayerPair(0, 1, 1.0),)


def test_without_measurements_it_is_refused() -> None:
    with pytest.raises(ValueError, match="layers.kind cka: .* none was measured. Set bridge.kind to lower"):
        CKA().pair(STUDENT, TEACHER)
    with pytest.raises(ValueError, match="0 tokens for calibration are covered"):
        LayerSimilarity(STUDENT, TEACHER).similarity()
