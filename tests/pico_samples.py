"""Small files of rows, and the samples in them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pico_trained
from kvdistill.config import DataSection, FileData, HubData, SyntheticData
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.run.samples import Samples
from kvdistill.run.stream import SampleStream
from kvdistill.text import Encoded

NAMES = pico_trained.NAMES


def row(number: int, please: int = 0) -> str:
    first, second = NAMES[number % 6], NAMES[number // 6 % 6]
    return json.dumps(
        {"question": f"{'please ' * please}{first} {second}", "steps": [second, first], "answer": first}
    )


def write(path: Path, num: int = 20, bad: tuple[int, ...] = (), long: tuple[int, ...] = ()) -> Path:
    """``num`` rows; some have no answer, some are too long (numbers from 0)."""
    lines = [row(number, 60 if number in long else number % 3) for number in range(num)]
    for number in bad:
        lines[number] = json.dumps(
            {"question": f"Wo ist \u2028 Zeile {number}? ½ 行", "steps": []}, ensure_ascii=False
        )
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def of(
    model: LatentReasoner, folder: Path, data: FileData | HubData | SyntheticData, **section: Any
) -> Samples:
    return Samples(
        DataSection(train=data, **{"max_length": 40, "max_bad_rows": 0.5} | section), model, folder / "run"
    )


def file(path: Path | str, **settings: Any) -> FileData:
    return FileData(path=str(path), **settings)


def kept(folder: Path, role: str = "train") -> list[dict[str, Any]]:
    """What is in quarantine."""
    return [
        json.loads(line)
        for line in (folder / "run" / f"quarantine_{role}.jsonl").read_bytes().split(b"\n")
        if line
    ]


def windows(stream: SampleStream, size: int) -> Iterator[tuple[list[Encoded], Any]]:
    """The windows of a pass, with the cursor behind each, which has been through JSON."""
    cursor: Any = None
    while True:
        found, cursor = stream(cursor, size)
        cursor = json.loads(json.dumps(cursor))
        yield found, cursor
        if cursor is None:
            return


def streamed(samples: Samples, data: FileData | HubData, size: int = 7) -> tuple[Encoded, ...]:
    stream = SampleStream(samples, data)
    return tuple(each for found, _ in windows(stream, size) for each in found)
