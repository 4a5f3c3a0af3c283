"""Places of tokens in their steps, and the states that losses on tokens read."""

import pytest
import torch

import pico
from kvdistill.kv import TwoModes
from kvdistill.losses import LossInputs
from kvdistill.losses.step_tokens import StepTokens, column_of, share, slots_of
from pico_losses import mode, reading


def test_places_by_hand() -> None:
    """Steps of 2 and 1 tokens, then a sample of one step, padded on the right."""
    tokens = StepTokens.of(reading([[5, 6, 7], [8]], [[0, 0, 1], [0]]))
    assert tokens.index[0].tolist() == [0, 1, 0]
    assert tokens.length[0].tolist() == [2, 2, 1]
    assert (tokens.step[1].tolist(), int(tokens.index[1, 0]), int(tokens.length[1, 0])) == ([0, -1, -1], 0, 1)


def test_left_padding_changes_no_place() -> None:
    right, left = (
        StepTokens.of(pico.batch(pico.samples(3), side).teacher_mode) for side in ("right", "left")
    )
    for name in ("step", "index", "length"):
        for sample in range(3):
            values = [getattr(t, name)[sample][t.step[sample] >= 0].tolist() for t in (right, left)]
            assert values[0] == values[1]


def test_columns_and_share_by_hand() -> None:
    slot = torch.tensor([0, 2])
    assert column_of(slot, "slot").tolist() == [1, 3]
    assert column_of(slot, "previous").tolist() == [0, 2]
    read = reading([[5, 6, 7], [8]], [[0, 0, 1], [0]])
    valid = torch.tensor([[True, False, False], [True, False, False]])
    assert float(share(valid, read)) == 0.5


def test_slots_that_were_not_read_are_named() -> None:
    with pytest.raises(ValueError, match="Mux: the slots were not read"):
        slots_of(LossInputs(TwoModes(mode(), mode())), "Mux")
