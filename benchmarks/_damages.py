"""Ways to damage a checkpoint: what a disk, a copy, an editor or a hurried user does to it."""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file

CODE = (
    "from pathlib import Path\nPath(__file__).with_name('code_was_run').touch()\nraise ImportError('code "
    "was run')\n"
)
"""What a checkpoint must never bring to run."""


class Place(NamedTuple):
    """What a damage may touch."""

    run: Path
    newest: Path
    older: Path


class Damage(NamedTuple):
    """One damage."""

    name: str
    apply: Callable[[Place, random.Random], None]
    read: bool = True
    """Whether what it changes is read, so that it has to be refused."""
    loads: bool = False
    """Whether loading the model alone reads what it changes."""


TRAINING_ONLY = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "carried.safetensors", "trainer_state.json")


def of_bytes(name: str, flips: int) -> Iterator[Damage]:
    """What may happen to the bytes of any file of the checkpoint."""
    loads = name not in TRAINING_ONLY

    def changed(
        change: Callable[[bytearray, random.Random], bytes],
    ) -> Callable[[Place, random.Random], None]:
        def apply(place: Place, chance: random.Random) -> None:
            path = place.newest / name
            path.write_bytes(change(bytearray(path.read_bytes()), chance))

        return apply

    for number in range(flips):
        yield Damage(f"{name}: bit {number}", changed(_flipped), loads=loads)
    yield Damage(f"{name}: a byte changed", changed(_byte_changed), loads=loads)
    yield Damage(f"{name}: two blocks exchanged", changed(_exchanged), loads=loads)
    yield Damage(f"{name}: zeros of the same size", changed(lambda data, _: bytes(len(data))), loads=loads)
    yield Damage(f"{name}: a block of zeros", changed(_zero_block), loads=loads)
    yield Damage(
        f"{name}: the second half zeros",
        changed(lambda data, _: data[: len(data) // 2].ljust(len(data), b"\0")),
        loads=loads,
    )
    yield Damage(
        f"{name}: random bytes", changed(lambda data, chance: chance.randbytes(len(data))), loads=loads
    )
    yield Damage(f"{name}: half", changed(lambda data, _: data[: len(data) // 2]), loads=loads)
    yield Damage(f"{name}: without its last byte", changed(lambda data, _: data.rstrip()[:-1]), loads=loads)
    yield Damage(f"{name}: empty", changed(lambda data, _: b""), loads=loads)
    yield Damage(f"{name}: a byte appended", changed(lambda data, _: data + b"x"), loads=loads)


def _flipped(data: bytearray, chance: random.Random) -> bytes:
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def _byte_changed(data: bytearray, chance: random.Random) -> bytes:
    data[chance.randrange(len(data))] ^= chance.randrange(1, 256)
    return bytes(data)


def _exchanged(data: bytearray, chance: random.Random) -> bytes:
    half = len(data) // 2
    return bytes(data[half:] + data[:half])


def _zero_block(data: bytearray, chance: random.Random) -> bytes:
    full = [index for index, value in enumerate(data) if value]
    begin = chance.choice(full)
    data[begin : begin + 64] = bytes(len(data[begin : begin + 64]))
    return bytes(data)


def of_files(name: str) -> Iterator[Damage]:
    """What may happen to any file of the checkpoint as a file."""
    loads = name not in TRAINING_ONLY

    def replaced(make: Callable[[Path], object]) -> Callable[[Place, random.Random], None]:
        def apply(place: Place, chance: random.Random) -> None:
            (place.newest / name).unlink()
            make(place.newest / name)

        return apply

    # A model without contents.json is loaded as any folder of transformers is; to resume from it is refused.
    yield Damage(f"{name}: deleted", replaced(lambda path: None), loads=loads and name != "contents.json")
    yield Damage(f"{name}: a pipe", replaced(os.mkfifo), loads=loads)
    yield Damage(f"{name}: a folder", replaced(Path.mkdir), loads=loads)
    yield Damage(f"{name}: a device", replaced(lambda path: path.symlink_to("/dev/zero")), loads=loads)
    yield Damage(
        f"{name}: a link to nowhere",
        replaced(lambda path: path.symlink_to("nowhere")),
        loads=loads and name != "contents.json",
    )


def older_files(names: list[str]) -> Iterator[Damage]:
    """Files of the earlier checkpoint in the place of the newest one's."""
    for name in names:

        def apply(place: Place, chance: random.Random, name: str = name) -> None:
            shutil.copy2(place.older / name, place.newest / name)

        yield Damage(f"{name}: of an earlier checkpoint", apply, loads=name not in TRAINING_ONLY)

    def all_of_it(place: Place, chance: random.Random) -> None:
        shutil.rmtree(place.newest)
        shutil.copytree(place.older, place.newest)

    def renamed(place: Place, chance: random.Random) -> None:
        place.newest.rename(place.newest.with_name("checkpoint-ep9"))

    def far(place: Place, chance: random.Random) -> None:
        copy = shutil.copytree(place.newest, place.newest.with_name("checkpoint-ep9"))
        edit(copy / "trainer_state.json", lambda state: state | {"global_step": 10**9})

    def backwards(place: Place, chance: random.Random) -> None:
        edit(place.newest / "trainer_state.json", lambda state: state | {"global_step": 0})

    yield Damage("all of an earlier checkpoint under the newest one's name", all_of_it)
    yield Damage("the newest checkpoint renamed", renamed)
    yield Damage("a copy with step 10^9", far)
    yield Damage("the newest step said to be 0", backwards)


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Change the content of a JSON file."""
    path.write_text(json.dumps(change(json.loads(path.read_text())), indent=2) + "\n")


def of_weights() -> Iterator[Damage]:
    """What may happen to tensors, in files that safetensors reads without complaint."""

    def changed(
        change: Callable[[dict[str, torch.Tensor], list[str]], object],
    ) -> Callable[[Place, random.Random], None]:
        def apply(place: Place, chance: random.Random) -> None:
            path = place.newest / "model.safetensors"
            state = load_file(path)
            shapes = [name for name in state if state[name].shape == state[next(iter(state))].shape]
            change(state, shapes)
            save_file(state, path, {"format": "pt"})

        return apply

    def swap(state: dict[str, torch.Tensor], names: list[str]) -> None:
        state[names[0]], state[names[-1]] = state[names[-1]], state[names[0]]

    def one(value: float) -> Callable[[dict[str, torch.Tensor], list[str]], object]:
        return lambda state, names: state[names[0]].view(-1)[0].fill_(value)

    yield Damage("weights: two tensors exchanged", changed(swap), loads=True)
    yield Damage(
        "weights: half precision",
        changed(lambda s, _: s.update({n: v.half() for n, v in s.items()})),
        loads=True,
    )
    yield Damage("weights: one missing", changed(lambda state, names: state.pop(names[0])), loads=True)
    yield Damage(
        "weights: one renamed",
        changed(lambda state, names: state.update(more=state.pop(names[0]))),
        loads=True,
    )
    for value in ("nan", "inf", "-inf"):
        yield Damage(f"weights: one {value}", changed(one(float(value))), loads=True)


def deep(levels: int) -> Any:
    """A list in a list in a list ..."""
    found: Any = []
    for _ in range(levels):
        found = [found]
    return found
