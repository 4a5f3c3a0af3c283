"""How long R-KV takes to compress one layer of one sample, how much memory, and how both grow with the text.

    python benchmarks/compress.py [repeats]

Keys and values are [1, 8, N, 128] in float32, 24 slots are kept, one thread. ``knorm`` keeps the shortest
keys (one pass over the keys, nothing else): what any compressor that looks at keys costs at least.
``quadratic`` is R-KV's mean cosine by its definition, from the whole table of cosines. ``rkv padded`` has
half of its slots masked.
"""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "_reexec.py"))

import sys
from collections.abc import Callable

import torch
from _measure import growth_exponent, interleaved_medians, peak_extra_bytes, print_json, read_bandwidth
from torch import Tensor

from kvdistill.compress import RKV
from kvdistill.kv import LayerKV, ModelKV, full_mask

HEADS, WIDTH, SLOTS = 8, 128, 24
SIZES = (128, 512, 2048, 8192, 32768)
QUADRATIC_UP_TO = 2048
BAR_EXPONENT, BAR_MS = 1.1, 40.0
MIB = 2**20


def cache_of(num_tokens: int) -> ModelKV:
    """One layer of one sample with random contents."""
    shape = (1, HEADS, num_tokens, WIDTH)
    keys, values = torch.randn(shape), torch.randn(shape)
    layer = LayerKV(
        keys=keys,
        values=values,
        mask=full_mask(keys),
        positions=torch.arange(num_tokens).expand(shape[:3]),
        importance=torch.rand(shape[:3]).softmax(dim=-1),
    )
    return ModelKV(layers=(layer,), layer_ids=(0,), source="random")


def half_padded(kv: ModelKV) -> ModelKV:
    """The same cache with the first half of its slots masked."""
    layer = kv.layers[0]
    num_tokens = layer.mask.shape[-1]
    return kv.map(
        (layer.replace(mask=(torch.arange(num_tokens) >= num_tokens // 2).expand(layer.mask.shape)),)
    )


def take(layer: LayerKV, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values with the highest scores."""
    index = scores.topk(SLOTS, dim=-1).indices[..., None].expand(-1, -1, -1, WIDTH)
    return layer.keys.gather(2, index), layer.values.gather(2, index)


def knorm(layer: LayerKV) -> tuple[Tensor, Tensor]:
    """Keep the shortest keys."""
    return take(layer, -layer.keys.norm(dim=-1))


def quadratic(layer: LayerKV) -> tuple[Tensor, Tensor]:
    """R-KV from the whole table of cosines."""
    unit = layer.keys / (layer.keys.norm(dim=-1, keepdim=True) + 1e-8)
    table = unit @ unit.mT
    table.diagonal(dim1=-2, dim2=-1).zero_()
    assert layer.importance is not None
    return take(layer, 0.1 * layer.importance + 0.9 * (-table.mean(dim=-1)).softmax(dim=-1))


def cases_of(num_tokens: int) -> dict[str, Callable[[], object]]:
    """What is measured at one length."""
    kv = cache_of(num_tokens)
    padded, layer = half_padded(kv), kv.layers[0]
    cases: dict[str, Callable[[], object]] = {
        "rkv": lambda: RKV().compress(kv, SLOTS),
        "rkv padded": lambda: RKV().compress(padded, SLOTS),
        "knorm": lambda: knorm(layer),
    }
    if num_tokens <= QUADRATIC_UP_TO:
        cases["quadratic"] = lambda: quadratic(layer)
    return cases


def steepest(costs: dict[int, float]) -> float:
    """The larger of two growth exponents: over all lengths, and over the long ones, where fixed costs hide
    nothing.
    """
    long = {size: cost for size, cost in costs.items() if size >= QUADRATIC_UP_TO}
    return max(growth_exponent(list(part), list(part.values())) for part in (costs, long))


def main(repeats: int) -> None:
    """Measure, print a table and a line of JSON."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(
        f"R-KV, keys and values [1, {HEADS}, N, {WIDTH}] float32, {SLOTS} slots, 1 thread, processor time, "
        f"median of {repeats} rounds"
    )
    print(
        f"check of the memory meter: {peak_extra_bytes(lambda: torch.ones(16 * MIB)) / MIB:.1f} MiB for a "
        "tensor of 64 MiB\n"
    )
    print(f"{'N':>6}  {'case':<11}{'ms':>10}{'x knorm':>9}{'extra MiB':>11}")
    time: dict[int, dict[str, float]] = {}
    memory: dict[int, dict[str, int]] = {}
    for size in SIZES:
        cases = cases_of(size)
        time[size] = interleaved_medians(cases, repeats)
        memory[size] = {name: peak_extra_bytes(run) for name, run in cases.items()}
        for name, ms in time[size].items():
            print(
                f"{size:>6}  "
                f"{name:<11}{ms:>10.3f}{ms / time[size]['knorm']:>9.1f}{memory[size][name] / MIB:>11.2f}"
            )
    ms = time[8192]["rkv"]
    num_bytes = 2 * 4 * HEADS * 8192 * WIDTH
    bandwidth = read_bandwidth(num_bytes // 2, repeats)
    limit = num_bytes / bandwidth * 1e3
    exponent = steepest({size: time[size]["rkv"] for size in SIZES})
    long = [size for size in SIZES if size >= QUADRATIC_UP_TO]
    print(
        "\nlimit at N = 8192: the keys are read twice (the sum must be known before the cosines), "
        f"{num_bytes / MIB:.0f} MiB "
        f"at {bandwidth / 1e9:.1f} GB/s: {limit:.2f} ms; R-KV takes {ms / limit:.1f} times that"
    )
    met = exponent <= BAR_EXPONENT and ms <= BAR_MS
    print(
        f"bars: growth exponent {exponent:.2f} <= {BAR_EXPONENT}, {ms:.1f} ms <= {BAR_MS} ms at N = 8192: "
        f"{'met' if met else 'MISSED'}"
    )
    print_json(
        {
            "growth_exponent": exponent,
            "memory_exponent": growth_exponent(long, [max(memory[size]["rkv"], 1) for size in long]),
            "ms_8192": ms,
            "ms_8192_padded": time[8192]["rkv padded"],
            "ratio_knorm_8192": ms / time[8192]["knorm"],
            "extra_mib_8192": memory[8192]["rkv"] / MIB,
            "limit_ms_8192": limit,
            "ratio_limit_8192": ms / limit,
            "bars_met": met,
        }
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
