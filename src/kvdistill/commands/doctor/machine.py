"""Hardware checks: GPUs, main memory, CPU cores, disks.

Each check takes its name (its row in the table) and returns a finding.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from kvdistill.commands.doctor.finding import GIB, WEIGHTS_7B, Finding, nearest, ok_if, size_text

CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
MEMORY_INFO, DRIVER = Path("/proc/meminfo"), Path("/proc/driver/nvidia/version")


def gpu(what: str) -> Finding:
    """GPUs that torch can use; else why it finds none (no driver, CPU build, hidden devices)."""
    build = f"torch {torch.__version__}"
    if torch.cuda.is_available():
        cards = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
        return Finding(
            what,
            "ok",
            f"{', '.join(f'{card.name} ({size_text(card.total_memory)})' for card in cards)}; {build}",
        )
    if torch.backends.mps.is_available():
        return Finding(what, "ok", f"Apple GPU (MPS); {build}")
    if not DRIVER.exists() and shutil.which("nvidia-smi") is None:
        return Finding(
            what,
            "note",
            f"none visible; {build}",
            "Walk, demo and tests run on CPU; train on a node with a GPU (sbatch).",
        )
    if torch.version.cuda is None:
        return Finding(
            what,
            "problem",
            f"an NVIDIA driver, but {build} is built for CPU",
            "Run: bash setup.sh (it takes the CUDA build)",
        )
    hidden = not DRIVER.exists() or os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    advice = (
        "If nvidia-smi lists none, ask for one: sbatch --gres=gpu:1; if CUDA_VISIBLE_DEVICES is empty, "
        "unset it; else the driver is too "
        "old for this CUDA: KVDISTILL_TORCH names another build, see setup.sh"
    )
    found = f"an NVIDIA driver, but {build} (CUDA {torch.version.cuda}) finds no GPU"
    if hidden:
        return Finding(what, "note", found, advice)
    return Finding(what, "problem", found, advice)


def several_gpus(what: str) -> Finding:
    """Whether torch sees more than one GPU."""
    num = torch.cuda.device_count()
    return Finding(what, ok_if(num > 1), f"{num} visible", "Ask for more: sbatch --gres=gpu:2")


def bfloat16(what: str) -> Finding:
    """Whether bfloat16 arithmetic is native."""
    if not torch.cuda.is_available():
        return Finding(what, "ok", "computed on CPU, slowly")
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return Finding(what, "ok", "native")
    return Finding(what, "note", "only emulated by this GPU", "Train in float32 or float16.")


def memory(what: str) -> Finding:
    """Main memory, free and within the job's limit, compared with the weights of a 7B model."""
    total, free, limit = _main_memory()
    text = f"{size_text(total)}, {size_text(free)} free"
    if limit is not None:
        text += f", this job may use {size_text(limit)}"
    usable = min(free, limit or free)
    return Finding(
        what,
        ok_if(usable >= WEIGHTS_7B),
        text,
        "Ask for more (sbatch --mem=64G), or load in bfloat16.",
    )


def _main_memory() -> tuple[int, int, int | None]:
    """Bytes in total, free, and allowed to this control group (None: no limit)."""
    info = dict(line.split(":") for line in MEMORY_INFO.read_text().splitlines())
    total, free = (int(info[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
    limits = [
        int(text)
        for file in _limit_files()
        if file.is_file() and (text := file.read_text().strip()).isdecimal()
    ]
    return total, free, min((limit for limit in limits if limit < total), default=None)


def _limit_files() -> Iterator[Path]:
    """The files with the memory limits of this control group and its parents, for cgroups v1 and v2."""
    places = {"": (CGROUPS, "memory.max"), "memory": (CGROUPS / "memory", "memory.limit_in_bytes")}
    for line in OWN_CGROUPS.read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers in places:
            root, name = places[controllers]
            own = root / group.lstrip("/")
            yield from (folder / name for folder in (own, *own.parents) if folder.is_relative_to(root))


def cores(what: str) -> Finding:
    """CPU cores that this process may use."""
    usable = os.cpu_count() or 1
    if sys.platform == "linux":
        usable = len(os.sched_getaffinity(0))
    return Finding(
        what,
        ok_if(usable > 1),
        f"{usable} of {os.cpu_count()} usable",
        "Ask for more: sbatch --cpus-per-task=8",
    )


def writable(what: str) -> Finding:
    """Whether a temporary file can be written: permissions alone do not show a full disk or a quota."""
    folder = Path(what.rstrip("/"))
    try:
        with tempfile.TemporaryFile(dir=nearest(folder)) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        return Finding(
            what,
            "problem",
            f"cannot be written ({error})",
            "Free space, repair its rights, or start where you may write.",
        )
    free = shutil.disk_usage(nearest(folder)).free
    return Finding(
        what,
        ok_if(free >= 10 * GIB),
        f"{folder.absolute()} can be written, {size_text(free)} free",
        "Free some space: checkpoints are large.",
    )


def shared_memory(what: str) -> Finding:
    """Size of /dev/shm."""
    size = shutil.disk_usage("/dev/shm").total
    return Finding(
        what,
        ok_if(size >= GIB),
        size_text(size),
        "Containers: docker run --shm-size=8g (or --ipc=host)",
    )
