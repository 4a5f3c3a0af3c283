"""What a batch is, and that it moves whole."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch

import pico
from kvdistill.text import Example, Padded, TokenAlignment


def test_lengths_count_tokens_and_not_padding() -> None:
    part = Padded(
        torch.tensor([[5, 6, 0], [7, 0, 0]]), torch.tensor([[True, True, False], [True, False, False]])
    )
    assert part.lengths.tolist() == [2, 1]
    assert Padded(
        torch.zeros(2, 0, dtype=torch.long), torch.zeros(2, 0, dtype=torch.bool)
    ).lengths.tolist() == [0, 0]


def test_dependent_steps_are_the_depth_or_else_the_gold_steps() -> None:
    example = Example(question="q", steps=("a", "b"), answer="a", sample_id="0")
    assert example.dependent_steps == 2
    assert replace(example, depth=1).dependent_steps == 1
    assert replace(example, steps=()).dependent_steps is None


def tensors(value: Any, name: str = "") -> dict[str, torch.Tensor]:
    """Tensors in nested dataclasses and dictionaries, by dotted name."""
    if isinstance(value, torch.Tensor):
        return {name[1:]: value}
    if is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if not isinstance(value, dict):
        return {}
    return {k: v for part, each in value.items() for k, v in tensors(each, f"{name}.{part}").items()}


def test_a_batch_moves_with_every_tensor_and_keeps_its_names() -> None:
    batch = pico.batch(pico.samples(3))
    mode = batch.teacher_mode
    weights = torch.zeros(*mode.cot.ids.shape, 1)
    aligned = TokenAlignment(
        index=weights.long(),
        average=weights,
        carry=weights,
        mask=mode.cot.mask,
        covered=torch.zeros_like(mode.cot.mask),
        step_end=mode.step_end,
    )
    batch = replace(batch, teachers={"large": mode}, alignments={"large": aligned})
    moved = batch.to("meta")
    assert len(batch) == len(moved) == 3
    assert moved.sample_ids == ("0", "1", "2")
    found, there = tensors(batch), tensors(moved)
    assert found.keys() == there.keys()
    assert {"cot_id", "teacher_mode.cot.ids", "student_mode.step_end", "teachers.large.cue.mask"} <= set(
        found
    )
    assert {"alignments.large.index", "alignments.large.average"} <= set(found)
    for name, value in found.items():
        assert (value.device.type, there[name].device.type) == ("cpu", "meta"), name
        assert (value.shape, value.dtype) == (there[name].shape, there[name].dtype), name
    # Shared before, and after.
    assert moved.alignments["large"].mask is moved.teacher_mode.cot.mask
    assert moved.student_mode.question.ids is moved.teacher_mode.question.ids


def test_moving_to_where_it_is_changes_nothing() -> None:
    batch = pico.batch(pico.samples(2))
    same = batch.to(torch.device("cpu"), non_blocking=True)
    assert torch.equal(same.teacher_mode.cot.ids, batch.teacher_mode.cot.ids)
    assert torch.equal(same.teacher_mode.step_end, batch.teacher_mode.step_end)
