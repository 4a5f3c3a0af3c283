"""Teachers that read other texts: two prompts, sampled chains, resumed runs, and what is refused."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kvdistill.data.keys import question_key
from kvdistill.pipeline import Distillation
from kvdistill.records.traces import QuestionTraces, Trace, TracesHeader, write_traces
from kvdistill.run.folder import COMPLETED
from kvdistill.run.readings import require_readings
from kvdistill.run.step import step_model
from kvdistill.run.student import build_student
from kvdistill.run.train import train
from kvdistill.target.compress_first import CompressFirstBridge
from kvdistill.teacher import CausalLMTeacher
from kvdistill.text import Example
from pico_students import save_base
from pico_teachers import TASK, encoded, live, run

SAMPLED = 8
"""Training samples; all have two right chains but the first, with none, and the second, with one."""

TRAINING: dict[str, Any] = {"max_steps": -1, "epochs": 2, "save_steps": 1, "resume": True}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("readings") / "base")


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chains that a teacher wrote: the terse and the verbose trace of each question."""
    path = tmp_path_factory.mktemp("sampled") / "samples.jsonl"
    found = [sampled_of(place, example) for place, example in enumerate(TASK.make(SAMPLED, "train", 0))]
    write_traces(path, header(len(found)), found)
    return path


def header(questions: int) -> TracesHeader:
    return TracesHeader(
        teacher="t", source="t", revision=None, weights="w", tokenizer="k", data="d", questions=questions
    )


def sampled_of(place: int, example: Example) -> QuestionTraces:
    traces = tuple(Trace(trace.steps, example.answer) for trace in example.traces)[: min(place, 2)]
    return QuestionTraces(question_key(example), example.sample_id, traces, 8, len(traces))


def copy(base: Path, **options: Any) -> dict[str, Any]:
    """A teacher that is the student's own start."""
    return live(base, adapter={"kind": "identity"}, **options)


def told(base: Path, output: Path, teachers: Mapping[str, Any], num: int = 8, **sections: Any) -> Any:
    """Two epochs of two steps; a checkpoint after the first step and in the middle of the second epoch."""
    data = {"train": {"kind": "synthetic", "num": num, "task": {"names": 5, "steps": 4}}}
    rest: dict[str, Any] = {"data": data, "training": TRAINING, "target": {"method": {"kind": "step_end"}}}
    rest |= {"evaluation": {"modes": []}}
    return run(base, output, dict(teachers), **rest | sections)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoint-ep2" / "model.safetensors")


PHASES: dict[str, dict[str, dict[str, Any]]] = {
    "prompts": {"short": {"reads": "terse"}, "long": {"reads": "verbose"}},
    "samples": {"first": {"reads": "own", "draw": 0}, "second": {"reads": "own", "draw": 1}},
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_killed_run_of_one_model_with_two_texts_resumes_exactly(
    phase: str, base: Path, sampled: Path, tmp_path: Path
) -> None:
    """The run is cut off after its third step, in the middle of the second epoch, with loader workers."""
    teachers = {}
    for name, options in PHASES[phase].items():
        if options["reads"] == "own":
            options = options | {"traces": str(sampled)}
        teachers[name] = copy(base, **options)
    workers = {"num_workers": int(phase == "samples")}
    config = told(base, tmp_path / "run", teachers, training=TRAINING | workers)
    folder = train(config).folder
    whole = weights(folder)
    names = sorted(path.name for path in folder.glob("checkpoint-*"))
    assert len(names) == 4, names
    (folder / COMPLETED).unlink()
    shutil.rmtree(folder / "checkpoint-ep2")
    train(config)
    resumed = weights(folder)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_teachers_of_one_model_share_it_and_read_other_texts(
    base: Path, sampled: Path, tmp_path: Path
) -> None:
    own = {"reads": "own", "traces": str(sampled)}
    teachers = {"a": copy(base, **own), "b": copy(base, draw=1, **own), "c": copy(base, reads="verbose")}
    config = told(base, tmp_path, teachers)
    step = step_model(config, build_student(config))
    assert isinstance(step, Distillation)
    assert isinstance(step.bridge, CompressFirstBridge)
    first, second, third = step.teachers
    assert isinstance(first, CausalLMTeacher)
    assert isinstance(second, CausalLMTeacher)
    assert first.model is second.model is third.model  # pyright: ignore
    samples = encoded(step.student, SAMPLED)
    batch = step.collate(samples)
    assert batch.alignments == {}
    lengths = {name: batch.teachers[name].cot.lengths.tolist() for name in "abc"}
    # No chain of the first question, one of the second, two of the others: four words or sixteen, with ends.
    assert lengths["a"][0] == lengths["b"][0] == lengths["b"][1] == 0
    assert lengths["a"][1] == 4
    pairs = {frozenset(pair) for pair in zip(lengths["a"][2:], lengths["b"][2:], strict=True)}
    assert pairs == {frozenset((4, 16))}
    assert lengths["c"] == [16] * SAMPLED
    caches = [teacher.cache(batch, step.student(batch=batch)) for teacher in step.teachers]
    _, covered = step.bridge.align(caches, {})
    assert covered.all(-1)[:3].tolist() == [[False, False, True], [True, False, True], [True, True, True]]
    # Calibration reads the student's text with all of them.
    same = step.collate(samples, same_text=True)
    for name in "abc":
        assert torch.equal(same.read_by(name).cot.ids, batch.teacher_mode.cot.ids)


def test_epochs_draw_other_chains_and_workers_know_the_epoch(
    base: Path, sampled: Path, tmp_path: Path
) -> None:
    config = told(base, tmp_path, {"a": copy(base, reads="own", traces=str(sampled))})
    step = step_model(config, build_student(config))
    reader, examples = step.readers["a"], TASK.make(SAMPLED, "train", 0)
    read = [tuple(reading.cot.text for reading in reader.read(examples, epoch)) for epoch in range(6)]
    assert len(set(read)) > 1
    assert read == [tuple(reading.cot.text for reading in reader.read(examples, epoch)) for epoch in range(6)]


def test_a_copy_on_the_students_text_is_self_distillation(base: Path, tmp_path: Path) -> None:
    """Through the identity, compressed first, in the student's own text: the same loss to 1e-6."""
    bridge, method = {"kind": "lower", "order": "compress_first"}, {"kind": "rkv", "selection": "shared"}
    sections: dict[str, Any] = {"target": {"method": method}, "bridge": bridge}
    lowered = told(base, tmp_path, {"copy": copy(base)}, **sections)
    own = told(base, tmp_path, {}, target={"method": method}, bridge=None)
    found = []
    for config in (lowered, own):
        torch.manual_seed(0)
        step = step_model(config, build_student(config)).eval()
        assert isinstance(step, Distillation)
        loss = step(step.collate(encoded(step.student)), 0, 0.5)
        found.append(loss.metrics["kv"])
    assert isinstance(step_model(lowered, build_student(lowered)).bridge, CompressFirstBridge)
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-6)


def test_two_prompts_on_one_trace_need_no_time_map(base: Path, tmp_path: Path) -> None:
    teachers = {"plain": copy(base), "asked": copy(base, cue="fully")}
    config = told(base, tmp_path, teachers)
    assert config.lower_order == "align_first"
    step = step_model(config, build_student(config))
    batch = step.collate(encoded(step.student))
    assert batch.alignments == {}
    assert batch.teachers.keys() == {"asked"}
    assert torch.equal(batch.teachers["asked"].cot.ids, batch.teacher_mode.cot.ids)
    assert not torch.equal(batch.teachers["asked"].cue.ids, batch.teacher_mode.cue.ids)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a trace that the data lack": (
        {"reads": "verbos"},
        r"^teachers\.a\.reads is 'verbos', and none of 8 training samples has such a trace; they have terse, "
        r"verbose\. Did you mean 'verbose'\? GSM8K rows have words and equations, embedded tasks terse and",
    ),
    "no file": ({"reads": "own", "traces": "nowhere"}, r"^teachers\.a\.traces: there is no \S*nowhere\. `kv"),
    "too few chains": (
        {"reads": "own", "traces": "{sampled}", "draw": 2},
        r"^teachers\.a\.reads is 'own', and the teacher has 3 right and distinct .* for none of 8 training "
        r"questions \(7 have at least one\): sample more",
    ),
    "a line break": (
        {"cue": "Ann\nBob"},
        r"^teachers\.a\.cue: 'Ann\\nBob' holds a line break, and the template",
    ),
    "a special token": (
        {"cue": "</s> Bob"},
        r"^teachers\.a\.cue: '</s> Bob' holds </s>, which the tokeniz",
    ),
    "an unknown word": (
        {"cue": "zzz Bob"},
        r"^teachers\.a\.cue: 'zzz Bob' holds words that the tokenizer does",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_teachers_with_nothing_to_read_are_refused(
    case: str, base: Path, sampled: Path, tmp_path: Path
) -> None:
    options, sentence = REFUSED[case]
    options = {name: str(sampled) if value == "{sampled}" else value for name, value in options.items()}
    config = told(base, tmp_path, {"a": copy(base, **options)})

    def opened() -> None:
        step = step_model(config, build_student(config))
        require_readings(step.teachers, encoded(step.student, SAMPLED), print)

    with pytest.raises(ValueError, match=sentence):
        opened()


def test_partial_coverage_is_said(base: Path, sampled: Path, tmp_path: Path) -> None:
    config = told(base, tmp_path, {"a": copy(base, reads="own", traces=str(sampled), draw=1)})
    step, said = step_model(config, build_student(config)), list[str]()
    require_readings(step.teachers, encoded(step.student, SAMPLED), said.append)
    assert said == ["teachers.a: it has a chain of thought for 6 of 8 training samples and teaches those"]


@pytest.mark.parametrize("kind", ["step_end", "rkv"])
def test_a_batch_that_no_teacher_covers_has_no_kv_loss(
    kind: str, base: Path, sampled: Path, tmp_path: Path
) -> None:
    """The first question has no right chain: the step trains the student's other losses alone."""
    method = {"method": {"kind": kind, "selection": "shared"}}
    config = told(base, tmp_path, {"a": copy(base, reads="own", traces=str(sampled))}, target=method)
    step = step_model(config, build_student(config))
    batch = step.collate(encoded(step.student, SAMPLED)[:1])
    assert batch.read_by("a").cot.ids.shape == (1, 0)
    loss = step(batch, 0, 0.0)
    loss.loss.backward()
    assert float(loss.metrics["kv"]) == 0.0
    assert torch.isfinite(loss.loss)
    assert float(step.validate(batch)["kv"]) == 0.0
