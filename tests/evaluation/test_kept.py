"""What compressors keep: by hand on caches whose kept positions are known, and on embedded tasks."""

import math
from dataclasses import dataclass, replace
from statistics import mean

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

import pico_students
from kvdistill.compress import (
    RKV,
    Compressor,
    Full,
    FullResampled,
    Random,
    RightCrop,
    ScoreCompressor,
    StepEnd,
    Uniform,
)
from kvdistill.data import Chain, encode_all
from kvdistill.evaluation.kept import (
    KeptSlots,
    fitted_slots,
    kept_tokens,
    measure_kept,
    role_entropy,
    steps_covered,
)
from kvdistill.evaluation.roles import token_roles
from kvdistill.kv import LayerKV, ModelKV
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.records.probes import KeptLayer
from kvdistill.run.student import build_student, template_of
from kvdistill.text import Encoded

STEPS = ["then Bob", "then Ann"]
SPANS = [(0, 4), (5, 8), (9, 13), (14, 17)]
"""The tokens of ``STEPS``: 1 and 3 carry the results."""
PADDED = Chain(names=5, steps=(1, 3), trace="verbose", filler="repeated", pad=True)
"""Three steps of four words."""


@dataclass(frozen=True, kw_only=True)
class ByImportance(ScoreCompressor):
    """A method for the tests: the importance is the score."""

    def score(self, layer: LayerKV) -> Float[Tensor, "B H T"]:
        assert layer.importance is not None
        return layer.importance


def cache(scores: list[list[list[float]]]) -> ModelKV:
    """One layer, samples x heads x tokens, with these scores as importance."""
    importance = torch.tensor(scores)
    keys = torch.randn(*importance.shape, 2, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(importance.shape, dtype=torch.bool)
    positions = torch.arange(importance.shape[-1]).expand(importance.shape)
    return ModelKV((LayerKV(keys, keys, mask, positions, importance=importance),), (5,), "a test")


@pytest.fixture(scope="module")
def model() -> LatentReasoner:
    """A student of three slots with random weights, which knows the words of the task."""
    torch.manual_seed(0)
    task = {"kind": "chain", "names": 5, "steps": [1, 3]}
    data = {"train": {"kind": "synthetic", "num": 4, "task": task}}
    return build_student(pico_students.config(data=data))


def samples(model: LatentReasoner, task: Chain, num: int = 12) -> tuple[Encoded, ...]:
    assert model.tokenizer is not None
    return encode_all(task.make(num, "train", 0), model.tokenizer, template_of(model)).samples


def layers(model: LatentReasoner, task: Chain, method: Compressor) -> list[KeptLayer]:
    (found,) = measure_kept(model, samples(model, task), {"it": method})
    assert found.method == "it"
    assert [layer.layer for layer in found.layers] == [0, 1]
    return found.layers


def test_by_hand() -> None:
    low = -math.inf
    kv = cache([[[0, 9, 0, 9], [9, 9, 0, 0]], [[0, 9, 0, 9], [low, 9, low, low]]])
    found = kept_tokens("mine", ByImportance(), kv, token_roles([SPANS] * 2, [STEPS] * 2), 2)
    # Head 0 keeps both results twice; head 1 keeps "then Bob", then "Bob" and a spare slot.
    assert (found.method, found.num, found.base_share) == ("mine", 2, 0.5)
    (layer,) = found.layers
    assert layer.layer == 5
    assert layer.tokens == 7 / 4
    assert layer.result_share == pytest.approx(6 / 7)
    assert layer.steps_covered == 6 / 8
    # Slot 0 of head 1 keeps "then" once and "Bob" once: one bit, for two of seven tokens.
    assert layer.role_entropy == pytest.approx(2 / 7)


def test_entropy_by_hand() -> None:
    role = torch.tensor([0, 0, 1, 2]).reshape(4, 1, 1)
    kept = KeptSlots(role, role, torch.ones_like(role, dtype=torch.bool))
    assert role_entropy(kept) == 1.5
    assert role_entropy(replace(kept, mask=role < 1)) == 0.0
    assert role_entropy(replace(kept, mask=role < 0)) is None
    assert steps_covered(replace(kept, mask=role < 0), token_roles([SPANS], [STEPS])) is None


def test_step_ends_are_all_results_in_constant_roles(model: LatentReasoner) -> None:
    for layer in layers(model, PADDED, StepEnd()):
        assert replace(layer, layer=0) == KeptLayer(
            layer=0, tokens=3.0, result_share=1.0, steps_covered=1.0, role_entropy=0.0
        )
    assert layers(model, PADDED, Uniform()) == layers(model, PADDED, StepEnd()), "the stride fits"
    for layer in layers(model, replace(PADDED, stop=True), StepEnd()):
        assert (layer.result_share, layer.steps_covered) == (0.0, 0.0), "full stops are no results"
    for layer in layers(model, replace(PADDED, pad=False), StepEnd()):
        assert (layer.tokens, layer.result_share, layer.steps_covered) == (2.0, 1.0, 1.0)


def test_right_crop_of_padded_and_other_traces_by_hand(model: LatentReasoner) -> None:
    for layer in layers(model, PADDED, RightCrop()):
        assert layer.result_share == layer.steps_covered == pytest.approx(1 / 3)
        assert layer.role_entropy == 0.0
    # The last three words of step 1, 2 or 3, in equal shares; one result of two on average.
    for layer in layers(model, replace(PADDED, pad=False), RightCrop()):
        assert layer.result_share == pytest.approx(1 / 3)
        assert layer.steps_covered == 0.5
        assert layer.role_entropy == pytest.approx(math.log2(3))


FOUR_STEPS = [f"then then then N{number}" for number in range(4)]
FOUR_SPANS = [
    (18 * step + at, 18 * step + end) for step in range(4) for at, end in ((0, 4), (5, 9), (10, 14), (15, 17))
]


def test_full_blends_the_results_unless_there_are_enough_slots(model: LatentReasoner) -> None:
    # Two slots, three tokens (Bob, then, Ann) read at 0, 1/2 and 1: the first slot is fitted best by
    # 5/6 Bob + 1/3 then - 1/6 Ann.
    roles = token_roles([[(0, 3), (4, 8), (9, 12)]], [["Bob", "then Ann"]])
    layer = fitted_slots(roles, 2, 5)
    assert (layer.layer, layer.tokens, layer.role_entropy) == (5, 3.0, None)
    assert layer.result_share == pytest.approx(2 / 3)
    assert layer.steps_covered == pytest.approx(5 / 6)
    roles = token_roles([FOUR_SPANS], [FOUR_STEPS])
    covered = {slots: fitted_slots(roles, slots, 0).steps_covered for slots in (4, 12, 16)}
    assert covered == pytest.approx({4: 0.27, 12: 1.0, 16: 1.0}, abs=0.02)
    (found,) = measure_kept(model, samples(model, PADDED), {"full": Full()}, batch_size=5)
    assert found.layers[0].steps_covered == found.layers[1].steps_covered
    # Twelve tokens in three slots, each more than half filler, so no step is fully covered.
    assert (found.layers[0].result_share or 1.0) < 0.5
    assert found.layers[0].role_entropy is None
    assert (found.layers[0].steps_covered or 1.0) < 1


def test_random_tokens_are_near_the_base_rate() -> None:
    roles, kv = token_roles([FOUR_SPANS], [FOUR_STEPS]), cache([[[0.0] * 16] * 2])
    assert roles.result[0].tolist() == [-1, -1, -1, 0, -1, -1, -1, 1, -1, -1, -1, 2, -1, -1, -1, 3]
    shares = [
        kept_tokens("random", Random(seed=seed), kv, roles, 4).layers[0].result_share for seed in range(200)
    ]
    # Of 400 draws of 4 tokens the mean share has a standard deviation of .01.
    assert mean(share or 0.0 for share in shares) == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("method", [RKV(), RKV(selection="shared"), Random()], ids=str)
def test_the_batch_size_changes_nothing(model: LatentReasoner, method: ScoreCompressor) -> None:
    asked = samples(model, replace(PADDED, pad=False))
    one, other = (measure_kept(model, asked, {"it": method}, size) for size in (1, 12))
    assert one == other
    assert (one[0].layers[0].role_entropy or 0) > 0


def test_blends_keep_no_token(model: LatentReasoner) -> None:
    (found,) = measure_kept(model, samples(model, PADDED), {"blend": FullResampled()})
    assert found.base_share == 0.25
    for layer in found.layers:
        assert (layer.tokens, layer.result_share, layer.steps_covered, layer.role_entropy) == (None,) * 4


def test_texts_without_steps_and_samples_without_texts(model: LatentReasoner) -> None:
    (first, *_), nothing = samples(model, PADDED), replace(PADDED, trace="terse")
    bare = replace(first, teacher_mode=samples(model, nothing)[0].student_mode)
    assert measure_kept(model, [bare], {"it": RKV()}) == []
    stepless = replace(first, example=replace(first.example, steps=()))
    (found,) = measure_kept(model, [bare, stepless], {"it": RKV()})
    assert (found.num, found.base_share) == (1, None)
    for layer in found.layers:
        assert (layer.tokens, layer.result_share, layer.steps_covered, layer.role_entropy) == (3, *[None] * 3)


def test_a_student_without_a_tokenizer_is_refused(model: LatentReasoner) -> None:
    asked, tokenizer = samples(model, PADDED), model.tokenizer
    model.tokenizer = None
    try:
        with pytest.raises(ValueError, match=r"This student has no tokenizer: load it from a folder"):
            measure_kept(model, asked, {"it": RKV()})
    finally:
        model.tokenizer = tokenizer
