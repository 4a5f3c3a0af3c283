"""Texts beyond a table of learned positions, in training and in generation."""

import pytest

import pico
from kvdistill.latent.config import LatentConfig
from kvdistill.latent.decode import Reasoning, generate_ids
from kvdistill.latent.reasoner import LatentReasoner

ROW = {
    "question": (3,) * 6,
    "cue": (),
    "student_cue": (),
    "cot": (5,) * 9,
    "prompt": (4, 4),
    "answer": (6, 2),
}
"""19 tokens for the teacher, the last of which is no input."""


def student(name: str, room: int, slots: int = 3) -> LatentReasoner:
    config = pico.CONFIGS[name]()
    config.max_position_embeddings = room
    backbone = pico.from_config(config)
    return LatentReasoner(
        LatentConfig(backbone=backbone.config, special=dict(pico.SPECIAL), slots=slots, passes=2), backbone
    ).eval()


@pytest.mark.parametrize("name", ["gpt2", "opt"])
def test_a_batch_reaches_to_the_last_position_and_no_further(name: str) -> None:
    """The student's 18 slots need 6 + 1 + 18 + 1 + 2 + 1 = 29 positions."""
    batch = pico.batch((ROW,))
    assert student(name, 18)(batch).teacher.rows.logits.isfinite().all()
    with pytest.raises(
        ValueError,
        match=r"has learned positions for 17 tokens, and a text .* needs 18: leave longer texts out "
        r"\(--max_len",
    ):
        student(name, 17)(batch, "cot")
    with pytest.raises(
        ValueError,
        match=r"learned positions for 28 tokens, and .* needs 29: .* take fewer slots \(latent\.slots\)",
    ):
        student(name, 28, slots=18)(batch)
    student(name, 29, slots=18)(batch)


@pytest.mark.parametrize("reasoning", ["latent", "direct"])
@pytest.mark.parametrize("name", ["gpt2", "opt"])
def test_so_does_an_answer(name: str, reasoning: Reasoning) -> None:
    """The last of 20 new tokens is no input: 6 + 2 + 19 positions without slots, 5 more with them."""
    batch, needed = pico.batch((ROW,), "left"), 27 + (5 if reasoning == "latent" else 0)
    assert generate_ids(student(name, needed), batch, reasoning, 20).shape[1] <= 20
    with pytest.raises(
        ValueError, match=r"learned positions .* let answers be shorter \(evaluation\.max_new_tokens\)"
    ):
        generate_ids(student(name, needed - 1), batch, reasoning, 20)


def test_rotary_positions_have_no_end() -> None:
    student("llama", 8)(pico.batch((ROW,)))
