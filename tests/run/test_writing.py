"""A teacher that writes: its prompt, and tokens drawn by random numbers of each row's own."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

import pico_trained
from kvdistill.config import DataSection, SyntheticData, TeacherSection
from kvdistill.run.writing import SampleTokens, WritingTeacher, open_writer
from pico_students import TASK, save_base

DATA = DataSection(train=SyntheticData(num=1))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> WritingTeacher:
    folder = tmp_path_factory.mktemp("teacher")
    pico_trained.trained().save_pretrained(folder)
    return open_writer("pico", TeacherSection(name=str(folder)), DATA)


def test_tokens_are_drawn_from_the_nucleus() -> None:
    """Probabilities ½, ¼, ⅛, ⅛ at temperature 1: a top-p of .7 keeps the first two, drawn as 2 to 1."""
    scores = torch.tensor([[0.125, 0.5, 0.125, 0.25]]).log().repeat(3000, 1)
    draw = SampleTokens([str(row) for row in range(3000)], temperature=1.0, top_p=0.7)
    tokens = draw(torch.zeros(3000, 1, dtype=torch.long), scores).argmax(-1).tolist()
    counts = Counter(tokens)
    assert counts.keys() == {1, 3}
    assert counts[1] / 3000 == pytest.approx(2 / 3, abs=0.03)
    # Temperature ½ squares the probabilities: 1/4 to 1/16, so the first alone has .73 of all.
    cold = SampleTokens([str(row) for row in range(50)], temperature=0.5, top_p=0.7)
    assert cold(torch.zeros(50, 1, dtype=torch.long), scores[:50]).argmax(-1).tolist() == [1] * 50


def test_a_draw_that_is_rounded_up_stays_in_the_nucleus() -> None:
    scores = torch.tensor([[0.125, 0.5, 0.125, 0.25]]).log()
    draw = SampleTokens(["a"], temperature=1.0, top_p=0.7)

    class Highest:
        """1 - 2^-53 is 1 in float32."""

        def random(self) -> float:
            return 1 - 2**-53

    draw.generators = [Highest()]  # pyright: ignore[reportAttributeAccessIssue]
    assert draw(torch.zeros(1, 1, dtype=torch.long), scores).argmax(-1).tolist() == [3]


def test_a_published_models_settings_of_generation_do_not_count(tmp_path: Path) -> None:
    """A repetition penalty of 50 would forbid what has been written."""
    found = []
    for penalty in (1.0, 50.0):
        folder = save_base(tmp_path / str(penalty))
        path = folder / "generation_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"repetition_penalty": penalty}))
        teacher = open_writer("base", TeacherSection(name=str(folder)), DATA)
        samples = teacher.encode(TASK.make(2, "train", 0))
        found.append(teacher.write(samples, SampleTokens(["a", "b"], 0.1, 1.0), 12))
    assert found[0] == found[1]


def test_texts_beyond_learned_positions_are_refused(tmp_path: Path) -> None:
    folder = save_base(tmp_path / "gpt2", model_type="gpt2", max_position_embeddings=64)
    teacher = open_writer("a", TeacherSection(name=str(folder)), DATA)
    (sample,) = teacher.encode(TASK.make(1, "train", 0))
    room = 64 - len(teacher.opening(sample))
    draw = SampleTokens(["x"], 1.0, 1.0)
    teacher.write([sample], draw, room + 1)
    with pytest.raises(ValueError, match=r"^teachers\.a: .* has learned positions for 64 tokens, and 65 may"):
        teacher.write([sample], draw, room + 2)


def test_a_rows_draws_are_its_own() -> None:
    scores = torch.randn(4, 30)
    together = SampleTokens(["a", "b", "c", "d"], 1.0, 1.0)
    alone = SampleTokens(["c"], 1.0, 1.0)
    ids = torch.zeros(4, 1, dtype=torch.long)
    for _ in range(3):
        assert torch.equal(together(ids, scores)[2:3], alone(ids[:1], scores[2:3]))


def test_a_teacher_reads_question_cue_and_its_delimiter(teacher: WritingTeacher) -> None:
    (sample,) = teacher.encode(pico_trained.examples()[1:2])
    assert teacher.delimiters is not None
    tokenizer = teacher.tokenizer
    assert tokenizer.decode(teacher.opening(sample)) == "please Ann Bob <bot>"
    assert teacher.weights.startswith("float32:")
    assert len(teacher.reading) == 32


def test_a_teacher_writes_after_its_own_cue(teacher: WritingTeacher) -> None:
    section = TeacherSection(name=teacher.source, cue="please Fay")
    asked = open_writer("pico", section, DATA)
    (sample,) = asked.encode(pico_trained.examples()[1:2])
    assert teacher.tokenizer.decode(asked.opening(sample)) == "please Ann Bob please Fay <bot>"
    assert asked.reading != teacher.reading, "its chains are not continued without the cue"
    for cue, sentence in {
        "Ann\nBob": "holds a line break",
        "Zoe": "words that the tokenizer does not",
    }.items():
        with pytest.raises(ValueError, match=rf"^teachers\.pico\.cue: .*{sentence}"):
            open_writer("pico", section.model_copy(update={"cue": cue}), DATA)


def test_texts_do_not_depend_on_the_batch(teacher: WritingTeacher) -> None:
    samples = teacher.encode(pico_trained.examples()[:5])
    seeds = [f"s{row}" for row in range(5)]
    together = teacher.write(samples, SampleTokens(seeds, 2.0, 1.0), 8)
    alone = [
        teacher.write([sample], SampleTokens([seed], 2.0, 1.0), 8)[0]
        for sample, seed in zip(samples, seeds, strict=True)
    ]
    assert together == alone
    assert len(set(together)) > 1


def test_a_teacher_without_a_fast_tokenizer_is_refused(
    tmp_path: Path, teacher: WritingTeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow:
        pad_token_id = 0

    class Opened:
        model, tokenizer, delimiters, template = teacher.model, Slow(), None, None

    monkeypatch.setattr("kvdistill.run.writing.open_teacher", lambda name, section: Opened())
    with pytest.raises(ValueError, match=r"teachers\.slow: here has no fast tokenizer"):
        open_writer("slow", TeacherSection(name="here"), DATA)
