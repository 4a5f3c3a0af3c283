"""Windows of teachers over a data set, before training."""

from dataclasses import replace
from pathlib import Path

import pytest

import pico
import pico_tokenizer
from kvdistill.data import Plain, Reader, encode_all
from kvdistill.kv import Geometry
from kvdistill.run import windows
from kvdistill.run.loading import collate_batch
from kvdistill.run.train import train
from kvdistill.run.windows import TooLong, beyond, require_data_windows, require_windows, windows_of
from kvdistill.teacher import CausalLMTeacher, SelfDistillation
from kvdistill.text import Encoded, Example
from kvdistill.training.stream import Stream, StreamBatch, StreamState
from pico_students import on, save_base

PROMPT = Plain(prompt="Bob")


def samples(*sizes: int) -> tuple[Encoded, ...]:
    """Chains of thought of so many words; question, prompt, answer and its end are four tokens more."""
    examples = [Example("Ann", ("Ann",) * size, "Eve", str(size)) for size in sizes]
    return encode_all(examples, pico_tokenizer.word_level(["Ann", "Bob", "Eve"]), PROMPT).samples


def teacher(name: str = "gpt2", window: int = 128, **settings: object) -> CausalLMTeacher:
    config = pico.CONFIGS[name]()
    setattr(config, "n_positions" if name == "gpt2" else "max_position_embeddings", window)
    return CausalLMTeacher(pico.from_config(config), "far/away", name="big", **settings)  # pyright: ignore


def test_lengths_by_hand() -> None:
    """Four tokens and 1, 5, 6: nine and ten are beyond a window of 8; delimiters take two more."""
    found = samples(1, 5, 6)
    assert beyond(teacher(), found, 8) == TooLong(2, 10, 8)
    assert beyond(teacher(), found, 10) is None
    assert beyond(teacher(delimiters=(60, 61)), found, 10) == TooLong(2, 12, 8)


def test_a_reader_of_its_own_is_asked_only_where_it_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes: a step is three letters and a line break, so that six steps are 24 tokens for 6."""
    tokenizer = pico_tokenizer.byte_bpe(["x"], vocabulary=1)
    reader = Reader(tokenizer, PROMPT)
    own, found = teacher(reader=reader), samples(1, 5, 6)
    # "Ann\n", "Bob", " Eve" and the end token: 4 + 3 + 4 + 1.
    lengths = [12 + 4 * size for size in (1, 5, 6)]
    asked: list[int] = []
    encode = Reader.encode
    monkeypatch.setattr(Reader, "encode", lambda self, given: asked.append(len(given)) or encode(self, given))
    assert beyond(own, found, lengths[1]) == TooLong(1, lengths[2], 9)
    assert asked[0] == 1
    assert sum(asked[1:]) <= 2
    asked.clear()
    assert beyond(own, found, 200) is None
    assert asked == [1]
    monkeypatch.setattr(windows, "CHUNK", 1)
    assert beyond(own, found, 10) == TooLong(3, lengths[2], 4)


def test_the_message_names_window_samples_and_remedies() -> None:
    found = samples(1, 17, 18)
    with pytest.raises(
        ValueError,
        match=r"^teachers\.big: 2 of 3 training samples are longer than the teacher far/away reads: it has "
        r"learned positions for 20 tokens, and the longest has 22\. Leave them out \(data\.max_length = 20, "
        r"counted in the student's tokens\), choose a teacher that reads further\.$",
    ):
        require_windows([teacher(window=20)], found)
    with pytest.raises(
        ValueError,
        match=r'was trained on texts of 20 .* set teachers\.big\.rope_scaling = \{rope_type = "ntk", factor',
    ):
        require_windows([teacher("llama", 20)], found)
    require_windows([teacher(window=22), teacher("llama", 22)], found)


def test_the_proposed_max_length_leaves_them_out() -> None:
    found = samples(1, 5, 6)
    too_long = beyond(teacher(), found, 8)
    assert too_long is not None
    kept = [sample for sample in found if windows.num_tokens(sample) <= too_long.max_length]
    assert beyond(teacher(), kept, 8) is None


def test_a_row_of_a_stream_is_named_in_the_loader() -> None:
    """Four tokens and 15 fill a window of 19; a chain of 16 is one more, and delimiters are two."""
    found, place = samples(1, 15, 16), StreamState()
    for big in (teacher(window=19), teacher(window=21, delimiters=(60, 61))):
        (window,) = windows_of([big, SelfDistillation(lambda: Geometry(()), "own")])
        assert set(collate_batch([StreamBatch(found[:2], place)], 0, {}, windows=[window])) == {
            "batch",
            "place",
        }
        with pytest.raises(
            ValueError,
            match=r"^teachers\.big: the row 16 of the stream is longer than the teacher far/away reads: it "
            r"has learned positions for (19|21) tokens, and the row has (20|22)\. Leave rows like it out "
            r"\(data\.max_length = 19, counted in the student's tokens\), choose a teacher that ",
        ):
            collate_batch([StreamBatch(found, place)], 0, {}, windows=[window])


def test_the_first_window_of_a_stream_is_read_before_training() -> None:
    """Two samples to a batch and 50 batches to a window are fewer than calibration reads, 16 are more; a
    resumed stream is not read again.
    """
    asked: list[tuple[object, int]] = []

    def read(cursor: object, wanted: int) -> tuple[tuple[Encoded, ...], None]:
        asked.append((cursor, wanted))
        return samples(1, 16), None

    stream = Stream(read, 2, 0)  # pyright: ignore[reportArgumentType]
    require_data_windows([teacher(window=20)], stream, resumed=False)
    require_data_windows([teacher(window=20)], replace(stream, batch_size=16), resumed=False)
    assert asked == [(None, 512), (None, 800)]
    with pytest.raises(ValueError, match=r"^teachers\.big: 1 of 2 streamed samples .* the longest has 20"):
        require_data_windows([teacher(window=19)], stream, resumed=False)
    asked.clear()
    require_data_windows([teacher(window=19)], stream, resumed=True)
    require_data_windows([SelfDistillation(lambda: Geometry(()), "own")], stream, resumed=False)
    assert asked == []
    with pytest.raises(ValueError, match=r"^teachers\.big: 1 of 2 training samples"):
        require_data_windows([teacher(window=19)], samples(1, 16), resumed=False)


def test_self_distillation_has_the_limits_of_the_student() -> None:
    require_windows([SelfDistillation(lambda: Geometry(()), "own")], samples(1, 500))


def test_a_run_is_refused_before_its_first_step(base_folder: Path, tmp_path: Path) -> None:
    save_base(tmp_path / "short", model_type="gpt2", max_position_embeddings=24)
    run = on(
        {"name": str(base_folder)},
        teachers={"short": {"kind": "live", "name": str(tmp_path / "short")}},
        training={"output_dir": str(tmp_path / "run"), "max_steps": 1, "batch_size": 2},
    )
    with pytest.raises(
        ValueError, match=r"^teachers\.short: 4 of 4 training samples .* positions for 24 tokens"
    ):
        train(run)
    assert not (tmp_path / "run" / "run.json").exists()
