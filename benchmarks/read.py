"""What reading training data costs, from rows of a file to batches: all at once, and streamed.

    python benchmarks/read.py [repeats]

Sums in words of the embedded task ``arith`` in GSM8K's form, a byte-level BPE of 2,000 tokens, one thread.
``tokenizer`` is the floor: the same texts through the tokenizer alone. Bytes are the highest rise of resident
memory over one pass with batches of 8: streaming holds a window of 50 batches, however long the file is.
"""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "_reexec.py"))

import os

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import sys
import tempfile
from collections.abc import Iterator

import torch
import transformers as tf
from _measure import interleaved_medians, peak_extra_bytes, print_json
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from kvdistill.config import DataSection, FileData
from kvdistill.data import Arith, write_jsonl
from kvdistill.latent.config import LatentConfig
from kvdistill.latent.reasoner import LatentReasoner, add_latent_tokens
from kvdistill.run.samples import Samples
from kvdistill.text import Encoded, Example
from kvdistill.training.sampler import RankBatches
from kvdistill.training.stream import BatchIndex, Stream

SIZES = (4096, 32768)
BATCH = 8
MIB = 2**20


def texts_of(examples: list[Example]) -> list[str]:
    """Everything that is tokenised."""
    return [
        part
        for each in examples
        for part in (each.question, "".join(f"{step}\n" for step in each.steps), f" {each.answer}")
    ]


def student(texts: list[str]) -> LatentReasoner:
    """A tiny student whose tokenizer knows the texts."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<pad>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    tokenizer = tf.PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>")
    add_latent_tokens(tokenizer)
    shape = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "vocab_size": len(tokenizer),
    }
    backbone = tf.AutoModelForCausalLM.from_config(tf.LlamaConfig(**shape))
    return LatentReasoner.build(
        backbone, tokenizer, LatentConfig(slots=1, passes=1, template={"kind": "plain"})
    )


def mapped(reader: Samples, path: Path) -> list[list[Encoded]]:
    """All samples, then every batch of an epoch."""
    samples = reader.read(FileData(path=str(path)))
    return [
        [samples[index] for index in batch]
        for batch in RankBatches([len(s.cot.ids) for s in samples], BATCH, 0)
    ]


def streamed(reader: Samples, path: Path, num: int) -> Iterator[list[Encoded]]:
    """One pass over the file, batch by batch."""
    data = FileData(path=str(path), streaming=True, limit=num)
    stream = Stream(reader.stream(data, resumed=False, writes=False), BATCH, 0, count=num // BATCH)
    for number in range(num // BATCH):
        yield list(stream[BatchIndex(0, number)].samples)


def run_through(batches: Iterator[list[Encoded]]) -> int:
    """Number of samples; every batch is dropped at once."""
    return sum(len(batch) for batch in batches)


def measure(num: int, folder: Path, repeats: int) -> dict[str, object]:
    """Print what ``num`` rows cost; the ratios and megabytes by name."""
    examples, path = Arith(trace="mixed").make(num, "train", 0), folder / f"{num}.jsonl"
    write_jsonl(examples, path)
    texts = texts_of(examples)
    model = student(texts[:6000])
    tokenizer, reader = model.tokenizer, Samples(DataSection(train=FileData(path=str(path))), model, folder)
    assert tokenizer is not None
    cases = {
        "tokenizer": lambda: tokenizer(texts, return_offsets_mapping=True),
        "map-style": lambda: mapped(reader, path),
        "streamed": lambda: run_through(streamed(reader, path, num)),
    }
    times = interleaved_medians(cases, repeats)
    peaks = {name: peak_extra_bytes(cases[name]) / MIB for name in ("map-style", "streamed")}
    print(f"{num} rows")
    for name, ms in times.items():
        memory = f"{peaks[name]:8.1f} MiB" if name in peaks else ""
        print(
            f"  {name:<10} {num / ms * 1e3:10.0f} rows/s {ms / times['tokenizer']:8.2f} x tokenizer {memory}"
        )
    ratios = {f"{name}_{num}_ratio": times[name] / times["tokenizer"] for name in peaks}
    return ratios | {f"{name}_{num}_mib": peak for name, peak in peaks.items()}


def main(repeats: int) -> None:
    """Measure every size and print the ratios on a last line of JSON."""
    torch.set_num_threads(1)
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        for num in SIZES:
            results |= measure(num, Path(folder), repeats)
    print_json(results)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
