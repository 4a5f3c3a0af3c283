"""Time and peak memory of one KaVa training step, over plain fine-tuning steps of transformers in the same
process.

    python benchmarks/step.py [rounds]

``plain``: the CoT step of transformers as it comes (head on every token). ``fair``: the same with
the head on label rows only. ``kava``: both modes, 24 latent slots, 3 passes, R-KV targets, all four losses.
Batch 8, question 64, chain of thought 48, prompt 4, answer 4 and its end, no padding; 4 layers of width 256,
AdamW, one thread. Every ratio is the median over rounds that run all cases once. The floor counts
multiplications alone: tokens that pass the layers, rows that pass the head, attention scores.
"""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "_reexec.py"))

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
import transformers
from _measure import peak_extra_bytes, print_json
from torch.nn import functional

from kvdistill.compress import RKV
from kvdistill.latent.config import LatentConfig
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.losses.objective import Objective
from kvdistill.pipeline import Distillation
from kvdistill.target import NoControl, SameBridge, TargetBuilder
from kvdistill.teacher import OWN, SelfDistillation
from kvdistill.text import Batch, Padded, ReaderBatch

BATCH, QUESTION, COT, PROMPT, ANSWER = 8, 64, 48, 4, 5
SLOTS, PASSES, WIDTH, LAYERS, RANK = 24, 3, 256, 4, 128
BARS = {"ratio": 1.7, "ratio_fair": 2.0}
PEERS = {"PCCoT": (2.11, 585), "CODI": (2.07, 505)}
"""Ratio over the plain step (GPT-2, full) and MB beyond start, as measured on another run of this shape."""
MB = 1e6
Step = Callable[[], None]


def backbone(kind: str, vocabulary: int) -> transformers.PreTrainedModel:
    """A model with random weights, in training mode, without dropout."""
    torch.manual_seed(0)
    if kind == "gpt2":
        config: Any = transformers.GPT2Config(
            n_embd=WIDTH,
            n_layer=LAYERS,
            n_head=4,
            vocab_size=vocabulary,
            n_positions=512,
            resid_pdrop=0,
            embd_pdrop=0,
            attn_pdrop=0,
        )
        config.bos_token_id = config.eos_token_id = 0
    else:
        config = transformers.LlamaConfig(
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            intermediate_size=688,
            vocab_size=vocabulary,
        )
    return transformers.AutoModelForCausalLM.from_config(config).train()


def batch(vocabulary: int) -> Batch:
    """Random tokens, no padding."""

    def some(length: int) -> Padded:
        return Padded(
            torch.randint(0, vocabulary - 3, (BATCH, length)), torch.ones(BATCH, length, dtype=torch.bool)
        )

    nothing = some(0)
    teacher_mode = ReaderBatch(
        question=some(QUESTION),
        cue=nothing,
        cot=some(COT),
        prompt=some(PROMPT),
        answer=some(ANSWER),
        step_end=torch.zeros(BATCH, COT, dtype=torch.bool),
        spans=torch.zeros(BATCH, COT, 2, dtype=torch.long),
        step=torch.zeros(BATCH, COT, dtype=torch.long),
    )
    return Batch(teacher_mode.without_cot(), teacher_mode, torch.arange(BATCH), tuple(map(str, range(BATCH))))


def optimised(parameters: list[torch.nn.Parameter], loss: Callable[[], torch.Tensor]) -> Step:
    """A whole step: gradients, AdamW."""
    optimizer = torch.optim.AdamW([p for p in parameters if p.requires_grad], lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step


def adapted(model: transformers.PreTrainedModel) -> transformers.PreTrainedModel:
    """The same with LoRA of rank 128 on all linear layers, as the recipe has it."""
    from peft import LoraConfig, inject_adapter_in_model

    model.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=32, target_modules="all-linear"), model)
    return model


def plain(kind: str, lora: bool, vocabulary: int) -> Step:
    """transformers' own supervised step."""
    model = adapted(backbone(kind, vocabulary)) if lora else backbone(kind, vocabulary)
    ids, labels = text(vocabulary)
    return optimised(
        list(model.parameters()), lambda: model(input_ids=ids, labels=labels, use_cache=False).loss
    )


def fair(kind: str, lora: bool, vocabulary: int) -> Step:
    """The same, head on label rows only."""
    model = adapted(backbone(kind, vocabulary)) if lora else backbone(kind, vocabulary)
    ids, _ = text(vocabulary)

    def loss() -> torch.Tensor:
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, QUESTION - 1 : -1]
        return functional.cross_entropy(
            model.get_output_embeddings()(hidden).flatten(0, 1), ids[:, QUESTION:].flatten()
        )

    return optimised(list(model.parameters()), loss)


def text(vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Question, chain of thought, prompt and answer as one row; labels from the chain of thought on."""
    b = batch(vocabulary).teacher_mode
    ids = torch.cat((b.question.ids, b.cot.ids, b.prompt.ids, b.answer.ids), 1)
    labels = ids.clone()
    labels[:, :QUESTION] = -100
    return ids, labels


def kava(kind: str, lora: bool, vocabulary: int) -> Step:
    """Our step."""
    model = backbone(kind, vocabulary)
    special = {"bot": vocabulary - 3, "eot": vocabulary - 2, "latent": vocabulary - 1}
    settings = {
        "r": RANK,
        "lora_alpha": 32,
        "target_modules": "all-linear",
        "trainable_token_indices": sorted(special.values()),
    }
    config = LatentConfig(
        backbone=model.config, slots=SLOTS, passes=PASSES, special=special, lora=settings if lora else None
    )
    student = LatentReasoner(config, model).train()
    student.geometry()
    bridge = SameBridge({OWN: TargetBuilder(RKV(), NoControl(), SLOTS)})
    step, data = (
        Distillation(student, [SelfDistillation(student.geometry)], bridge, Objective()),
        batch(vocabulary),
    )
    return optimised(list(student.parameters()), lambda: step(data, 0, 0.0).loss)


CASES = {"plain": plain, "fair": fair, "kava": kava}


def measure(kind: str, lora: bool, vocabulary: int, rounds: int) -> dict[str, float]:
    """Milliseconds of each case and the median ratios round by round."""
    steps = {name: make(kind, lora, vocabulary) for name, make in CASES.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 2):
        for name, step in steps.items():
            start = time.process_time()
            step()
            if turn >= 2:
                times[name].append(time.process_time() - start)

    def over(name: str) -> float:
        return statistics.median(
            ours / theirs for ours, theirs in zip(times["kava"], times[name], strict=True)
        )

    return {name: 1e3 * statistics.median(t) for name, t in times.items()} | {
        "ratio": over("plain"),
        "ratio_fair": over("fair"),
    }


LINEARS = {
    "llama": [(WIDTH, WIDTH)] * 4 + [(WIDTH, 688)] * 2 + [(688, WIDTH)],
    "gpt2": [(WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)],
}


def floors(kind: str, lora: bool, vocabulary: int) -> tuple[float, float]:
    """Multiplications of our step over those of the plain and of the fair one.

    A trained weight costs three a token (output, gradient of the input, gradient of the weight), a frozen one
    two.
    """
    base = sum(rows * columns for rows, columns in LINEARS[kind])
    adapters = sum(RANK * (rows + columns) for rows, columns in LINEARS[kind])
    layer, head = (2 * base + 3 * adapters, 2) if lora else (3 * base, 3)
    tail = 1 + PROMPT + ANSWER - 1
    row = QUESTION + COT + PROMPT + ANSWER
    wide = SLOTS - PASSES + 1
    packed = QUESTION + 1 + (SLOTS - PASSES) + COT + PROMPT + ANSWER - 1
    feedback = 3 * PASSES * wide * 2 * WIDTH * WIDTH
    lengths = [wide + (tail if turn == PASSES else 0) for turn in range(1, PASSES + 1)]
    pairs = packed**2 + sum(
        length * (QUESTION + turn + length) for turn, length in enumerate(lengths, start=1)
    )

    def cost(tokens: int, rows: int, pairs: int, more: int = 0) -> float:
        return (
            tokens * LAYERS * layer + head * rows * WIDTH * vocabulary + 3 * 2 * LAYERS * WIDTH * pairs + more
        )

    labels = COT + PROMPT + ANSWER
    ours = cost(packed + sum(lengths), labels + ANSWER, pairs, feedback)
    return ours / cost(row, row, row**2), ours / cost(row - 1, labels, (row - 1) ** 2)


def peak(name: str, kind: str, vocabulary: int) -> float:
    """Megabytes beyond start at the highest point of a model's first two steps, in a process of its own."""

    def life() -> None:
        step = CASES[name](kind, False, vocabulary)
        step()
        step()

    return peak_extra_bytes(life) / MB


def where_it_goes(kind: str, vocabulary: int) -> list[tuple[str, float]]:
    """Share of the step's processor time by kind of operation."""
    step = kava(kind, False, vocabulary)
    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        step()
    kinds = {
        "mm": "matrix products",
        "attention": "attention",
        "softmax": "softmax of the head",
        "foreach": "AdamW",
        "adam": "AdamW",
    }
    shares: dict[str, float] = {}
    for event in profile.key_averages():
        name = next(
            (label for key, label in kinds.items() if key in event.key), "elementwise, copies, bookkeeping"
        )
        shares[name] = shares.get(name, 0.0) + event.self_cpu_time_total
    total = sum(shares.values())
    return sorted(((name, share / total) for name, share in shares.items()), key=lambda pair: -pair[1])


MODELS = (
    ("llama", False, 5003),
    ("llama", True, 5003),
    ("gpt2", False, 5003),
    ("gpt2", True, 5003),
    ("llama", False, 50257),
)
"""Backbone, whether with LoRA, and size of the vocabulary."""


def main() -> None:
    """Measure, print the table, then the line of JSON."""
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", message=".*fan_in_fan_out.*")
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    peaks = {(kind, name): peak(name, kind, 5003) for kind in ("gpt2", "llama") for name in ("plain", "kava")}
    results: dict[str, object] = {"rounds": rounds}
    print(
        f"{'model':22}{'plain ms':>10}{'fair ms':>10}{'kava ms':>10}"
        f"{'ratio':>8}{'floor':>7}{'fair':>8}{'floor':>7}"
    )
    for kind, lora, vocabulary in MODELS:
        found = measure(kind, lora, vocabulary, rounds)
        name = f"{kind}{'_lora' if lora else ''}{'_50k' if vocabulary > 50000 else ''}"
        floor, floor_fair = floors(kind, lora, vocabulary)
        print(
            f"{name:22}{found['plain']:>10.0f}{found['fair']:>10.0f}{found['kava']:>10.0f}"
            f"{found['ratio']:>8.2f}{floor:>7.2f}{found['ratio_fair']:>8.2f}{floor_fair:>7.2f}"
        )
        results |= {f"ratio_fair_{name}": found["ratio_fair"]} | (
            {} if "50k" in name else {f"ratio_{name}": found["ratio"]}
        )
        results |= {f"floor_fair_{name}": floor_fair} | ({} if "50k" in name else {f"floor_{name}": floor})
    for kind in ("gpt2", "llama"):
        ours, bare = peaks[kind, "kava"], peaks[kind, "plain"]
        print(f"peak beyond start, {kind}: kava {ours:.0f} MB, plain {bare:.0f} MB, ratio {ours / bare:.2f}")
        results |= {f"peak_mb_{kind}": ours, f"peak_ratio_{kind}": ours / bare}
    print(
        "peers on GPT-2: "
        + "; ".join(f"{name} ratio {ratio}, {mb} MB" for name, (ratio, mb) in PEERS.items())
        + " (plain 307-350 MB)"
    )
    print(
        "where our step's time goes (llama): "
        + ", ".join(f"{name} {share:.0%}" for name, share in where_it_goes("llama", 5003))
    )
    results |= {
        "ratio": max(results["ratio_llama"], results["ratio_gpt2"]),
        "peak_ratio": results["peak_ratio_gpt2"],
    }  # pyright: ignore
    results |= {"ratio_fair": max(results["ratio_fair_llama"], results["ratio_fair_gpt2"])}  # pyright: ignore
    for name, bar in BARS.items():
        print(
            f"{name} {results[name]:.2f}, bar {bar}: {'reached' if results[name] <= bar else 'NOT reached'}"
        )  # pyright: ignore
    print_json(results)


if __name__ == "__main__":
    main()
