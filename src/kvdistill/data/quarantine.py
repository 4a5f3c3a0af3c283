"""Quarantine file: rows that cannot be used, with line numbers and reasons."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from kvdistill.data.rows import BadRow, DataError
from kvdistill.records.jsonfile import write_atomic


def json_lines(bad: Iterable[BadRow]) -> bytes:
    """Rows as JSON lines with the keys ``where``, ``line``, ``reason`` and ``text``, in UTF-8."""
    rows = ({"where": row.where, "line": row.number, "reason": row.reason, "text": row.text} for row in bad)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return text.encode(
        "utf-8", "backslashreplace"
    )  # lone surrogates, which UTF-8 cannot encode, become JSON escapes


def quarantine(bad: Sequence[BadRow], total: int, path: Path, max_share: float) -> str:
    """Write the rows that cannot be used to the quarantine file, and stop where they are too many.

    Args:
        bad: the rows; where there are none, no file is written and that of an earlier run is removed.
        total: rows of the data set, usable or not.
        path: the quarantine file.
        max_share: the largest share of ``total`` that is accepted (``data.max_bad_rows``).

    Returns:
        A sentence for the log, empty where no row is bad.

    Raises:
        DataError: if the share is larger; the file is written nevertheless.
    """
    if not bad:
        path.unlink(missing_ok=True)
        return ""
    write_atomic(path, json_lines(bad).decode())
    first, *others = dict.fromkeys(row.where.rpartition(", ")[0] for row in bad)
    counted = f"{len(bad)} of {total} rows of {first}"
    if others:
        counted += f" and {len(others)} more"
    if len(bad) > max_share * total:
        raise DataError(
            f"{counted} cannot be used: {len(bad) / total:.2%}, more than data.max_bad_rows = {max_share:g} "
            f"allows. They are in {path} "
            f"with line numbers and reasons. Repair them, or raise data.max_bad_rows. The first: {bad[0]}"
        )
    return (
        f"{counted} cannot be used and were left out; they are in {path} with line numbers and reasons. "
        f"The first: {bad[0]}"
    )
