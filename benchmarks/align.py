"""How long the alignment of two tokenizers takes beyond encoding, and how it grows with the text.

    python benchmarks/align.py [repeats]

Batches of 8 chains of sums in words, 128 to 8192 student tokens each, one thread: the student reads a
byte-level BPE of 2,000 tokens, the teacher one of 500. ``us_per_token`` is the highest over all lengths, for
each token of the student; ``collate`` is the whole batch with encoding, for comparison.
"""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "_reexec.py"))

import os

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import sys

import torch
import transformers as tf
from _measure import growth_exponent, interleaved_medians, print_json
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from kvdistill.align import align_tokens
from kvdistill.data import Arith, Plain, Reader
from kvdistill.data.collate import collate
from kvdistill.data.encode import encode_all
from kvdistill.text import Batch, Encoded, Example

SIZES = (128, 512, 2048, 8192)
BATCH = 8
BAR_US, BAR_EXPONENT = 0.5, 1.1


def byte_bpe(texts: list[str], vocabulary: int) -> tf.PreTrainedTokenizerFast:
    """A byte-level BPE trained on the texts."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return tf.PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>")


def chains(student: tf.PreTrainedTokenizerFast, tokens: int) -> list[Encoded]:
    """Samples whose chains of thought have about ``tokens`` tokens of the student."""
    steps = [step for each in Arith(trace="mixed").make(4096, "train", 0) for step in each.steps]
    per_step = len(student("\n".join(steps))["input_ids"]) / len(steps)
    length = max(1, round(tokens / per_step))
    examples = [
        Example(
            "How many?", tuple(steps[(row * length + i) % len(steps)] for i in range(length)), "1", str(row)
        )
        for row in range(BATCH)
    ]
    return list(encode_all(examples, student, Plain(), on_long="error").samples)


def measure(samples: list[Encoded], reader: Reader, repeats: int) -> tuple[dict[str, float], Batch]:
    """Milliseconds of the alignment alone and of the batch around it, and the batch."""
    batch = collate(samples, 0, readers={"teacher": reader})
    texts = [sample.teacher_mode.cot.text for sample in samples]
    cases = {
        "average": lambda: align_tokens(texts, batch.teacher_mode, batch.teachers["teacher"]),
        "last": lambda: align_tokens(texts, batch.teacher_mode, batch.teachers["teacher"], "last"),
        "collate": lambda: collate(samples, 0, readers={"teacher": reader}),
    }
    return interleaved_medians(cases, repeats), batch


def main(repeats: int) -> None:
    """Measure every length, print a table and a line of JSON."""
    torch.set_num_threads(1)
    words = [step for each in Arith(trace="mixed").make(2048, "train", 1) for step in each.steps]
    student, reader = byte_bpe(words, 2000), Reader(byte_bpe(words, 500), Plain())
    print(
        f"{BATCH} samples, 1 thread, processor time, median of {repeats} rounds; microseconds for each "
        "student token"
    )
    print(f"{'student':>8}{'teacher':>9}{'average':>9}{'last':>9}{'collate':>9}   (tokens of all samples)")
    totals: list[int] = []
    costs: dict[str, list[float]] = {"average": [], "last": [], "collate": []}
    for size in SIZES:
        times, batch = measure(chains(student, size), reader, repeats)
        tokens = int(batch.teacher_mode.cot.mask.sum())
        totals.append(tokens)
        for name, ms in times.items():
            costs[name].append(ms)
        theirs = int(batch.teachers["teacher"].cot.mask.sum())
        figures = "".join(f"{ms * 1e3 / tokens:>9.3f}" for ms in times.values())
        print(f"{tokens:>8}{theirs:>9}{figures}")
    worst = max(
        ms * 1e3 / tokens
        for name in ("average", "last")
        for ms, tokens in zip(costs[name], totals, strict=True)
    )
    exponent = max(growth_exponent(totals, costs[name]) for name in ("average", "last"))
    met = worst <= BAR_US and exponent <= BAR_EXPONENT
    print(
        f"bars: {worst:.2f} us per token <= {BAR_US}, growth exponent {exponent:.2f} <= {BAR_EXPONENT}: "
        f"{'met' if met else 'MISSED'}"
    )
    print_json({"us_per_token": worst, "exponent": exponent, "bars_met": met})


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
