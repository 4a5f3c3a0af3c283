"""Question vectors: the key of the last question token, whatever the padding and the rest of the pass."""

import pytest
import torch

import pico
from kvdistill.kv import Geometry, LayerGeometry
from kvdistill.latent.question import question_layer, question_vectors
from kvdistill.text import QuestionRead

READ = QuestionRead(1)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3"])
def test_the_packed_pass_and_the_question_alone_give_one_vector(name: str) -> None:
    model = pico.reasoner(name)
    rows = pico.cued()
    with torch.no_grad():
        for side in ("right", "left"):
            batch = pico.batch(rows, side, extra=2)
            packed = model(batch, question_read=READ).question
            torch.testing.assert_close(packed, question_vectors(model, batch, READ), atol=1e-5, rtol=0)
            for index, row in enumerate(rows):
                alone = question_vectors(model, pico.batch((row,)), READ)[0]
                torch.testing.assert_close(packed[index], alone, atol=1e-5, rtol=0)
    # Nothing is computed where no fusion asks for it.
    assert model(pico.batch(rows)).question is None


def test_it_is_the_un_rotated_key_of_the_last_question_token() -> None:
    model = pico.reasoner("llama")
    row = pico.samples(1)
    batch = pico.batch(row)
    ids = batch.student_mode.question.ids
    keys = []
    projection = model.body.layers[READ.layer].self_attn.k_proj  # pyright: ignore
    handle = projection.register_forward_hook(lambda *call: keys.append(call[2]))
    with torch.no_grad():
        model.body(inputs_embeds=model.embed(ids))
        handle.remove()
        found = question_vectors(model, batch, READ)
        mean = question_vectors(model, batch, QuestionRead(1, "mean"))
    # Llama rotates after its projection, so the projection's output is what is wanted.
    torch.testing.assert_close(found[0], keys[0][0, -1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(mean[0], keys[0][0].mean(0), atol=1e-5, rtol=1e-4)


def test_the_middle_layer_and_refusals() -> None:
    layer = LayerGeometry(1, 2, 2, rope=None, positional="none")
    geometry = Geometry((layer,) * 3, (0, 2, 5))
    assert question_layer(geometry, None) == 2
    assert question_layer(geometry, 5) == 5
    with pytest.raises(ValueError, match="attention layers 0, 2, 5"):
        question_layer(geometry, 1)
