"""What only a GPU can show, in at most ten minutes: one table and one JSON file.

    bash scripts/gpu_check.sh                          # on a GPU
    python benchmarks/gpu_check.py --small             # reduced, on the CPU

Parts: bf16 against float32 (capture, samples alone against in a batch, losses); capture with every attention
backend; FSDP2 on one device; a training step at 0.1 and 1 B parameters over plain fine-tuning, with the share
of the device's peak (MFU) and peak memory; R-KV. A part that cannot run on this machine says why.
"""

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
import transformers
from _students import COT, LARGE, PASSES, PICO, SLOTS, Size, batch_of, distillation, one_sample, student
from torch import Tensor, nn

from kvdistill.capture.attention import capture_attention, evaluating
from kvdistill.compress import RKV
from kvdistill.kv import LayerKV, LossOutput, ModelKV, full_mask
from kvdistill.training.cuda_graphs import StepGraphs

Row = dict[str, float | str | None]
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}
"""Dense bf16 operations a second of a device, by a part of its name, from the vendors' data sheets."""


def relative(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what was expected."""
    expected = expected.double()
    return float((found.double() - expected).norm() / expected.norm())


def worst(found: ModelKV, expected: ModelKV) -> float:
    """The largest relative difference of keys or values over the layers."""
    pairs = zip(found.layers, expected.layers, strict=True)
    return max(
        relative(one, other) for a, b in pairs for one, other in ((a.keys, b.keys), (a.values, b.values))
    )


def half_precision(size: Size, device: str) -> list[Row]:
    """bf16 against float32, and a sample alone against the same in a batch."""
    batch = batch_of(size, device, 4)
    exact, half = (distillation(student(size, device, dtype)) for dtype in (torch.float32, torch.bfloat16))
    rows: list[Row] = []
    with torch.no_grad(), evaluating(exact), evaluating(half):
        two, two_half = exact.student(batch), half.student(batch)
        rows.append(
            bounded("captured keys and values, bf16", worst(two_half.teacher.kv, two.teacher.kv), 0.03)
        )
        rows.append(bounded("latent keys and values, bf16", worst(two_half.student.kv, two.student.kv), 0.06))
        alone = half.student(one_sample(batch, 0)).teacher.kv
        layers = tuple(
            layer.replace(keys=layer.keys[:1], values=layer.values[:1])
            for layer in two_half.teacher.kv.layers
        )
        found = worst(alone, replace(two_half.teacher.kv, layers=layers))
        rows.append(bounded("a sample alone against in a batch, bf16", found, 0.03))
        losses: list[LossOutput] = [step(batch, 0, 0.0) for step in (exact, half)]
        for name, value in losses[0].metrics.items():
            change = abs(float(losses[1].metrics[name]) / float(value) - 1)
            rows.append(bounded(f"loss {name}, bf16", change, 0.1))
    return rows


def backends(size: Size, device: str, names: Sequence[str]) -> list[Row]:
    """Capture with every attention backend, against eager in float32; logits with capture against without."""
    rows: list[Row] = []
    ids = torch.randint(0, size.vocabulary, (2, 96), generator=torch.Generator().manual_seed(2)).to(device)
    expected = None
    for name in names:
        dtype = torch.bfloat16 if name == "flash_attention_2" else torch.float32
        try:
            torch.manual_seed(0)
            model = transformers.AutoModelForCausalLM.from_config(size.config(), attn_implementation=name)
            model = model.to(device=device, dtype=dtype).eval()
            with torch.no_grad(), capture_attention(model) as call:
                logits = model(ids, use_cache=False, kv_call=call).logits
            with torch.no_grad():
                plain = model(ids, use_cache=False).logits
        except Exception as error:  # whatever a backend lacks here is the result
            rows.append(skipped(f"capture, {name}", error))
            continue
        states = [state for layer in call.seen.values() for state in (layer.keys, layer.values)]
        expected = expected or states
        found = max(relative(one, other) for one, other in zip(states, expected, strict=True))
        rows.append(bounded(f"capture, {name}", found, 0.03 if dtype != torch.float32 else 1e-4))
        rows.append(bounded(f"logits with capture, {name}", relative(logits, plain), 1e-6))
    return rows


@contextmanager
def process_group(device: str) -> Iterator[None]:
    """A process group of this process alone."""
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def fsdp2(size: Size, device: str) -> list[Row]:
    """Loss and gradients under FSDP2 on one device against those without."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    batch, found = batch_of(size, device, 4), []
    with process_group(device):
        mesh = init_device_mesh(device, (1,))
        for sharded in (False, True):
            step = distillation(student(size, device, torch.float32)).train()
            step.student.geometry()
            if sharded:
                for layer in step.student.body.layers:  # pyright: ignore[reportGeneralTypeIssues]
                    fully_shard(layer, mesh=mesh)
                fully_shard(step, mesh=mesh)
            loss = step(batch, 0, 0.0).loss
            loss.backward()
            found.append((float(loss), _gradient_norm(step)))
    (loss, norm), (other_loss, other_norm) = found
    return [
        bounded("FSDP2, loss", abs(other_loss / loss - 1), 1e-5),
        bounded("FSDP2, gradient norm", abs(other_norm / norm - 1), 1e-4),
    ]


def _gradient_norm(step: nn.Module) -> float:
    squares = [
        (grad.full_tensor() if hasattr(grad, "full_tensor") else grad).double().square().sum()
        for parameter in step.parameters()
        if (grad := parameter.grad) is not None
    ]
    return float(torch.stack(squares).sum().sqrt())


def training_step(size: Size, device: str, samples: int, rounds: int) -> list[Row]:
    """Milliseconds of a step in bf16 over plain fine-tuning, share of the device's peak, peak memory."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    batch = batch_of(size, device, samples, (64, 64))
    step = distillation(student(size, device, dtype)).train()
    step.student.geometry()
    read = batch.teacher_mode
    ids = torch.cat((read.question.ids, read.cot.ids, read.prompt.ids, read.answer.ids), 1)
    plain = student(size, device, dtype).backbone.train()
    cases: dict[str, tuple[nn.Module, Callable[[], Tensor]]] = {
        "plain": (plain, lambda: plain(input_ids=ids, labels=ids, use_cache=False).loss),
        "kava": (step, lambda: step(batch, 0, 0.0).loss),
    }
    if device == "cuda":
        graphs = StepGraphs(step)
        cases["kava, CUDA graph"] = (step, lambda: graphs(batch, 0, 0.0).loss)
    milliseconds, memory = {}, {}
    for name, (model, loss) in cases.items():
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=device == "cuda")

        def once(loss: Callable[[], Tensor] = loss, optimizer: torch.optim.Optimizer = optimizer) -> None:
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

        # The second batch of a shape is recorded as a graph, which holds its memory from then on.
        memory[name] = peak_bytes(lambda once=once: (once(), once()), device)
        milliseconds[name] = timed(once, device, rounds)
    tail = 1 + 4 + 5 - 1
    tokens = 64 + COT + 9 + 1 + (SLOTS - PASSES) + PASSES * (SLOTS - PASSES + 1) + tail
    weights = sum(p.numel() for p in step.student.body.parameters())
    name = f"step {size.name}, batch {samples}"
    rows = [bounded(f"{name}, tokens over plain", tokens / ids.shape[1], None)]
    for case, took in milliseconds.items():
        rows.append(bounded(f"{name}, {case}, ms", took, None))
        rows.append(bounded(f"{name}, {case}, over plain", took / milliseconds["plain"], None))
        if memory["plain"]:
            # A trained weight costs six operations a token: output, gradients of the input and of the weight.
            done = 6 * weights * samples * (ids.shape[1] if case == "plain" else tokens)
            rows.append(bounded(f"{name}, {case}, MFU", done / (took / 1e3) / peak_flops(device), None))
            rows.append(bounded(f"{name}, {case}, memory over plain", memory[case] / memory["plain"], None))
            rows.append(bounded(f"{name}, {case}, GB", memory[case] / 1e9, None))
    return rows


def peak_flops(device: str) -> float:
    """Dense bf16 operations a second of the device; NaN where it is not known."""
    return next((flops for part, flops in PEAK_FLOPS.items() if part in device_name(device)), float("nan"))


def rkv(device: str, lengths: tuple[int, ...], rounds: int) -> list[Row]:
    """R-KV on caches of one layer: 8 samples, 8 heads, width 128, 24 slots kept."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    rows = []
    for length in lengths:
        shape = (8, 8, length, 128)
        keys, values = torch.randn(2, *shape, device=device, dtype=dtype)
        layer = LayerKV(
            keys=keys,
            values=values,
            mask=full_mask(keys),
            positions=torch.arange(length, device=device).expand(shape[:3]),
            importance=torch.rand(shape[:3], device=device).softmax(dim=-1),
        )
        kv = ModelKV(layers=(layer,), layer_ids=(0,), source="random")
        with torch.no_grad():
            work = lambda kv=kv: RKV().compress(kv, SLOTS)  # noqa: E731
            rows.append(bounded(f"R-KV, {length} tokens, ms", timed(work, device, rounds), None))
    return rows


def timed(work: Callable[[], object], device: str, rounds: int) -> float:
    """Median milliseconds of a call, the device's queue emptied before and after."""
    times = []
    for _ in range(rounds):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def peak_bytes(work: Callable[[], object], device: str) -> int:
    """Highest memory of the device during a call; 0 on the CPU."""
    if device != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats()
    work()
    return torch.cuda.max_memory_allocated()


def synchronize(device: str) -> None:
    """Wait for the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def device_name(device: str) -> str:
    """Name of the device, as its driver reports it."""
    return torch.cuda.get_device_name() if device == "cuda" else "CPU"


def bounded(name: str, value: float, bar: float | None) -> Row:
    """A row with a value, and the most that it may be where there is such a bar."""
    verdict = ""
    if bar is not None:
        verdict = "ok" if value <= bar else "FAIL"
    return {"name": name, "value": value, "bar": bar, "verdict": verdict}


def skipped(name: str, error: Exception) -> Row:
    """A row that could not be measured, with the reason."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return {"name": name, "value": None, "bar": None, "verdict": f"skipped: {reason[:90]}"}


def parts(device: str, small: bool) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    """All parts with their names, in order."""
    sizes, rounds, lengths = (LARGE, 10, (128, 1024, 8192)) if not small else ((PICO,), 2, (128, 512))
    check = PICO if small else LARGE[0]
    yield "bf16", lambda: half_precision(check, device)
    yield "fsdp2", lambda: fsdp2(check, device)
    for size in sizes:
        for samples in size.batches:
            work = partial(training_step, size, device, samples, rounds)
            yield f"step {size.name}, batch {samples}", work
    yield "rkv", lambda: rkv(device, lengths, rounds)
    names = ("eager", "sdpa", "flex_attention", "flash_attention_2")
    if small:
        names = ("eager", "sdpa")  # flex attention compiles for most of a minute on the CPU
    yield "backends", lambda: backends(replace(check, layers=2), device, names)


def main() -> int:
    """Run all parts, print the table, write the JSON file; 1 where a row failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--small", action="store_true", help="pico models and few rounds, for the CPU")
    parser.add_argument("--only", default="", metavar="TEXT", help="only parts whose name contains this")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/gpu.json"))
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    transformers.utils.logging.set_verbosity_error()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not options.small:
        parser.error("this machine has no GPU; --small runs the reduced form on the CPU")
    machine = {"device": device_name(device), "torch": torch.__version__, "small": options.small}
    rows: list[Row] = []
    for name, work in parts(device, options.small):
        if options.only not in name:
            continue
        start = time.perf_counter()
        try:
            found = work()
        except Exception as error:  # the other parts are still to be measured
            found = [{**skipped(name, error), "verdict": f"FAIL: {type(error).__name__}: {error}"[:200]}]
        rows += found
        for row in found:
            value = "" if row["value"] is None else f"{row['value']:.4g}"
            bar = "" if row["bar"] is None else f"<= {row['bar']:g}"
            print(f"{row['name']:<46}{value:>12}  {bar:<10}{row['verdict']}", flush=True)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
        if device == "cuda":
            torch.cuda.empty_cache()
        options.output.parent.mkdir(parents=True, exist_ok=True)  # after each part, should this be cut off
        options.output.write_text(json.dumps({**machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    print(f"Written: {options.output}")
    return int(any(str(row["verdict"]).startswith("FAIL") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
