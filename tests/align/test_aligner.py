"""The aligner: order of its steps, what it says of them, and tokens that a teacher does not cover."""

from dataclasses import replace

import torch

from kvdistill.align import Adapter, LayerMap, LayerPair, Ratio, Ridge
from kvdistill.align.aligner import Aligner, in_student_tokens
from kvdistill.align.head_dim_adapter import layer_blocks
from kvdistill.align.heads import geometry_of_heads
from kvdistill.align.key_norm import onto_shell
from kvdistill.align.time_align import align_time
from kvdistill.kv import Geometry
from kvdistill.text import TokenAlignment
from pico_align import cache, geometry


def halves() -> TokenAlignment:
    """Two student tokens; the first is two teacher tokens, the second one, the third is not covered."""
    index = torch.tensor([[[0, 1], [2, 0], [0, 0]]])
    average = torch.tensor([[[0.5, 0.5], [1.0, 0.0], [0.0, 0.0]]])
    carry = torch.tensor([[[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    covered = torch.tensor([[True, True, False]])
    return TokenAlignment(index, average, carry, mask, covered, step_end=torch.tensor([[False, True, True]]))


def normed(shape: Geometry, gain: torch.Tensor) -> Geometry:
    return replace(shape, layers=tuple(replace(layer, key_norm=gain) for layer in shape.layers))


def test_tokens_come_first_then_layers_then_the_key_norm() -> None:
    gain = torch.tensor([1.0, 2.0, 0.5])
    student, teacher = normed(geometry(1, 2, 3, 4), gain), geometry(1, 1, 5, 6)
    adapter = Adapter(student, teacher, Ratio().pair(student, teacher), Ridge())
    with torch.no_grad():
        for parameter in adapter.parameters():
            torch.nn.init.normal_(parameter)
    kv = cache(teacher, batch=1, slots=3)
    moved = Aligner(adapter)(kv, halves())
    by_hand = adapter.move(align_time(kv, halves())).layers[0]
    assert moved.layers[0].keys.shape == (1, 2, 3, 3)
    torch.testing.assert_close(moved.layers[0].keys, onto_shell(by_hand.keys, gain))
    assert torch.equal(moved.layers[0].values, by_hand.values)
    # A key on the shell has the norm of the gain: k / gain has a root mean square of 1.
    square = (moved.layers[0].keys / gain).square().mean(-1)
    torch.testing.assert_close(square, torch.ones(1, 2, 3))


def test_without_an_alignment_the_tokens_stay() -> None:
    kv = cache(geometry(1, 1, 2, 2), batch=1)
    assert in_student_tokens(kv, None) is kv
    assert in_student_tokens(kv, halves()).layers[0].mask.shape == (1, 1, 3)


def test_it_says_what_is_done_to_a_teacher() -> None:
    student, teacher = geometry(2, 2, 3, 4), geometry(3, 1, 5, 6)
    learned = replace(teacher, layers=tuple(replace(layer, positional="learned") for layer in teacher.layers))
    told = Aligner(Adapter(student, learned, Ratio().pair(student, learned))).describe()
    assert told.splitlines() == [
        "layers: 0 <- 0 (1.00); 1 <- 2 (1.00)",
        "heads: 1 x 5 -> 2 x 3, ridge",
        "positions: the teacher's are learned and stay in its keys and values",
    ]
    some = geometry_of_heads(geometry(3, 4, 5, 6), (3, 1))
    assert (
        "heads: 2 x 5 (of its heads 3, 1) -> 2 x 3, ridge"
        in Aligner(Adapter(student, some, Ratio().pair(student, some))).describe()
    )
    normal = normed(student, torch.ones(3))
    assert "key norm" in Aligner(Adapter(normal, teacher, Ratio().pair(normal, teacher))).describe()


def test_a_layer_map_survives_its_tensor() -> None:
    pairs = LayerMap((LayerPair(0, 1, 1 / 3), LayerPair(0, 2, 2 / 3), LayerPair(1, 0, 1.0)))
    assert LayerMap.of_tensor(pairs.tensor()) == pairs
    assert len(layer_blocks(geometry(2, 1, 2, 2), geometry(3, 1, 2, 2), pairs)) == 2
