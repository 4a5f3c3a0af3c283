"""``kvdistill doctor``: the table of all checks, and the checks of software, hub and processes."""

import os
import platform
import shutil
from dataclasses import replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from importlib.util import find_spec
from pathlib import Path

import torch
from huggingface_hub import constants
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from kvdistill.commands.doctor.finding import WEIGHTS_7B, Check, Finding, nearest, ok_if, size_text
from kvdistill.commands.doctor.machine import (
    bfloat16,
    cores,
    gpu,
    memory,
    several_gpus,
    shared_memory,
    writable,
)
from kvdistill.console.extras import EXTRAS, missing_packages

SLURM_VARIABLES = (
    "SLURM_JOB_ID",
    "SLURM_JOB_NODELIST",
    "SLURM_NNODES",
    "SLURM_NTASKS",
    "SLURM_GPUS_ON_NODE",
    "SLURM_MEM_PER_NODE",
)
TORCHRUN_VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def doctor() -> int:
    """Print the findings and what would not work here.

    Returns:
        The exit code: 1 if a check found a problem, else 0.
    """
    findings = diagnose()
    for finding in findings:
        print(f"{finding.state:<8} {finding.what:<18} {finding.found}")
        if finding.state != "ok" and finding.advice:
            print(f"{'':<8} {'':<18} -> {finding.advice}")
    lost = [finding.lost for finding in findings if finding.lost]
    if lost:
        print("\nWhat would not work here, and why:", *(f"  - {line}" for line in lost), sep="\n")
    else:
        print("\nNothing was found that would not work here.")
    problems = sum(finding.state == "problem" for finding in findings)
    if not problems:
        print("\nNo problem found.")
        return 0
    print(f"\n{problems} of {len(findings)} checks found a problem.")
    return 1


def diagnose() -> list[Finding]:
    """Run every check in order, without network access; a check that fails to run becomes a note."""
    return [_made(what, check) for what, check in CHECKS.items()]


def _made(what: str, check: Check) -> Finding:
    try:
        finding = check.look(what)
    except Exception as error:  # on an unusual machine a check may raise anything; the others still run
        return Finding(what, "note", f"could not be checked ({_text(error)})")
    if finding.state == "ok":
        return finding
    return replace(finding, lost=check.lost)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _python(what: str) -> Finding:
    wanted, found = metadata("kvdistill")["Requires-Python"], platform.python_version()
    fits = SpecifierSet(wanted).contains(found, prereleases=True)
    return Finding(
        what,
        ok_if(fits, "problem"),
        f"{found} (wanted: {wanted})",
        "Install such a Python, then run: bash setup.sh",
    )


def _packages(what: str) -> Finding:
    extras = ("", *(extra for extra in EXTRAS if not missing_packages(extra)))
    wanted = [
        need
        for need in map(Requirement, requires("kvdistill") or [])
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras)
    ]
    wrong = [
        f"{need.name} is {found}, wanted {need.specifier}" for need in wanted if (found := _misfit(need))
    ]
    return Finding(
        what,
        ok_if(not wrong, "problem"),
        "; ".join(wrong) or f"{len(wanted)} in their ranges",
        "Run: bash setup.sh",
    )


def _misfit(need: Requirement) -> str | None:
    """The installed version if it is out of range, "not installed", or None if it fits."""
    try:
        found = version(need.name)
    except PackageNotFoundError:
        return "not installed"
    if need.specifier.contains(found, prereleases=True):
        return None
    return found


def _imports(what: str) -> Finding:
    broken = []
    optional = {"hub": ("datasets",), "reporting": ("matplotlib", "torch.utils.tensorboard")}
    installed = [name for extra, names in optional.items() if not missing_packages(extra) for name in names]
    for name in ("transformers", "accelerate", "peft", *installed):
        try:
            import_module(name)
        except Exception as error:  # a broken package may raise anything
            broken.append(f"{name} ({_text(error)})")
    return Finding(
        what,
        ok_if(not broken, "problem"),
        "; ".join(broken) or "all can be imported",
        "Run: rm -rf .venv && bash setup.sh",
    )


def _extras(what: str) -> Finding:
    """Extras that are not installed; only a note, since training from files needs none of them."""
    missing = [extra for extra in EXTRAS if missing_packages(extra)]
    if not missing:
        return Finding(what, "ok", ", ".join(EXTRAS))
    advice = f"Run: pip install 'kvdistill[{','.join(missing)}]'"
    return Finding(what, "note", f"without {', '.join(missing)}", advice)


def _login(what: str) -> Finding:
    """Whether a hub token is stored; ``get_token`` is not called, since it may renew one over the network."""
    file = Path(constants.HF_TOKEN_PATH)
    if os.environ.get("HF_TOKEN") or (file.is_file() and file.stat().st_size > 0):
        return Finding(what, "ok", "a token is there")
    return Finding(what, "note", "not logged in", "Run: hf auth login")


def _offline(what: str) -> Finding:
    if constants.is_offline_mode():
        return Finding(
            what,
            "note",
            "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set",
            "Right on compute nodes; elsewhere unset them.",
        )
    return Finding(what, "ok", "may be asked (HF_HUB_OFFLINE is not set)")


def _cache(what: str) -> Finding:
    folder = Path(constants.HF_HUB_CACHE)
    near = nearest(folder)
    free = shutil.disk_usage(near).free
    text = f"{folder}: {size_text(free)} free"
    advice = "Name a folder on a larger disk: export HF_HOME=/scratch/$USER/huggingface"
    if not os.access(near, os.W_OK):
        return Finding(what, "note", f"{text}, cannot be written", advice)
    return Finding(what, ok_if(free >= WEIGHTS_7B / 2), text, advice)


def _attention(what: str) -> Finding:
    if find_spec("flash_attn") is None:
        return Finding(what, "ok", "sdpa and eager; flash-attn is not installed (nor needed)")
    advice = "Leave model.attention at its default (sdpa), or pip uninstall flash-attn."
    if not torch.cuda.is_available():
        return Finding(what, "note", "sdpa and eager; flash-attn is installed, but needs a CUDA GPU", advice)
    try:
        import_module("flash_attn")
    except (ImportError, OSError) as error:
        return Finding(what, "note", f"sdpa and eager; flash-attn is installed, but broken ({error})", advice)
    return Finding(what, "ok", "sdpa, eager and flash-attn")


def _slurm(what: str) -> Finding:
    variables = [f"{name}={os.environ[name]}" for name in sorted(os.environ) if name in SLURM_VARIABLES]
    if "SLURM_JOB_ID" in os.environ:
        return Finding(what, "ok", f"inside a job: {', '.join(variables)}")
    if shutil.which("sbatch") is not None:
        return Finding(what, "ok", "sbatch is here, no job runs")
    return Finding(what, "note", "no sbatch", "Run the scripts with bash.")


def _distributed(what: str) -> Finding:
    there = [name for name in TORCHRUN_VARIABLES if name in os.environ]
    if there and len(there) < len(TORCHRUN_VARIABLES):
        advice = f"Start with torchrun, which sets them all, or: unset {' '.join(there)}"
        return Finding(what, "note", f"only {', '.join(there)} of torchrun's variables are set", advice)
    ways = torch.distributed.is_available() and [
        name for name in ("gloo", "nccl") if getattr(torch.distributed, f"is_{name}_available")()
    ]
    started = "one process (torchrun starts several)"
    if there:
        started = f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']}"
    return Finding(
        what,
        ok_if(ways),
        f"{started}; backends: {', '.join(ways or ['none'])}",
        "Run: bash setup.sh",
    )


CHECKS = {
    "Python": Check(_python),
    "packages": Check(_packages),
    "imports": Check(_imports),
    "extras": Check(
        _extras, "reports and TensorBoard files (reporting), or data sets of the hub (hub): see extras above."
    ),
    "GPU": Check(
        gpu, "fp16 training, and training of anything but small models in bearable time: they need a GPU."
    ),
    "several GPUs": Check(several_gpus, "training on several GPUs: fewer than two are visible to torch."),
    "bfloat16": Check(bfloat16, "bf16 training at full speed: this GPU has no such arithmetic."),
    "memory": Check(
        memory, f"a 7B model in float32: its weights alone take {size_text(WEIGHTS_7B)} of main memory."
    ),
    "CPU cores": Check(cores, "loading data beside the training: there is one core."),
    "hub login": Check(
        _login,
        "gated models (Llama, Gemma, ...) that are not in the cache yet: the hub wants to know who asks.",
    ),
    "hub": Check(_offline, "downloads: models and data sets have to be in the cache."),
    "hub cache": Check(
        _cache,
        f"the download of a 7B model: it wants {size_text(WEIGHTS_7B / 2)} in a folder that can be written.",
    ),
    "outputs/": Check(writable, "runs, or many checkpoints of one: see outputs/ above."),
    "logs/": Check(writable, "jobs that write their logs there: see logs/ above."),
    "attention": Check(
        _attention, "flash-attn in other programs: see attention above. Training uses sdpa or eager."
    ),
    "SLURM": Check(_slurm, "sbatch scripts: there is no SLURM here; bash runs them on this machine."),
    "processes": Check(_distributed, "distributed training: see processes above."),
    "/dev/shm": Check(shared_memory, "several loader processes: they pass batches through /dev/shm."),
}
"""All checks by name, in the order of the table."""
