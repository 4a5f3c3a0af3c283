"""The mask of a captured call, by hand."""

import torch

from kvdistill.capture.call import AttentionCall, within_window


def test_window_by_hand() -> None:
    """A window of 3 at position 5 reaches back to position 3."""
    visible = torch.ones(1, 1, 1, 4, dtype=torch.bool)
    at = torch.tensor([[5]]), torch.tensor([[2, 3, 4, 5]])
    assert within_window(visible, *at, 3)[0, 0, 0].tolist() == [False, True, True, True]
    assert within_window(visible, *at, None) is visible


def test_mask_by_hand() -> None:
    visible = torch.tensor([[[[True, False], [True, True]]]])
    positions = torch.tensor([[0, 1]])
    call = AttentionCall(visible, positions, (positions,))
    low = torch.finfo(torch.float32).min
    assert call.mask("sdpa", None, torch.float32).tolist() == [[[[0.0, low], [0.0, 0.0]]]]
    assert call.mask("sdpa", 1, torch.float32).tolist() == [[[[0.0, low], [low, 0.0]]]]
    assert call.mask("sdpa", None, torch.float32) is call.mask("sdpa", None, torch.float32)
    assert AttentionCall().mask("sdpa", 1, torch.float32) is None
