"""Captured queries: with them a model's own cache gives its attention output, and its cosine is 1."""

import pytest
import torch
from torch import Tensor

import pico
import pico_slow
from kvdistill.align.attention_output import attention_output, attention_output_cosine
from kvdistill.kv import ModelKV
from kvdistill.latent.answer_queries import answer_queries
from kvdistill.latent.reasoner import LatentReasoner

NAMES = ["llama", "llama_yarn", "qwen3", "gemma2", "glm", "gpt_neox", "smollm3", "gpt2"]


def slow(model: LatentReasoner, row: dict[str, tuple[int, ...]]) -> list[Tensor]:
    """Per layer the attention output (Q, A, V) of one unpadded sample over its chain, in float64, from the
    model's own projections, one head and row at a time.
    """
    both = model.config.delimiters == "both"
    bot, eot = ([model.special.bot], [model.special.eot]) if both else ([], [])
    before = [*row["question"], *row["cue"], *bot]
    chain = range(len(before), len(before) + len(row["cot"]))
    text = [*before, *row["cot"], *eot, *row["prompt"], *row["answer"]]
    first = len(text) - len(row["answer"]) - 1
    with torch.no_grad():
        _, layers = pico_slow.projected(model.backbone, input_ids=torch.tensor([text]))
    config, outputs = model.backbone.config, []
    scaling = getattr(config, "query_pre_attn_scalar", None)
    cap = getattr(config, "attn_logit_softcapping", None)
    for layer_id, layer in sorted(layers.items()):
        query, keys = (states[0].double() for states in layer.rotated())
        window = pico_slow.window_of(config, layer_id) or 1000
        group = len(query) // len(keys)
        output = torch.zeros(len(query), len(row["answer"]), layer.values.shape[-1], dtype=torch.float64)
        for head in range(len(query)):
            for place in range(len(row["answer"])):
                seen = [column for column in chain if first + place - column < window]
                logits = keys[head // group, seen] @ query[head, first + place]
                logits = logits * (scaling or query.shape[-1]) ** -0.5
                if cap is not None:
                    logits = cap * torch.tanh(logits / cap)
                output[head, place] = logits.softmax(-1) @ layer.values[0, head // group, seen].double()
        outputs.append(output)
    return outputs


@pytest.mark.parametrize("delimiters", ["student", "both"])
@pytest.mark.parametrize("name", NAMES)
def test_the_output_equals_float64_from_the_projections(name: str, delimiters: str) -> None:
    model = pico.reasoner(name, slots=3, passes=1, delimiters=delimiters)
    expected = [slow(model, row) for row in pico.cued()]
    for side in ("left", "right"):
        queries, output = answer_queries(model, pico.batch(pico.cued(), side))
        for index, layer in enumerate(output.kv.layers):
            found = attention_output(queries, index, layer)
            for sample, wanted in enumerate(expected):
                own = found[sample][:, queries.mask[sample]]
                torch.testing.assert_close(own, wanted[index].float(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
def test_the_own_cache_gives_one_and_other_values_less(name: str) -> None:
    model = pico.reasoner(name, slots=3, passes=1)
    queries, output = answer_queries(model, pico.batch(pico.cued()))
    own = output.kv
    exact = attention_output_cosine(queries, own, own)
    assert exact.shape == (3, 3)
    seen = ~exact.isnan()  # a sliding window may end behind the chain
    torch.testing.assert_close(exact[seen], torch.ones_like(exact[seen]))
    noise = own.map(tuple(layer.replace(values=torch.randn_like(layer.values)) for layer in own.layers))
    assert (attention_output_cosine(queries, noise, own)[seen].abs() < 0.8).all()


def test_the_cache_is_that_of_teacher_mode_and_samples_do_not_depend_on_their_batch() -> None:
    model = pico.reasoner("llama", slots=3, passes=1, delimiters="both")
    batch = pico.batch(pico.cued(), "left")
    queries, output = answer_queries(model, batch)
    with torch.no_grad():
        wanted = model(batch, "cot").kv
    for found, layer in zip(output.kv.layers, wanted.layers, strict=True):
        assert torch.equal(found.keys, layer.keys) and torch.equal(found.values, layer.values)
    # Question and cue of every sample, and <bot>.
    assert queries.start.tolist() == [len(row["question"]) + 1 + 1 for row in pico.cued()]

    def moved(kv: ModelKV) -> ModelKV:
        return kv.map(tuple(layer.replace(values=layer.values.roll(1, -1)) for layer in kv.layers))

    together = attention_output_cosine(queries, moved(output.kv), output.kv)
    for sample, row in enumerate(pico.cued()):
        own, alone = answer_queries(model, pico.batch((row,)))
        found = attention_output_cosine(own, moved(alone.kv), alone.kv)
        torch.testing.assert_close(found, together[sample][None], rtol=1e-4, atol=1e-5)
