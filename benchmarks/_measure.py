"""What the benchmarks measure with: interleaved medians, growth exponents, peak memory of a call, and one
line of JSON.
"""

import ctypes
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

Run = Callable[[], object]


def interleaved_medians(cases: Mapping[str, Run], repeats: int) -> dict[str, float]:
    """Milliseconds of processor time of each case: the median of ``repeats`` rounds, each of which runs every
    case once.

    Processor time, so that other work on the machine counts little; in rounds, so that what remains hits all
    cases alike.
    """
    times: dict[str, list[float]] = {name: [] for name in cases}
    for run in cases.values():
        run()
    for _ in range(repeats):
        for name, run in cases.items():
            start = time.process_time()
            run()
            times[name].append((time.process_time() - start) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def growth_exponent(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """Slope of the logarithm of the cost over the logarithm of the size: 1 is linear, 2 quadratic."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def peak_extra_bytes(run: Run) -> int:
    """By how many bytes the resident memory of a process rises, at its highest, while it runs ``run``: the
    system's own count.

    Taken in a forked child, so that no benchmark sees the memory of another. It runs once before, so that
    loading code does not count, and gives freed memory back, so that the second run cannot reuse it unseen.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, str(_extra_bytes_here(run)).encode())
        finally:
            os._exit(0)  # whatever happens: this copy of the program must not go on
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    if not text:
        raise RuntimeError(
            "The child that measures memory ended without an answer. Free some memory and run the benchmark "
            "again, on Linux."
        )
    return int(text)


def _extra_bytes_here(run: Run) -> int:
    run()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to what is resident now
    before = _peak_kib()
    run()
    return (_peak_kib() - before) * 1024


def _peak_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def read_bandwidth(num_bytes: int, repeats: int) -> float:
    """Bytes a second at which one thread reads ``num_bytes`` bytes of float32."""
    data = torch.ones(num_bytes // 4)
    return num_bytes / (interleaved_medians({"sum": data.sum}, repeats)["sum"] / 1e3)


def print_json(results: Mapping[str, object]) -> None:
    """The results on one line, rounded to four digits: the last line that a benchmark prints."""
    rounded = {
        name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in results.items()
    }
    sys.stdout.write(json.dumps(rounded) + "\n")
