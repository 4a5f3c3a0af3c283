"""Separate teachers: what they teach, that they learn nothing, and who cannot be one."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

import pico_tokenizer
from kvdistill.data import Chat, Plain, encode_all
from kvdistill.data.collate import collate
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.pipeline import Distillation
from kvdistill.records.schema import Metrics
from kvdistill.run.step import step_model, teachers_of
from kvdistill.run.student import build_student, template_of
from kvdistill.run.train import train
from kvdistill.teacher import CausalLMTeacher, SelfDistillation
from pico_students import TASK, batch_for, config, loss_of, on, save_base
from pico_teachers import live, run

BIG = {
    "llama": {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 3},
    "gpt2": {"hidden_size": 40, "num_hidden_layers": 3, "num_attention_heads": 5},
}


@pytest.mark.parametrize("name", list(BIG))
def test_a_separate_teacher_teaches_and_learns_nothing(name: str, base_folder: Path, tmp_path: Path) -> None:
    """Another depth, other heads and widths: the KV loss falls in 30 steps."""
    save_base(tmp_path / "big", model_type=name, **BIG[name])
    run = on(
        {"name": str(base_folder)}, teacher={"name": str(tmp_path / "big")}, loss={"kv": {"distance": "l1"}}
    )
    model = build_student(run)
    batch, step = batch_for(model), step_model(run, model)
    assert isinstance(step, Distillation)
    optimizer = torch.optim.Adam(step.parameters(), 3e-3)
    (teacher,) = step.teachers
    before = [parameter.clone() for parameter in teacher.model.parameters()]
    kv = []
    for number in range(30):
        loss = step(batch, number, 0.0)
        optimizer.zero_grad()
        loss.loss.backward()
        optimizer.step()
        kv.append(float(loss.metrics["kv"]))
    assert kv[-1] < 0.8 * kv[0]
    assert all(float(linear.weight.grad.abs().sum()) > 0 for linear in step.bridge.projector("teacher").keys)
    assert all(parameter.grad is None for parameter in teacher.model.parameters())
    assert all(map(torch.equal, before, teacher.model.parameters()))
    model.save_pretrained(tmp_path / "student")
    assert not [name for name in load_file(tmp_path / "student" / "model.safetensors") if "projector" in name]
    assert torch.equal(loss_of(LatentReasoner.from_pretrained(tmp_path / "student")), loss_of(model))


@pytest.mark.parametrize("delimiters", ["student", "both"])
def test_a_saved_student_may_be_the_teacher(delimiters: str, tmp_path: Path) -> None:
    """It reads as its own teacher mode does, with its delimiters; the other student has none."""
    big = build_student(config(latent={"slots": 3, "passes": 2, "delimiters": delimiters}))
    big.save_pretrained(tmp_path / "big")
    model = build_student(config())
    (teacher,) = teachers_of(config(teacher={"name": str(tmp_path / "big"), "attention": "eager"}), model)
    assert teacher.model.config._attn_implementation.endswith("eager")
    own = big.eval()(batch_for(model), "cot").kv
    for ours, theirs in zip(own.layers, teacher.read(batch_for(model)).layers, strict=True):
        torch.testing.assert_close(theirs.values, ours.values)


def test_a_teacher_reads_with_some_heads_only(base_folder: Path) -> None:
    model = build_student(config())
    told = config(teacher={"name": str(base_folder), "heads": [1]})
    (teacher,) = teachers_of(told, model)
    assert [layer.head_ids for layer in teacher.geometry().layers] == [(1,)] * 2
    with pytest.raises(ValueError, match=r"^teacher\.heads: there is no head 9: layer 0 has .* or all\.$"):
        teachers_of(config(teacher={"name": str(base_folder), "heads": [0, 9]}), model)


def test_teachers_that_cannot_teach_are_refused(base_folder: Path, tmp_path: Path) -> None:
    model = build_student(config())

    def teacher(name: Path | str, **loss: Any) -> Any:
        return teachers_of(config(teacher={"name": str(name)}, loss=loss), model)

    with pytest.raises(
        ValueError,
        match=r"^teacher\.name: 'nowhere' could not be loaded: it is neither here nor can it be had",
    ):
        teacher("nowhere")
    bare = shutil.copytree(base_folder, tmp_path / "bare", ignore=shutil.ignore_patterns("token*"))
    with pytest.raises(
        ValueError,
        match=r"^teacher\.name: \S*bare holds no tokenizer \(no tokenizer\.json .*\): copy its files "
        r"there\.$",
    ):
        teacher(bare)
    state = load_file(bare / "model.safetensors")
    save_file(
        {name: value for name, value in state.items() if "layers.1" not in name},
        bare / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(
        ValueError,
        match=r"^teacher\.name: '.*bare' could not be loaded: its weights do not fit .* \(missing "
        r"model\.layers\.1",
    ):
        teacher(bare)
    build_student(config()).save_pretrained(tmp_path / "student")
    (tmp_path / "student" / "tokenizer_config.json").unlink()
    with pytest.raises(
        ValueError,
        match=r"^teacher\.name: .*student was saved without its tokenizer, so it is not known whether it "
        r"reads the",
    ):
        teacher(tmp_path / "student")
    for own in (teacher("nowhere", kv_weight=0.0), teachers_of(config(), model)):
        assert [type(found) for found in own] == [SelfDistillation], "E1 asks for no other teacher"


def test_a_teacher_with_another_tokenizer_reads_in_its_own_tokens(base_folder: Path, tmp_path: Path) -> None:
    """Byte-level BPE without a padding token beside whole words: its cache is that of its own text."""
    folder = save_base(tmp_path / "bytes", vocab_size=400, max_position_embeddings=512)
    tokenizer = pico_tokenizer.byte_bpe([example.question for example in TASK.make(20, "train", 1)])
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    prompt = {"kind": "plain", "prompt": "Bob Ann"}
    data = {"train": {"kind": "synthetic", "num": 4, "task": {"names": 5, "steps": 2}}, "template": prompt}
    teachers = {
        "bytes": {"kind": "live", "name": str(folder), "device": "cpu"},
        "same": {"kind": "live", "name": str(base_folder)},
    }
    run = on({"name": str(base_folder)}, teachers=teachers, data=data)
    model = build_student(run)
    assert model.tokenizer is not None
    teacher, same = teachers_of(run, model)
    assert isinstance(teacher, CausalLMTeacher)
    assert (teacher.placed, teacher.reader is None, same.reader) == (True, False, None)
    # No template of its own: the student's, in its own tokens.
    encoded = encode_all(TASK.make(3, "train", 0), model.tokenizer, template_of(model)).samples
    batch = collate(encoded, 0, readers={"bytes": teacher.reader})
    (reading, *_) = teacher.reader.read([encoded[0].example])
    assert tokenizer.decode(reading.prompt.ids) == "Bob Ann"
    assert tokenizer.decode(reading.cot.ids) == encoded[0].teacher_mode.cot.text
    assert len(reading.cot.ids) != len(encoded[0].teacher_mode.cot.ids)
    kv = teacher.read(batch)
    assert kv.layers[0].mask[0, 0].sum() == len(reading.cot.ids)


def test_a_saved_student_with_another_tokenizer_reads_its_own_template(tmp_path: Path) -> None:
    task = {"names": 8, "steps": 2}
    data = {
        "train": {"kind": "synthetic", "num": 4, "task": task},
        "template": {"kind": "plain", "prompt": "="},
    }
    build_student(config(data=data)).save_pretrained(tmp_path / "big")
    for section, prompt in (({}, "="), ({"template": {"kind": "plain", "prompt": "Ann"}}, "Ann")):
        (teacher,) = teachers_of(
            config(teacher={"name": str(tmp_path / "big")} | section), build_student(config())
        )
        assert teacher.reader is not None
        assert teacher.reader.template.prompt == prompt


def test_a_teacher_of_weight_0_is_not_loaded(base_folder: Path) -> None:
    teachers = {
        "gone": {"kind": "live", "name": "nowhere", "weight": 0},
        "here": {"kind": "live", "name": str(base_folder), "weight": 1},
    }
    run = on({"name": str(base_folder)}, teachers=teachers)
    assert [teacher.name for teacher in teachers_of(run, build_student(run))] == ["here"]


def test_what_a_reader_lacks_is_found_before_training(base_folder: Path, tmp_path: Path) -> None:
    folder = save_base(tmp_path / "other", [*TASK.words(), "zebra"])
    run = on({"name": str(base_folder)}, teachers={"b": {"kind": "live", "name": str(folder)}})
    chat = run.model_copy(
        update={"teachers": {"b": run.teachers["b"].model_copy(update={"template": Chat()})}}
    )
    with pytest.raises(ValueError, match=r"^teachers\.b: The tokenizer .* has no chat template\. Choose the"):
        teachers_of(chat, build_student(run))


def test_adapters_are_saved_without_the_projector(base_folder: Path, tmp_path: Path) -> None:
    save_base(tmp_path / "big", **BIG["llama"])
    run = config(
        model={"name": str(base_folder), "tuning": {"r": 2}}, teacher={"name": str(tmp_path / "big")}
    )
    model = build_student(run)
    step = step_model(run, model)
    assert [name for name, _ in step.named_parameters() if name.startswith("bridge.projectors.teacher.")]
    model.save_pretrained(tmp_path / "student")
    kept = set(load_file(tmp_path / "student" / "model.safetensors"))
    assert kept == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert torch.equal(loss_of(LatentReasoner.from_pretrained(tmp_path / "student")), loss_of(model))


def test_a_projector_takes_no_random_number_of_the_run(base_folder: Path) -> None:
    """A run with a teacher and one without see the same numbers."""
    run = on({"name": str(base_folder)}, teacher={"name": str(base_folder)})
    model = build_student(run)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    step_model(run, model)
    assert torch.equal(torch.get_rng_state(), before)


def test_several_teachers_by_name_are_lifted_to_each(base_folder: Path, tmp_path: Path) -> None:
    """The student's own teacher mode beside a larger model: two pairs, two projectors, one loss."""
    save_base(tmp_path / "big", **BIG["llama"])
    teachers = {"self": {"kind": "own"}, "big": {"kind": "live", "name": str(tmp_path / "big")}}
    run = on({"name": str(base_folder)}, teachers=teachers, bridge={"kind": "lift"})
    model = build_student(run)
    step = step_model(run, model)
    assert isinstance(step, Distillation)
    assert [teacher.name for teacher in step.teachers] == ["self", "big"]
    step(batch_for(model), 0, 0.0).loss.backward()
    for name in teachers:
        linear = step.bridge.projector(name).keys[0]
        assert float(linear.weight.grad.abs().sum()) > 0


def test_a_teacher_with_a_prompt_of_its_own_reads_it(base_folder: Path) -> None:
    """Its tokens are those of its template, made with the batch; student and teacher mode read as before."""
    own_prompt = {"kind": "plain", "prompt": "Bob Ann"}
    teachers = {
        "asked": {"kind": "live", "name": str(base_folder), "template": own_prompt},
        "same": {"kind": "live", "name": str(base_folder)},
    }
    run = on({"name": str(base_folder)}, teachers=teachers)
    model = build_student(run)
    assert model.tokenizer is not None
    step = step_model(run, model)
    assert list(step.readers) == ["asked"]
    encoded = encode_all(TASK.make(4, "train", 0), model.tokenizer, template_of(model)).samples
    batch = collate(encoded, 0, readers=step.readers)
    plain = collate(encode_all(TASK.make(4, "train", 0), model.tokenizer, Plain(**own_prompt)).samples, 0)
    asked, same = step.teachers
    assert torch.equal(batch.read_by("asked").prompt.ids, plain.teacher_mode.prompt.ids)
    for found, expected in (
        (asked.read(batch), same.read(plain)),
        (same.read(batch), same.read(collate(encoded, 0))),
    ):
        for layer, other in zip(found.layers, expected.layers, strict=True):
            assert torch.equal(layer.keys, other.keys)
            assert torch.equal(layer.importance, other.importance)
    assert not torch.equal(asked.read(batch).layers[0].importance, same.read(batch).layers[0].importance)


def test_a_run_encodes_for_its_teachers_in_the_loaders_workers(base_folder: Path, tmp_path: Path) -> None:
    """With a worker process and without: the same losses; those of the student's prompt are others."""
    tokenizer = AutoTokenizer.from_pretrained(shutil.copytree(base_folder, tmp_path / "chatty"))
    tokenizer.chat_template = "Bob {{ messages[0].content }} Ann"
    tokenizer.save_pretrained(tmp_path / "chatty")

    def losses(name: str, workers: int, **teacher: Any) -> list[float]:
        options = {
            "num_workers": workers,
            "output_dir": str(tmp_path / name),
            "max_steps": 3,
            "batch_size": 2,
        }
        teachers = {"asked": {"kind": "live", "name": str(tmp_path / "chatty"), **teacher}}
        bridge = {"kind": "lift", "projector": "trained"}  # four samples are too few to fit one
        train(on({"name": str(base_folder)}, teachers=teachers, training=options, bridge=bridge))
        rows = (json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines())
        return [row["kv"] for row in rows if "kv" in row]

    first = losses("worker", 1, template={"kind": "chat"})
    assert len(first) > 0
    assert losses("no worker", 0, template={"kind": "chat"}) == first
    assert losses("student's prompt", 0) != first


def test_models_whose_layers_drop_arguments_teach_and_are_taught(tmp_path: Path) -> None:
    """A StableLM student with gradient checkpointing, of another StableLM and a Nemotron."""
    half = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
    base = save_base(tmp_path / "base", model_type="stablelm", qk_layernorm=True, rope_parameters=half)
    teachers = {
        "deep": live(save_base(tmp_path / "deep", model_type="stablelm", num_hidden_layers=3)),
        "other": live(save_base(tmp_path / "other", model_type="nemotron")),
    }
    losses = []
    for again in (False, True):
        folder = tmp_path / str(again)
        train(run(base, folder, teachers, training={"gradient_checkpointing": again}))
        losses.append(list(Metrics(folder / "metrics.jsonl").series()["loss"].values()))
    assert len(losses[0]) > 1
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
