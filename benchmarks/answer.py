"""Cost of answering: a latent pass against a decoding step, latent answers against terse chains of thought.

``python benchmarks/answer.py [rounds]``. The student has the shape of the demo's (two layers, width 64, four
slots, four passes); its weights do not matter, since every answer is cut at the demo's length. All cases run
in turns in one process with one thread; medians. The last line is JSON:

* ``pass_over_decode_step``: a pass over one latent slot / a decoding step of transformers' ``generate`` on
  the same backbone, at batch 1 and 32 (the worse of the two).
* ``latent_over_terse_ms``: a latent answer / a terse chain of thought with its answer, at batch 1.
"""

import sys
import warnings
from collections.abc import Callable

import torch
from _measure import interleaved_medians, print_json
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from kvdistill.capture.attention import evaluating
from kvdistill.capture.sequence import Sequence
from kvdistill.data import Chain, encode_all, word_tokenizer
from kvdistill.data.collate import collate
from kvdistill.data.template import Plain
from kvdistill.latent.config import LatentConfig
from kvdistill.latent.decode import generate_ids
from kvdistill.latent.layout import question_pieces
from kvdistill.latent.passes import forward_pass, no_offset, past_of_question, run_latent_passes
from kvdistill.latent.reasoner import LatentReasoner, add_latent_tokens
from kvdistill.text import Batch

HOPS = 4
TASK = Chain(names=8, steps=HOPS)
BATCHES = (1, 32)
ANSWER = 2
"""Tokens of an answer: the name and the end."""


def student() -> LatentReasoner:
    """A student of the demo's shape with random weights."""
    tokenizer = word_tokenizer(TASK.words())
    add_latent_tokens(tokenizer)
    backbone = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=128,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    ids = tokenizer.convert_tokens_to_ids
    special = {"bot": ids("<bot>"), "eot": ids("<eot>"), "latent": ids("<latent>")}
    config = LatentConfig(backbone=backbone, special=special, slots=HOPS, passes=HOPS, delimiters="both")
    model = LatentReasoner(config, LlamaForCausalLM(backbone)).eval()
    model.tokenizer = tokenizer
    return model


def questions(model: LatentReasoner, size: int) -> Batch:
    """Questions of the task, padded on the left."""
    assert model.tokenizer is not None
    samples = encode_all(TASK.make(size, "test", 0), model.tokenizer, Plain(prompt="answer")).samples
    return collate(samples, 0, "left")


def latent_passes(model: LatentReasoner, batch: Batch) -> Callable[[], object]:
    """All latent passes, behind a question that was read before."""
    pieces = question_pieces(batch.student_mode, model.special, 0)
    packed = forward_pass(model, Sequence(pieces, no_offset(batch.student_mode.question)))
    past = past_of_question(packed)
    return lambda: run_latent_passes(model, packed, past, (), HOPS)


def decoding(model: LatentReasoner, batch: Batch, new_tokens: int) -> Callable[[], object]:
    """Greedy generation of exactly so many tokens behind a question, its prefill included."""
    read = batch.teacher_mode.question
    settings = GenerationConfig(
        min_new_tokens=new_tokens, max_new_tokens=new_tokens, do_sample=False, pad_token_id=0, eos_token_id=1
    )
    mask = read.mask.long()
    return lambda: model.backbone.generate(  # pyright: ignore[reportCallIssue]
        input_ids=read.ids, attention_mask=mask, generation_config=settings
    )


def main() -> None:
    """Measure, print a line per case and the figures."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 41
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, figures = student(), {}
    cases: dict[str, Callable[[], object]] = {}
    for size in BATCHES:
        batch = questions(model, size)
        cases |= {
            f"passes {size}": latent_passes(model, batch),
            f"decode {HOPS} {size}": decoding(model, batch, 1 + HOPS),
            f"decode 0 {size}": decoding(model, batch, 1),
            f"latent {size}": lambda batch=batch: generate_ids(model, batch, "latent", ANSWER),
            # The chain, the answer prompt, the answer.
            f"terse {size}": decoding(model, batch, HOPS + 1 + ANSWER),
        }
    with torch.no_grad(), evaluating(model):
        medians = interleaved_medians(cases, rounds)
    for name, milliseconds in medians.items():
        print(f"{name:>14} {milliseconds:8.3f} ms")
    for size in BATCHES:
        step = (medians[f"decode {HOPS} {size}"] - medians[f"decode 0 {size}"]) / HOPS
        figures[f"pass_over_decode_step_{size}"] = medians[f"passes {size}"] / HOPS / step
        figures[f"latent_over_terse_ms_{size}"] = medians[f"latent {size}"] / medians[f"terse {size}"]
    figures["pass_over_decode_step"] = max(figures[f"pass_over_decode_step_{size}"] for size in BATCHES)
    figures["latent_over_terse_ms"] = figures["latent_over_terse_ms_1"]
    print_json(figures)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main()
