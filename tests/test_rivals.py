"""Other latent methods in the same step: LOTUS, MUX, and their combination with a KV target."""

from pathlib import Path

import pytest
import torch

import pico
import pico_runs
import pico_slow
from kvdistill.compress import StepEnd
from kvdistill.config import load
from kvdistill.latent.curriculum import Stages, with_words
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.losses import Mux, StepCE, StepDecoder, WeightedLoss, cross_entropy
from kvdistill.pipeline import StepSettings
from kvdistill.records.schema import Metrics
from kvdistill.run.train import train
from pico_steps import SLOTS, Seen, distillation, on, rows, student

ONLY_KV = {"ce_student_weight": 0.0, "ce_teacher_weight": 0.0, "codi_weight": 0.0}
LOTUS = {"layout": "blocks", "feedback": "add", "passes": 3}
RIVALS = {
    "lotus": (LOTUS, StepCE(block=2)),
    "lotus_previous": (LOTUS, StepCE(block=2, at="previous")),
    "step_ce": ({}, StepCE(keep="last")),
    "mux": ({"passes": SLOTS}, Mux()),
    "step_decoder": ({"passes": SLOTS}, StepDecoder(layers=1)),
    "mux_blocks": (LOTUS, Mux(spans="random", at="slot")),
}


@pytest.mark.parametrize("kv_weight", [0.0, 1.0])
@pytest.mark.parametrize("rival", RIVALS)
def test_every_rival_trains_alone_and_beside_the_kv_loss(rival: str, kv_weight: float) -> None:
    """LOTUS's blocks with a KV target are one of the combinations."""
    latent, term = RIVALS[rival]
    model, batch = student(**latent), pico.batch(rows())
    extra = (WeightedLoss(weight=0.5, loss=term),)
    with_term, without = (
        distillation(model, kv_weight=kv_weight, extra=terms)(batch, 0, 0.0) for terms in (extra, ())
    )
    name = term.kind
    if rival != "mux_blocks":  # whose cuts are drawn
        assert torch.allclose(with_term.loss, without.loss + 0.5 * with_term.metrics[name], atol=1e-6)
    assert float(with_term.metrics[name]) > 0
    assert ("kv" in with_term.metrics) == (kv_weight > 0)
    only = {"kv_weight": 0.0, **ONLY_KV} | ({} if kv_weight == 0 else {"kv_weight": kv_weight})
    distillation(model, extra=extra, **only)(batch, 0, 0.0).loss.backward()
    reached = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert {name for name, _ in model.named_parameters() if "layers.0." in name} <= reached
    assert ("feedback.up.weight" in reached) == ("feedback" not in latent)


def test_a_kv_target_pulls_at_every_slot_of_every_block() -> None:
    """LOTUS's blocks with a KV target: all M slots of the last pass are compared, layer by layer."""
    model, batch = student(**LOTUS), pico.batch(rows())
    seen = Seen(model, batch)
    loss = on(seen, distillation(model, StepEnd(), **ONLY_KV))(batch, 0, 0.0).loss
    values = [layer.values for layer in seen.two.student.kv.layers]
    target = StepEnd().compress(seen.two.teacher.kv, SLOTS)
    for grad, layer in zip(torch.autograd.grad(loss, values), target.layers, strict=True):
        assert torch.equal(grad.abs().sum(-1) > 0, layer.mask)


@pytest.mark.parametrize("rival", ["lotus", "lotus_previous", "step_ce", "mux", "step_decoder"])
def test_a_rivals_loss_of_a_sample_does_not_depend_on_its_neighbours(rival: str) -> None:
    latent, term = RIVALS[rival]
    model = student(**latent)
    step = distillation(model, extra=(WeightedLoss(weight=1.0, loss=term),))
    alone = [step(pico.batch((row,)), 0, 0.0).metrics[term.kind] for row in rows()]
    together = step(pico.batch(rows(), "left", extra=3), 0, 0.0).metrics[term.kind]
    assert torch.allclose(together, torch.stack(alone).mean(), atol=1e-5)


def test_a_decoder_is_trained_and_carried_with_the_step_but_not_with_the_student() -> None:
    extra = (WeightedLoss(weight=1.0, loss=StepDecoder(layers=1)),)
    model, batch = student(), pico.batch(rows())
    begun, later = (distillation(model, extra=extra) for _ in range(2))
    names = {name for name, _ in begun.named_parameters()}
    assert "learned.step_decoder.embedding" in names
    assert not [name for name, _ in model.named_parameters() if "learned" in name]
    assert not torch.equal(begun(batch, 0, 0.0).loss, later(batch, 0, 0.0).loss)
    later.load_state({name: value.clone() for name, value in begun.state().items()})
    assert torch.equal(begun(batch, 0, 0.0).loss, later(batch, 0, 0.0).loss)
    assert "learned/step_decoder.norm.weight" in begun.state()


@pytest.mark.parametrize("layout", ["shift", "blocks"])
def test_passes_grow_with_the_progress(layout: str) -> None:
    """At 0, half of the stages and their end: 1, 2 and 3 passes."""
    model, batch = student(passes=3, layout=layout), pico.batch(rows())
    growing = distillation(model, step=StepSettings(curriculum=Stages(share=0.5)))
    for progress, passes in ((0.0, 1), (0.25, 2), (0.5, 3), (1.0, 3)):
        wanted = distillation(student(passes=passes, layout=layout))(batch, 0, progress)
        assert torch.equal(growing(batch, 0, progress).loss, wanted.loss)


def test_a_run_of_lotus_with_a_decoder_and_a_curriculum(tmp_path: Path) -> None:
    """From the options to a saved student that answers in blocks."""
    terms = '[{"weight": 0.05, "loss": {"kind": "step_ce", "block": 2}}, '
    terms += '{"weight": 1.0, "loss": {"kind": "step_decoder", "block": 2, "heads": 2}}]'
    latent = ["--latent.slots", "4", "--latent.passes", "3", "--latent.layout", "blocks"]
    latent += ["--latent.feedback", "add", "--latent.curriculum", '{"start": 1, "share": 0.5}']
    words = ["--training.output_dir", str(tmp_path / "run"), "--loss.extra", terms, *latent]
    words += ["--training.epochs", "1", "--evaluation.modes", '["latent"]']
    done = train(load(pico_runs.toml(tmp_path), words))
    series = Metrics(done.folder / "metrics.jsonl").series()
    assert {"kv", "step_ce", "step_ce_accuracy", "step_decoder"} <= series.keys()
    assert series["step_decoder"][3] < series["step_decoder"][1]
    assert [record.mode for record in done.evaluations] == ["latent"]
    saved = LatentReasoner.from_pretrained(done.folder / "checkpoint-ep1")
    assert (saved.config.layout, saved.config.feedback, saved.config.passes) == ("blocks", "add", 3)


@pytest.mark.parametrize("latent", [{}, LOTUS], ids=["shift", "blocks"])
def test_words_after_the_slots_are_read_and_predicted_as_by_a_plain_model(latent: dict) -> None:
    """Slots, ``<eot>``, the later steps, prompt and answer; labels are those steps and the answer."""
    model, row = student(**latent), rows()[0]
    with torch.no_grad():
        output = model(with_words(pico.batch((row,)), 1)).student
        text = [model.special.eot, *row["cot"][3:], *row["prompt"], *row["answer"]]
        embeds = torch.cat((pico_slow.thought(model, row), model.embed(torch.tensor([text]))), 1)
        logits, hidden, _ = pico_slow.plain(model, embeds)
    written, answer = len(row["cot"]) - 3, len(row["answer"])
    labels = [*row["cot"][3:], *row["answer"]]
    first = embeds.shape[1] - len(text)
    rows_read = [*range(first, first + written), *range(embeds.shape[1] - answer - 1, embeds.shape[1] - 1)]
    assert output.rows.labels.tolist() == labels
    assert output.rows.is_answer.tolist() == [False] * written + [True] * answer
    torch.testing.assert_close(output.rows.logits, logits[rows_read], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.hidden[0], hidden[:, -answer - 1], rtol=1e-4, atol=1e-5)


def test_coconuts_stages_leave_out_the_words_one_step_after_the_other() -> None:
    """The last stage is the step without a curriculum; a stage's words are predicted beside the answer."""
    model, batch = student(passes=SLOTS, feedback="none"), pico.batch(rows())
    settings = {"kv_weight": 0.0, "codi_weight": 0.0, "ce_teacher_weight": 0.0}
    stages = Stages(start=1, share=1.0, words=True)
    step = distillation(model, step=StepSettings(curriculum=stages), **settings)
    plain = distillation(model, **settings)(batch, 0, 0.0).loss
    for progress, replaced in ((0.0, 1), (0.3, 2), (0.9, None)):
        passes = stages.stage(progress, SLOTS, 0).passes
        two = model(with_words(batch, replaced), passes=passes)
        assert torch.allclose(step(batch, 0, progress).loss, cross_entropy(two.student.rows, 3), atol=1e-6)
    assert torch.equal(step(batch, 0, 0.9).loss, plain)
    alone = [step(pico.batch((row,)), 0, 0.0).loss for row in rows()]
    together = step(pico.batch(rows(), "left", extra=2), 0, 0.0).loss
    assert torch.allclose(together, torch.stack(alone).mean(), atol=1e-5)
