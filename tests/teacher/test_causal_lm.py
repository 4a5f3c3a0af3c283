"""A frozen teacher against plain calls of its own model, what it leaves alone, and whose teacher it refuses
to be.
"""

import json
import re

import pytest
import torch
import transformers as tf
from tokenizers import Tokenizer
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import ByteLevel

import pico
import pico_slow
import pico_tokenizer
from kvdistill.align import Projector, Ratio
from kvdistill.compress import RKV
from kvdistill.kv import LayerKV, ModelKV, full_mask, require_unrotated
from kvdistill.latent.config import LatentConfig
from kvdistill.latent.reasoner import SPECIAL_TOKENS, LatentReasoner, add_latent_tokens
from kvdistill.losses import KVLoss
from kvdistill.teacher import CausalLMTeacher, require_vocabulary, tokenizer_difference
from pico_losses import compare

SHAPE = {
    "intermediate_size": 48,
    "vocab_size": pico.VOCABULARY,
    "max_position_embeddings": 128,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
DEEP = {
    "hidden_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 12,
}
SHALLOW = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
TEXTS = ["The baker sells 12 loaves, then 30 more.", "How many are left? It's 7."]
LATENT = tuple(SPECIAL_TOKENS.values())


def model(name: str) -> tf.PreTrainedModel:
    return (
        pico.from_config(tf.LlamaConfig(**SHAPE, **DEEP), seed=5)
        if name == "llama_deep"
        else pico.backbone(name, seed=5)
    )


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", ["llama_deep", "gpt2", "gemma3", "qwen3", "stablelm"])
def test_a_padded_batch_equals_plain_calls_of_each_sample(name: str, side: str) -> None:
    """Keys before the rotation and values from the model's own projections, importance in float64."""
    teacher = CausalLMTeacher(model(name), name)
    kv = teacher.read(pico.batch(pico.cued(), side, extra=2))
    require_unrotated(kv, "test")
    assert (kv.source, kv.layer_ids) == (name, tuple(range(teacher.model.config.num_hidden_layers)))
    for sample, row in enumerate(pico.cued()):
        text = [*row["question"], *row["cue"], *row["cot"], *row["prompt"], *row["answer"]]
        first, count, answer = len(row["question"]) + 1, len(row["cot"]), len(row["answer"])
        with torch.no_grad():
            _, layers = pico_slow.projected(teacher.model, input_ids=torch.tensor([text]))
        columns, predicting = (
            list(range(first, first + count)),
            list(range(len(text) - answer - 1, len(text) - 1)),
        )
        for layer_id, layer in enumerate(kv.layers):
            own, kept = layers[layer_id], layer.mask[sample, 0]
            assert layer.positions[sample, 0][kept].tolist() == list(range(count))
            torch.testing.assert_close(
                layer.keys[sample][:, kept], own.keys[0, :, columns], rtol=1e-4, atol=1e-5
            )
            torch.testing.assert_close(
                layer.values[sample][:, kept], own.values[0, :, columns], rtol=1e-4, atol=1e-5
            )
            slow = pico_slow.attended(teacher.model.config, layer_id, own, columns, predicting)
            torch.testing.assert_close(layer.importance[sample][:, kept].double(), slow, rtol=1e-4, atol=1e-6)


def test_some_heads_are_those_of_all() -> None:
    """Of three heads in each layer, the last and the first, with their importance."""
    every, some = (CausalLMTeacher(model("llama_deep"), "x", heads=heads) for heads in (None, (2, 0)))
    assert [layer.heads for layer in some.geometry().layers] == [2] * 4
    batch = pico.batch(pico.cued())
    for ours, theirs in zip(some.read(batch).layers, every.read(batch).layers, strict=True):
        assert ours.importance is not None and theirs.importance is not None
        for mine, whole in ((ours.keys, theirs.keys), (ours.values, theirs.values)):
            assert torch.equal(mine, whole[:, [2, 0]])
        assert torch.equal(ours.importance, theirs.importance[:, [2, 0]])


@pytest.mark.parametrize("delimiters", ["student", "both"])
def test_a_saved_student_reads_as_its_own_teacher_mode_does(delimiters: str) -> None:
    student, batch = (
        pico.reasoner("llama", slots=3, passes=1, delimiters=delimiters),
        pico.batch(pico.cued(), "left"),
    )
    round_chain = (student.special.bot, student.special.eot) if delimiters == "both" else None
    with torch.no_grad():
        own = student(batch, "cot").kv
    found = CausalLMTeacher(student.backbone, "itself", round_chain).read(batch)
    for ours, theirs in zip(own.layers, found.layers, strict=True):
        for field in ("keys", "values", "importance", "mask", "positions", "step_end"):
            torch.testing.assert_close(getattr(theirs, field), getattr(ours, field), rtol=1e-4, atol=1e-5)


def test_the_geometry_is_measured() -> None:
    layers = CausalLMTeacher(model("llama_deep"), "deep").geometry().layers
    assert [(layer.heads, layer.key_width, layer.value_width, layer.positional) for layer in layers] == [
        (3, 12, 12, "rotary")
    ] * 4
    assert CausalLMTeacher(model("gpt2"), "gpt2").geometry().layers[0].positional == "learned"


@pytest.mark.parametrize("name", ["llama_dynamic", "phi3_longrope"])
def test_a_long_first_text_is_unrotated_with_its_own_frequencies(name: str) -> None:
    """Scaling that changes beyond 16 tokens: measuring after the call would put the short text's frequencies
    back.
    """
    teacher, row = (
        CausalLMTeacher(model(name), name),
        max(pico.cued(), key=lambda row: len(row["question"] + row["cot"])),
    )
    text = [*row["question"], *row["cue"], *row["cot"], *row["prompt"], *row["answer"]]
    assert len(text) > 20
    kv = teacher.read(pico.batch((row,)))
    with torch.no_grad():
        _, layers = pico_slow.projected(teacher.model, input_ids=torch.tensor([text]))
    first = len(row["question"]) + 1
    torch.testing.assert_close(
        kv.layers[0].keys, layers[0].keys[:, :, first : first + len(row["cot"])], rtol=1e-4, atol=1e-5
    )


def test_dropout_does_not_act_and_the_modes_stay() -> None:
    teacher, batch = CausalLMTeacher(model("gpt2"), "gpt2"), pico.batch(pico.cued())
    calm = teacher.read(batch)
    teacher.model.train()
    found = teacher.read(batch)
    assert all(
        torch.equal(ours.keys, theirs.keys) for ours, theirs in zip(calm.layers, found.layers, strict=True)
    )
    assert all(module.training for module in teacher.model.modules())


def test_one_call_of_the_body_without_the_head_and_without_latent_tokens() -> None:
    teacher, batch = CausalLMTeacher(model("llama_deep"), "deep"), pico.batch(pico.cued())
    teacher.geometry()
    ids: list[torch.Tensor] = []
    heads: list[int] = []
    teacher.model.get_input_embeddings().register_forward_pre_hook(lambda _, args: ids.append(args[0]))
    teacher.model.lm_head.register_forward_pre_hook(lambda *_: heads.append(1))
    teacher.read(batch)
    assert len(ids) == 1
    assert not heads
    assert not torch.isin(ids[0], torch.tensor(list(pico.SPECIAL.values()))).any()
    assert teacher.model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("name", ["llama_deep", "gpt2"])
def test_learning_from_a_teacher_leaves_it_as_it_was(name: str) -> None:
    """Thirty steps of Adam on the projector and a free latent cache: the loss halves, the teacher stays."""
    teacher, student = (
        CausalLMTeacher(model(name), name),
        CausalLMTeacher(pico.from_config(tf.LlamaConfig(**SHAPE, **SHALLOW)), "student"),
    )
    before = {key: value.clone() for key, value in teacher.model.state_dict().items()}
    target = RKV().compress(teacher.read(pico.batch(pico.cued())), 4)
    projector = Projector(
        student.geometry(), teacher.geometry(), Ratio().pair(student.geometry(), teacher.geometry())
    )
    states = [torch.randn(3, 2, 4, 8, requires_grad=True) for _ in range(4)]
    mask = full_mask(states[0])
    layers = tuple(
        LayerKV(keys, values, mask, torch.arange(4).expand(mask.shape))
        for keys, values in (states[:2], states[2:])
    )
    optimizer = torch.optim.Adam([*projector.parameters(), *states], lr=0.03)
    losses = []
    for _ in range(30):
        moved = projector.move(ModelKV(layers, (0, 1), "student"))
        loss = compare(KVLoss(), projector.select(target), moved, layer_weights=projector.weights()).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert all(torch.equal(value, before[key]) for key, value in teacher.model.state_dict().items())
    assert not any(
        parameter.requires_grad or parameter.grad is not None for parameter in teacher.model.parameters()
    )


def test_the_loss_reaches_the_student_through_the_projector() -> None:
    backbone = pico.from_config(tf.LlamaConfig(**SHAPE, **SHALLOW))
    student = LatentReasoner(
        LatentConfig(backbone=backbone.config, special=dict(pico.SPECIAL), slots=4, passes=2), backbone
    )
    teacher, batch = CausalLMTeacher(model("llama_deep"), "deep"), pico.batch(pico.cued())
    projector = Projector(
        student.geometry(), teacher.geometry(), Ratio().pair(student.geometry(), teacher.geometry())
    )
    target = projector.select(RKV().compress(teacher.read(batch), 4))
    compare(
        KVLoss(), target, projector.move(student(batch).student.kv), layer_weights=projector.weights()
    ).loss.backward()
    assert all(weight.grad.norm() > 0 for weight in projector.parameters())
    assert student.backbone.model.layers[1].self_attn.k_proj.weight.grad.norm() > 0
    assert all(parameter.grad is None for parameter in teacher.model.parameters())


def test_texts_beyond_learned_positions_are_refused() -> None:
    config = pico.CONFIGS["gpt2"]()
    config.n_positions = 20
    teacher, row = CausalLMTeacher(pico.from_config(config), "small"), pico.cued()[0]
    fits = {**row, "question": (3, 4), "cot": (5,) * (20 - 3 - 2 - len(row["answer"]))}
    padded = teacher.read(pico.batch((fits,), extra=4))
    assert padded.layers[0].keys.isfinite().all()
    longer = {**fits, "cot": (*fits["cot"], 5)}
    with pytest.raises(
        ValueError,
        match=r"teacher small has learned positions for 20 tokens, and a sample has 21\. .*max_length",
    ):
        teacher.read(pico.batch((longer,)))


def test_windows_by_hand() -> None:
    """GPT-2's table; Llama's training length; Qwen's YaRN, 16 tokens by 4; none where nothing limits it."""
    learned = CausalLMTeacher(pico.backbone("gpt2"), "x").window()
    assert learned is not None
    assert (learned.tokens, learned.scalable) == (128, False)
    trained = CausalLMTeacher(model("llama_deep"), "x").window()
    assert trained is not None
    assert (trained.tokens, trained.scalable) == (128, True)
    yarn = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16}
    config = tf.Qwen2Config(**SHAPE | {"max_position_embeddings": 16}, **SHALLOW, rope_parameters=yarn)
    scaled = CausalLMTeacher(pico.from_config(config), "x").window()
    assert scaled is not None
    assert scaled.tokens == 64


def test_a_placed_teacher_is_not_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """A student elsewhere (here: on no real device) takes other teachers along."""
    stays, follows = (CausalLMTeacher(model("llama_deep"), "x", placed=placed) for placed in (True, False))
    batch, moved = pico.batch(pico.cued()), []
    before = stays.read(batch)
    # A device of the same memory under another name, so that devices differ on a machine with one.
    monkeypatch.setattr(tf.PreTrainedModel, "device", property(lambda self: torch.device("cpu:0")))
    monkeypatch.setattr(tf.PreTrainedModel, "to", lambda self, device: moved.append((id(self), device)))
    after = stays.read(batch)
    assert not moved
    follows.read(batch)
    assert moved == [(id(follows.model), torch.device("cpu"))]
    assert torch.equal(after.layers[0].keys, before.layers[0].keys)
    assert after.layers[0].keys.device == batch.cot_id.device


def test_models_that_cannot_be_packed_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"flex_attention attention takes no mask .* attn_implementation='sdpa' or 'eager'\."
    ):
        CausalLMTeacher(pico.backbone("llama", attention="flex_attention"), "flex")


def test_a_vocabulary_that_is_too_small_is_refused() -> None:
    require_vocabulary(model("gpt2"), [0, 63], "gpt2")
    require_vocabulary(model("gpt2"), [], "gpt2")
    with pytest.raises(
        ValueError,
        match=r"The teacher gpt2 has embeddings for 64 tokens, but .* go up to id 64: .* Choose a teacher",
    ):
        require_vocabulary(model("gpt2"), [64, 3], "gpt2")


def changed(change: dict[str, object]) -> tf.PreTrainedTokenizerFast:
    """The byte-level tokenizer of ``TEXTS`` with other settings of its model."""
    whole = json.loads(pico_tokenizer.byte_bpe(TEXTS).backend_tokenizer.to_str())
    whole["model"] |= change
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(whole)), pad_token="<pad>", eos_token="</s>"
    )


def test_the_same_tokenizer_passes_with_and_without_latent_tokens() -> None:
    student = pico_tokenizer.byte_bpe(TEXTS)
    add_latent_tokens(student)
    student(TEXTS, padding=True, truncation=True, max_length=4)
    taught = pico_tokenizer.byte_bpe(TEXTS)
    add_latent_tokens(taught)
    for teacher in (
        pico_tokenizer.byte_bpe(TEXTS),
        taught,
        changed({"continuing_subword_prefix": "", "dropout": None}),
    ):
        assert not tokenizer_difference(student, teacher, "same", LATENT)


def test_unlike_vocabularies_differ() -> None:
    """Words: <pad> 0, </s> 1, <unk> 2, then those given."""
    student, teacher = (
        pico_tokenizer.word_level(("one", "two")),
        pico_tokenizer.word_level(("one", "three", "two")),
    )
    add_latent_tokens(student)
    assert tokenizer_difference(student, teacher, "T", LATENT) == (
        "the token 'three' is unknown to the student and number 4 to the teacher"
    )
    swapped = pico_tokenizer.word_level(("two", "one"))
    assert tokenizer_difference(student, swapped, "T", LATENT) == (
        "the token 'one' is number 3 to the student and number 4 to the teacher"
    )


def test_unlike_cuts_differ() -> None:
    """The same vocabulary: another normaliser, pre-tokeniser or order of merges."""
    student, lower, spaced = (pico_tokenizer.byte_bpe(TEXTS) for _ in range(3))
    add_latent_tokens(student)
    lower.backend_tokenizer.normalizer = Lowercase()
    spaced.backend_tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True)
    merges = json.loads(student.backend_tokenizer.to_str())["model"]["merges"]
    for teacher, told in (
        (
            lower,
            "the normaliser differs in its type, None for the student and 'Lowercase' for the teacher",
        ),
        (
            spaced,
            "the pre-tokeniser differs in its add_prefix_space, None for the student and True for the "
            "teacher",
        ),
        (
            changed({"merges": merges[::-1]}),
            f"the model differs in its merges, {merges[0]} for the student and {merges[-1]} for the teacher",
        ),
        (
            changed({"merges": merges[:-1]}),
            f"the model differs in its merges, {merges[-1]} for the student and None for the teacher",
        ),
        (
            changed({"fuse_unk": True}),
            "the model differs in its fuse_unk, None for the student and True for the teacher",
        ),
    ):
        assert tokenizer_difference(student, teacher, "T", LATENT) == told


def test_a_tokenizer_that_is_not_fast_is_refused() -> None:
    with pytest.raises(ValueError, match=r"teacher T has no fast tokenizer .* put a tokenizer\.json into"):
        tokenizer_difference(pico_tokenizer.byte_bpe(TEXTS), tf.ByT5Tokenizer(), "T", LATENT)
    with pytest.raises(ValueError, match="The student has no fast tokenizer"):
        tokenizer_difference(tf.ByT5Tokenizer(), pico_tokenizer.byte_bpe(TEXTS), "T", LATENT)


def test_real_tokenizers(shared_data: object) -> None:
    """OPT cuts as GPT-2 does and numbers otherwise; GPT-NeoX does neither."""
    ours, opt, neox = (pico_tokenizer.real(shared_data, name) for name in ("gpt2", "opt", "gptneox"))
    assert not tokenizer_difference(ours, ours, "itself", LATENT)
    for other in (opt, neox):
        found = tokenizer_difference(ours, other, "another", LATENT)
        assert re.fullmatch("the token '.*' is .* to the student and .* to the teacher", found)
