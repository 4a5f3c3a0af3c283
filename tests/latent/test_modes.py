"""Both modes against plain calls of the same transformers model, and against themselves in other company."""

import pytest
import torch
from torch import Tensor

import pico
import pico_slow
from kvdistill.kv import ModelOutput, TwoModes
from kvdistill.latent.config import LatentConfig
from kvdistill.latent.reasoner import LatentReasoner

FEW = ("llama", "gpt2", "gemma3")
WIDE = [(name, (5, 2)) for name in pico.CONFIGS]
NARROW = [(name, shape) for name in FEW for shape in ((4, 4), (4, 1), (3, 0))]
"""Slots and passes: two passes for every architecture, the ends of the range for three that differ most."""


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


@pytest.mark.parametrize(("name", "shape"), WIDE + NARROW)
def test_a_sample_does_not_depend_on_its_neighbours(name: str, shape: tuple[int, int]) -> None:
    model = pico.reasoner(
        name, slots=shape[0], passes=shape[1], delimiters="student" if shape[0] == shape[1] else "both"
    )
    rows = pico.cued()
    with torch.no_grad():
        together = [
            model(pico.batch(rows, side, extra=2), measure_attention=True) for side in ("right", "left")
        ]
        for index, row in enumerate(rows):
            alone = everything(model(pico.batch((row,)), measure_attention=True), 0)
            for two in together:
                assert (everything(two, index) - alone).abs().max() < 1e-5


def spread(
    model: LatentReasoner, layer: pico_slow.Projected, layer_id: int, first: int, count: int, rows: list[int]
) -> Tensor:
    """Slow attention of ``rows`` over ``count`` columns from ``first`` on."""
    return pico_slow.attended(
        model.backbone.config, layer_id, layer, list(range(first, first + count)), rows
    )[None]


@pytest.mark.parametrize(("name", "shape"), WIDE + NARROW)
def test_both_modes_equal_plain_calls_of_the_model(name: str, shape: tuple[int, int]) -> None:
    """Logits, hidden states, un-rotated keys, values and attention of one sample, recomputed from the first
    token on.
    """
    model = pico.reasoner(name, slots=shape[0], passes=shape[1], delimiters="both")
    row = pico.cued()[0]
    with torch.no_grad():
        two = model(pico.batch((row,)), measure_attention=True)
        text = [
            *row["question"],
            *row["cue"],
            model.special.bot,
            *row["cot"],
            model.special.eot,
            *row["prompt"],
            *row["answer"],
        ]
        teacher = model.embed(torch.tensor([text]))
        tail = model.embed(torch.tensor([[model.special.eot, *row["prompt"], *row["answer"]]]))
        student = torch.cat((pico_slow.thought(model, row), tail), 1)
    labels = len(row["cot"]) + 1 + len(row["prompt"]) + len(row["answer"])
    check(
        model,
        two.teacher,
        teacher,
        (text[-labels:], len(row["answer"])),
        len(row["question"]) + 2,
        len(row["cot"]),
    )
    first = len(row["question"]) + len(row["student_cue"]) + 1
    check(model, two.student, student, (list(row["answer"]), len(row["answer"])), first, shape[0])


def check(
    model: LatentReasoner,
    mode: ModelOutput,
    embeds: Tensor,
    labelled: tuple[list[int], int],
    first: int,
    count: int,
) -> None:
    """``mode`` against one plain call over ``embeds``, whose cache stands in ``count`` columns from ``first``
    on.
    """
    labels, answer = labelled
    with torch.no_grad():
        logits, hidden, _ = pico_slow.plain(model, embeds)
        _, layers = pico_slow.projected(model.backbone, inputs_embeds=embeds)
    torch.testing.assert_close(mode.rows.logits, logits[-len(labels) - 1 : -1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mode.hidden[0], hidden[:, -answer - 1], rtol=1e-4, atol=1e-5)
    assert mode.rows.labels.tolist() == labels
    assert mode.rows.is_answer.tolist() == [False] * (len(labels) - answer) + [True] * answer
    rows = list(range(embeds.shape[1] - answer - 1, embeds.shape[1] - 1))
    for layer_id, layer in enumerate(mode.kv.layers):
        own = layers[layer_id]
        torch.testing.assert_close(layer.keys, own.keys[:, :, first : first + count], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            layer.values, own.values[:, :, first : first + count], rtol=1e-4, atol=1e-5
        )
        attention = layer.importance if mode.attention is None else mode.attention[layer_id]
        torch.testing.assert_close(
            attention.double(), spread(model, own, layer_id, first, count, rows), rtol=1e-4, atol=1e-6
        )


BLOCKS = [(name, (3, passes)) for name in FEW for passes in (1, 5)]
"""Blocks may have more passes than slots."""


@pytest.mark.parametrize(("name", "shape"), BLOCKS)
@pytest.mark.parametrize("feedback", ["add", "mlp"])
def test_blocks_recompute_every_slot_from_its_own_state(
    name: str, shape: tuple[int, int], feedback: str
) -> None:
    """Logits, cache and attention against plain calls that pass each slot's state back to itself."""
    model = pico.reasoner(name, slots=shape[0], passes=shape[1], layout="blocks", feedback=feedback)
    row = pico.cued()[0]
    with torch.no_grad():
        two = model(pico.batch((row,)), measure_attention=True, read_slots=True)
        tail = model.embed(torch.tensor([[model.special.eot, *row["prompt"], *row["answer"]]]))
        student = torch.cat((pico_slow.thought(model, row), tail), 1)
        logits, hidden, _ = pico_slow.plain(model, student)
    first = len(row["question"]) + len(row["student_cue"]) + 1
    check(model, two.student, student, (list(row["answer"]), len(row["answer"])), first, shape[0])
    slots = two.student.slots
    assert slots is not None
    read = slice(first - 1, first + shape[0])
    torch.testing.assert_close(slots.hidden[0], hidden[-1][read], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(slots.logits[0], logits[read], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FEW)
def test_blocks_do_not_depend_on_neighbours(name: str) -> None:
    model = pico.reasoner(name, slots=3, passes=2, layout="blocks", feedback="add")
    rows = pico.cued()
    with torch.no_grad():
        together = model(pico.batch(rows, "left", extra=2), measure_attention=True)
        for index, row in enumerate(rows):
            alone = everything(model(pico.batch((row,)), measure_attention=True), 0)
            assert (everything(together, index) - alone).abs().max() < 1e-5


@pytest.mark.parametrize(("slots", "passes"), [(4, 4), (5, 2), (4, 1), (3, 0)])
def test_the_states_of_the_slots_are_those_of_the_last_pass_that_computed_them(
    slots: int, passes: int
) -> None:
    """``<bot>``, T - 1 final slots, the rest from pass T: against all slots recomputed in every pass."""
    model, row = pico.reasoner(slots=slots, passes=passes), pico.cued()[0]
    with torch.no_grad():
        two = model(pico.batch((row,)), read_slots=True)
        _, hidden, _ = pico_slow.plain(model, pico_slow.thought(model, row))
    assert two.student.slots is not None
    torch.testing.assert_close(two.student.slots.hidden[0], hidden[-1][-slots - 1 :], rtol=1e-4, atol=1e-5)
    assert model(pico.batch((row,))).student.slots is None


@pytest.mark.parametrize("layout", ["shift", "blocks"])
def test_another_number_of_passes_is_that_of_a_student_built_with_it(layout: str) -> None:
    """A curriculum's passes, on one student."""
    many, few = (pico.reasoner(slots=4, passes=passes, layout=layout) for passes in (4, 2))
    batch = pico.batch(pico.cued())
    with torch.no_grad():
        two, wanted = many(batch, passes=2), few(batch)
    for sample in range(3):
        assert torch.equal(everything(two, sample), everything(wanted, sample))


def test_teacher_mode_alone_is_teacher_mode() -> None:
    model, batch = pico.reasoner(slots=4, passes=2), pico.batch(pico.cued())
    columns: list[int] = []
    with torch.no_grad():
        two = model(batch)
        model.body.register_forward_pre_hook(
            lambda _, args, kwargs: columns.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
        )
        alone = model(batch, "cot")
    assert len(columns) == 1
    torch.testing.assert_close(alone.rows.logits, two.teacher.rows.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alone.kv.layers[2].keys, two.teacher.kv.layers[2].keys, rtol=1e-4, atol=1e-5)
    assert alone.attention is None


def cross_entropy(mode: ModelOutput) -> Tensor:
    return torch.nn.functional.cross_entropy(mode.rows.logits, mode.rows.labels, reduction="sum")


def gradients(model: LatentReasoner, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def slow_loss(model: LatentReasoner, row: dict[str, tuple[int, ...]]) -> Tensor:
    """Both modes' cross entropy and the sum of the latent values, from plain calls alone."""
    tail = [model.special.eot, *row["prompt"], *row["answer"]]
    embeds = torch.cat((pico_slow.thought(model, row), model.embed(torch.tensor([tail]))), 1)
    logits, _, cache = pico_slow.plain(model, embeds)
    text = [*row["question"], *row["cue"], *row["cot"], *row["prompt"], *row["answer"]]
    teacher, _, _ = pico_slow.plain(model, model.embed(torch.tensor([text])))
    labels, answer, slots = (
        len(row["cot"]) + len(row["prompt"]) + len(row["answer"]),
        len(row["answer"]),
        model.config.slots,
    )
    first = embeds.shape[1] - len(tail) - slots
    loss = torch.nn.functional.cross_entropy(
        logits[-answer - 1 : -1], torch.tensor(row["answer"]), reduction="sum"
    )
    loss = loss + torch.nn.functional.cross_entropy(
        teacher[-labels - 1 : -1], torch.tensor(text[-labels:]), reduction="sum"
    )
    return loss + sum(values[:, :, first : first + slots].square().sum() for _, values in cache)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_gradients_equal_those_of_a_slow_recomputation(name: str) -> None:
    """In float64, through every pass, in a padded batch."""
    model, rows = pico.reasoner(name, slots=4, passes=3).double(), pico.cued()[:2]
    two = model(pico.batch(rows, "left", extra=1))
    values = sum(layer.values.square().sum() for layer in two.student.kv.layers)
    fast = gradients(model, cross_entropy(two.teacher) + cross_entropy(two.student) + values)
    slow = gradients(model, sum(slow_loss(model, row) for row in rows))
    assert fast.keys() == slow.keys() == dict(model.named_parameters()).keys()
    for parameter, gradient in slow.items():
        assert (fast[parameter] - gradient).abs().max() <= 1e-5 * (1 + gradient.abs().max()), parameter


def distilled(model: LatentReasoner) -> Tensor:
    """A loss that hangs on logits, keys and values of the student, and the teacher's logits."""
    two = model(pico.batch(pico.cued()[:2], "left"))
    kv = sum(layer.keys.square().mean() + layer.values.square().mean() for layer in two.student.kv.layers)
    return cross_entropy(two.teacher) + cross_entropy(two.student) + kv


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_gradient_checkpointing_changes_nothing(name: str) -> None:
    model = pico.reasoner(name, slots=4, passes=2).train()
    model.geometry()
    layers: list[int] = []
    model.body.layers[0].mlp.register_forward_pre_hook(lambda *_: layers.append(1))
    loss = distilled(model)
    expected = gradients(model, loss)
    assert len(layers) == 3
    model.gradient_checkpointing_enable({"use_reentrant": False})
    again = distilled(model)
    found = gradients(model, again)
    assert len(layers) == 3 + 6
    assert torch.equal(loss, again)
    for parameter, gradient in expected.items():
        torch.testing.assert_close(found[parameter], gradient, rtol=1e-5, atol=1e-7)


def test_the_teacher_is_detached_and_the_student_is_not() -> None:
    model = pico.reasoner(slots=4, passes=2)
    two = model(pico.batch(pico.cued()), measure_attention=True)
    for teacher, student in zip(two.teacher.kv.layers, two.student.kv.layers, strict=True):
        assert not any(states.requires_grad for states in (teacher.keys, teacher.values, teacher.importance))
        assert student.keys.requires_grad
        assert student.values.requires_grad
        assert student.importance is None
    assert all(layer.requires_grad for layer in two.student.attention)
    assert all(torch.allclose(layer.sum(-1), torch.ones(())) for layer in two.student.attention)
    assert two.teacher.rows.logits.requires_grad
    assert two.teacher.hidden.requires_grad


def test_attention_is_even_where_the_window_hides_every_slot() -> None:
    """A window of 2 over eot, prompt and answer: importance as well as attention to the slots."""
    config = pico.CONFIGS["mistral"]()
    config.sliding_window = 2
    model = LatentReasoner(
        LatentConfig(backbone=config, special=dict(pico.SPECIAL), slots=4, passes=2), pico.from_config(config)
    )
    with torch.no_grad():
        row = pico.samples(1)[0] | {"cot": (8,) * 6}
        two = model(pico.batch((row,)), measure_attention=True)
    assert torch.equal(two.student.attention[1], torch.full((1, 2, 4), 0.25))
    torch.testing.assert_close(two.teacher.kv.layers[1].importance, torch.full((1, 2, 6), 1 / 6))


def test_attention_only_where_somebody_asks() -> None:
    assert pico.reasoner(slots=2, passes=1)(pico.batch(pico.cued())).student.attention is None


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3"])
def test_half_precision_is_near(name: str) -> None:
    model, batch = pico.reasoner(name, slots=4, passes=2), pico.batch(pico.cued(), "left")
    with torch.no_grad():
        exact = model(batch)
        half = model.to(torch.bfloat16)(batch)
    for mode in ("teacher", "student"):
        fine, coarse = getattr(exact, mode), getattr(half, mode)
        assert coarse.rows.logits.dtype == torch.bfloat16
        pairs = [
            (fine.rows.logits, coarse.rows.logits),
            *((a.keys, b.keys) for a, b in zip(fine.kv.layers, coarse.kv.layers, strict=True)),
        ]
        for a, b in pairs:
            assert (a - b.float()).norm() < 0.05 * a.norm()


def test_chains_of_thought_may_be_empty() -> None:
    """Direct answers: nothing to distil, nothing that is not a number."""
    rows = tuple({**row, "cot": ()} for row in pico.cued())
    output = pico.reasoner()(pico.batch(rows), "cot")
    assert output.kv.layers[0].keys.shape[2] == 0
    assert output.rows.logits.isfinite().all()
    assert output.rows.is_answer.sum() == sum(len(row["answer"]) for row in rows)
