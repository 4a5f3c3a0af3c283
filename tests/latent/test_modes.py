"""Both modes against plain calls of the same transformers model, and against themselves in other company."""

import pytest
import torch
from torch import Tensor

import pico
from kvdistill.capture.attention import PREFIX
from kvdistill.kv import ModelOutput, TwoModes
from kvdistill.latent.reasoner import LatentReasoner

SHAPES = [(5, 2), (4, 4), (4, 1), (3, 0)]


def cued() -> tuple[dict[str, tuple[int, ...]], ...]:
    """Samples whose question ends differently for the two modes."""
    return tuple({**row, "cue": (7,), "student_cue": (8, 9)} for row in pico.samples(4))


def everything(two: TwoModes, sample: int) -> Tensor:
    """All numbers that a step gives for one sample, in one vector."""
    parts = []
    for mode in (two.teacher, two.student):
        parts += [mode.rows.logits[mode.rows.sample == sample], mode.hidden[sample]]
        for layer in mode.kv.layers:
            kept = layer.mask[sample, 0]
            parts += [layer.keys[sample][:, kept], layer.values[sample][:, kept]]
            if layer.importance is not None:
                parts.append(layer.importance[sample][:, kept])
        parts += [] if mode.attention is None else [layer[sample] for layer in mode.attention]
    return torch.cat([part.reshape(-1) for part in parts])


@pytest.mark.parametrize(("shape", "delimiters"), [((5, 2), "both"), ((4, 4), "student"), ((3, 0), "both")])
@pytest.mark.parametrize("name", list(pico.CONFIGS))
def test_a_sample_does_not_depend_on_its_neighbours(name: str, shape: tuple[int, int], delimiters: str) -> None:
    model = pico.reasoner(name, slots=shape[0], passes=shape[1], delimiters=delimiters)
    model.want_attention = True
    rows = cued()
    with torch.no_grad():
        together = [model(pico.batch(rows, side, extra=2)) for side in ("right", "left")]
        for index, row in enumerate(rows):
            alone = everything(model(pico.batch((row,))), 0)
            for two in together:
                assert (everything(two, index) - alone).abs().max() < 1e-5


def plain(model: LatentReasoner, embeds: Tensor) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """One unpadded sample through transformers' own causal model: logits, hidden states, cache."""
    backbone = model.backbone
    backbone.config._attn_implementation = backbone.config._attn_implementation.removeprefix(PREFIX)
    output = backbone(inputs_embeds=embeds, use_cache=True, output_hidden_states=True)
    backbone.config._attn_implementation = PREFIX + backbone.config._attn_implementation
    cache = [(layer.keys, layer.values) for layer in output.past_key_values.layers]
    return output.logits[0], torch.stack(output.hidden_states)[:, 0], cache


def slow_student(model: LatentReasoner, row: dict[str, tuple[int, ...]]) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """All M slots recomputed from the first token on in every pass, and read with the answer behind them."""
    special, slots = model.special, model.config.slots
    head = model.embed(torch.tensor([[*row["question"], *row["student_cue"], special.bot]]))
    tail = model.embed(torch.tensor([[special.eot, *row["prompt"], *row["answer"]]]))
    latents = model.embed(torch.full((1, slots), special.latent))
    for _ in range(model.config.passes):
        _, hidden, _ = plain(model, torch.cat((head, latents), 1))
        before = hidden[-1][None, head.shape[1] - 1 : -1]
        latents = model.feedback(before)
    return plain(model, torch.cat((head, latents, tail), 1))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", list(pico.CONFIGS))
def test_both_modes_equal_plain_calls_of_the_model(name: str, shape: tuple[int, int]) -> None:
    model = pico.reasoner(name, slots=shape[0], passes=shape[1], delimiters="both")
    model.geometry()
    row = cued()[0]
    with torch.no_grad():
        two = model(pico.batch((row,)))
        text = [*row["question"], *row["cue"], model.special.bot, *row["cot"], model.special.eot, *row["prompt"], *row["answer"]]
        logits, hidden, _ = plain(model, model.embed(torch.tensor([text])))
        s_logits, s_hidden, s_cache = slow_student(model, row)
    answer, labels = len(row["answer"]), len(row["cot"]) + 1 + len(row["prompt"]) + len(row["answer"])
    check_rows(two.teacher, logits[-labels - 1 : -1], text[-labels:], answer)
    check_rows(two.student, s_logits[-answer - 1 : -1], list(row["answer"]), answer)
    torch.testing.assert_close(two.teacher.hidden[0], hidden[:, -answer - 1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(two.student.hidden[0], s_hidden[:, -answer - 1], rtol=1e-4, atol=1e-5)
    first = len(row["question"]) + len(row["student_cue"]) + 1
    for layer, (_, values) in zip(two.student.kv.layers, s_cache, strict=True):
        own = values[:, :, first : first + shape[0]]
        if own.shape[2] == shape[0] and values.shape[2] > first + shape[0]:
            torch.testing.assert_close(layer.values, own, rtol=1e-4, atol=1e-5)


def check_rows(mode: ModelOutput, logits: Tensor, labels: list[int], answer: int) -> None:
    torch.testing.assert_close(mode.rows.logits, logits, rtol=1e-4, atol=1e-5)
    assert mode.rows.labels.tolist() == labels
    assert mode.rows.is_answer.tolist() == [False] * (len(labels) - answer) + [True] * answer
