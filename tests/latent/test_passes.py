"""Latent passes: what each computes, and that they equal the recurrence."""

from functools import partial

import pytest
import torch
from transformers import DynamicCache

import pico

COUNTED = {
    "question": (3, 4, 5, 6, 7),
    "cue": (),
    "student_cue": (),
    "cot": (8,) * 6,
    "prompt": (9, 9),
    "answer": (5, 6, 2),
}


@pytest.mark.parametrize(
    ("shape", "delimiters", "columns"),
    [
        # Packed: question 5, bot 1, placeholders, chain of thought 6, prompt 2, answer 3, less the last token
        # that predicts nothing.
        ((5, 2), "student", [19, 4, 4 + 5]),
        ((5, 2), "both", [21, 4, 4 + 5]),
        ((4, 4), "student", [16, 1, 1, 1, 1 + 5]),
        ((4, 1), "student", [19, 4 + 5]),
        ((3, 0), "student", [5 + 1 + 3 + 6 + 11 - 1]),
    ],
)
def test_calls_and_columns_by_hand(shape: tuple[int, int], delimiters: str, columns: list[int]) -> None:
    """1 + T calls; the question stands in the first alone, each pass reads M - T + 1 slots, the last also the
    tail of 5.
    """
    model = pico.reasoner(slots=shape[0], passes=shape[1], delimiters=delimiters)
    model.geometry()
    seen: list[int] = []
    heads: list[int] = []
    model.body.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )
    model.backbone.lm_head.register_forward_pre_hook(lambda _, args: heads.append(args[0].shape[0]))
    model(pico.batch((COUNTED,) * 3))
    assert seen == columns
    assert heads == [3 * (11 + (delimiters == "both")), 3 * 3]


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3", "qwen3"])
def test_as_many_passes_as_slots_is_the_recurrence(name: str) -> None:
    """T = M against slot after slot on a growing cache of transformers."""
    model, row = pico.reasoner(name, slots=4, passes=4), pico.cued()[1]
    with torch.no_grad():
        two = model(pico.batch((row,)))
        model.backbone.config._attn_implementation = "sdpa"
        cache = DynamicCache(config=model.backbone.config)
        read = partial(model.backbone, past_key_values=cache, use_cache=True, output_hidden_states=True)
        output = read(
            inputs_embeds=model.embed(
                torch.tensor([[*row["question"], *row["student_cue"], model.special.bot]])
            )
        )
        for _ in range(4):
            output = read(inputs_embeds=model.feedback(output.hidden_states[-1][:, -1:]))
        logits = read(
            inputs_embeds=model.embed(torch.tensor([[model.special.eot, *row["prompt"], *row["answer"]]]))
        ).logits[0]
    answer = len(row["answer"])
    torch.testing.assert_close(two.student.rows.logits, logits[-answer - 1 : -1], rtol=1e-4, atol=1e-5)


def test_reentrant_checkpointing_is_refused() -> None:
    model = pico.reasoner(slots=3, passes=1).train()
    model.gradient_checkpointing_enable({"use_reentrant": True})
    with pytest.raises(
        ValueError, match=r"hides the gradients of keys and values: .* \{'use_reentrant': False\}"
    ):
        model(pico.batch(pico.cued()))
