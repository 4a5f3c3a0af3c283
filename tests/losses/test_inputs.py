"""Every loss is a frozen dataclass that takes LossInputs and names what it needs."""

from typing import get_args

import pytest

from kvdistill.kv import TwoModes
from kvdistill.losses import Loss, LossInputs, LossTerm, Objective, WeightedLoss
from pico_losses import mode


@pytest.mark.parametrize("kind", get_args(LossTerm))
def test_a_loss_says_what_it_needs(kind: type) -> None:
    term = kind()
    assert isinstance(term, Loss)
    assert term.needs <= {"target", "attention", "slots"}


@pytest.mark.parametrize("kind", get_args(LossTerm))
def test_every_loss_can_be_a_further_term(kind: type) -> None:
    objective = Objective(kv_weight=0.0, extra=(WeightedLoss(weight=0.5, loss=kind()),))
    assert objective.needs == kind().needs
    with pytest.raises(ValueError, match=r"the weight of \w+ is -1\.0"):
        WeightedLoss(weight=-1.0, loss=kind())


def test_a_further_term_is_added_with_its_weight() -> None:
    plain = Objective(kv_weight=0.0, ce_teacher_weight=0.0, codi_weight=0.0)
    from kvdistill.losses import CrossEntropy

    more = Objective(
        kv_weight=0.0,
        ce_teacher_weight=0.0,
        codi_weight=0.0,
        extra=(WeightedLoss(weight=2.0, loss=CrossEntropy(mode="teacher")),),
    )
    inputs = LossInputs(TwoModes(mode(), mode()))
    teacher = CrossEntropy(mode="teacher")(inputs).loss
    assert more(inputs).loss == plain(inputs).loss + 2 * teacher
