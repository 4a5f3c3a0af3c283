"""What is fitted and trained, and the term that prevents collapse."""

import pytest
import torch

from kvdistill.align.adapter_base import Block
from kvdistill.align.adapter_fitted import PENALTIES, Learned, Ridge
from kvdistill.align.adapter_fixed import GroupMean, Identity, Repeat
from kvdistill.align.head_dim_adapter import Adapter
from kvdistill.align.layer_map import LayerMap, LayerPair
from kvdistill.kv import ModelKV
from pico_align import cache, geometry, layer_kv

ONE = LayerMap((LayerPair(0, 0, 1.0),))
DRAW = torch.Generator()


def test_ridge_starts_at_0_and_learned_orthogonal() -> None:
    block = Block((2, 1), (3, 2), (0.5, 0.5), 4, 1)
    assert (block.inputs, block.outputs) == (8, 4)
    assert Ridge().start(block, DRAW).weight.eq(0).all()
    weight = Learned().start(block, DRAW).weight
    torch.testing.assert_close(weight @ weight.T, torch.eye(4), rtol=1e-5, atol=1e-5)


def test_what_is_fitted_and_what_is_trained() -> None:
    assert Ridge().penalty_grid() == Learned().penalty_grid() == PENALTIES
    assert len(PENALTIES) == 5
    for method in (Learned(initial="orthogonal"), GroupMean(), Repeat(), Identity()):
        assert method.penalty_grid() == ()
    assert [method.learns for method in (Ridge(), Learned(), GroupMean(), Repeat(), Identity())] == [
        method == 1 for method in range(5)
    ]
    for wrong in ((), (0.1, 0.0)):
        with pytest.raises(ValueError, match="have to be one or more numbers above 0"):
            Ridge(penalties=wrong)


def scalars(values: list[float]) -> ModelKV:
    states = torch.tensor(values)[None, None, :, None]
    return ModelKV((layer_kv(states, states),), (0,), "scalars")


def test_terms_by_hand() -> None:
    """The student's -1, 1 has variance 1. Halved, the error is 1/4 and the floor lacks 1/2; a constant 1."""
    student, half, none = scalars([-1.0, 1.0]), scalars([-0.5, 0.5]), scalars([0.0, 0.0])
    found = [Learned(term=term) for term in ("reconstruction", "variance_floor")]
    assert [method.regularizer(half, student).item() for method in found] == pytest.approx(
        [0.25, 0.5], abs=1e-5
    )
    assert [method.regularizer(none, student).item() for method in found] == pytest.approx([1, 1], abs=2e-3)
    assert [method.regularizer(student, student).item() for method in found] == [0, 0]
    # The floor has no upper side, and the weight multiplies.
    assert Learned(term="variance_floor").regularizer(scalars([-3.0, 3.0]), student).item() == 0
    assert Learned(weight=4.0).regularizer(half, student).item() == pytest.approx(1)
    assert Ridge().regularizer(half, student).item() == 0


def test_the_error_over_the_calibrated_deviation_is_a_mean_over_samples() -> None:
    """Errors of 1 and 3 with a deviation of 2: (1/4 + 9/4) / 2; samples apart give the same."""
    moved = layer_kv(torch.tensor([1.0, 3.0]).view(2, 1, 1, 1), torch.tensor([1.0, 3.0]).view(2, 1, 1, 1))
    own = layer_kv(torch.zeros(2, 1, 1, 1), torch.zeros(2, 1, 1, 1))
    both, zero = (ModelKV((layer,), (0,), "x") for layer in (moved, own))
    scale = torch.tensor([[2.0, 2.0]])
    term = Learned().regularizer(both, zero, scale)
    assert float(term) == pytest.approx(1.25)
    apart = []
    for row in range(2):
        pair = [
            ModelKV((layer.map_slots(lambda tensor, row=row: tensor[row : row + 1]),), (0,), "x")
            for layer in (moved, own)
        ]
        apart.append(float(Learned().regularizer(*pair, scale)))
    assert sum(apart) / 2 == pytest.approx(1.25)


def test_padding_and_uncovered_tokens_take_no_part_in_the_term() -> None:
    shape, mask = geometry(1, 2, 3, 3), torch.tensor([[True, True, True, False]])
    moved, student = cache(shape, 1, 4, mask), cache(shape, 1, 4)
    wanted = [Learned(term=term).regularizer(moved, student) for term in ("reconstruction", "variance_floor")]
    for layer in moved.layers:
        layer.keys[:, :, 3], layer.values[:, :, 3] = torch.nan, torch.nan
    found = [Learned(term=term).regularizer(moved, student) for term in ("reconstruction", "variance_floor")]
    assert found == wanted
    assert Learned().regularizer(scalars([1.0]), scalars([2.0])).item() == 0


@pytest.mark.parametrize(
    ("method", "kept"),
    [
        (Learned(weight=0.0), False),
        (Learned(weight=1.0), True),
        (Learned(weight=1.0, term="variance_floor"), True),
    ],
    ids=["no term", "reconstruction", "variance floor"],
)
def test_without_the_term_a_trained_adapter_collapses(method: Learned, kept: bool) -> None:
    """A student that cannot tell samples apart fits best what does not differ between them."""
    ours, theirs = geometry(1, 1, 3, 3), geometry(1, 2, 4, 4)
    adapter, mixing = Adapter(ours, theirs, ONE, method), torch.randn(8, 3)
    latent = torch.nn.Parameter(torch.randn(3))
    optimizer = torch.optim.Adam([latent, *adapter.parameters()], lr=0.05)
    teacher = cache(theirs, 16, 4)
    keys = teacher.layers[0].keys.transpose(1, 2).flatten(2) @ mixing
    student = ModelKV((layer_kv(keys[:, None], keys[:, None]),), (0,), "a student")
    variance = student.layers[0].keys.var((0, 1, 2), correction=0).mean()
    for _ in range(120):
        moved = adapter.move(teacher)
        states = torch.stack((moved.layers[0].keys, moved.layers[0].values))
        loss = (states - latent).square().mean() / variance
        optimizer.zero_grad()
        # With s the share of the student's spread, s² / 2 + (1 - s)² is least at 2/3, s² / 2 + (1 - s) at 1.
        (0.5 * loss + adapter.regularizer(moved, student)).backward()
        optimizer.step()
    stds = [kv.layers[0].keys.std((0, 1, 2)) for kv in (adapter.move(teacher), student)]
    share = (stds[0] / stds[1]).mean()
    assert (share > 0.6) == kept
    assert kept or share < 0.05
