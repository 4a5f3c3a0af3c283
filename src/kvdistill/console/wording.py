"""Formatting of counts, measured numbers and sizes for people."""


def counted(number: int, noun: str) -> str:
    """A count with its noun: ``1 thread``, ``0 slots``, ``1,200 steps``."""
    return f"{number:,} {plural(number, noun)}"


def plural(number: int, noun: str) -> str:
    """A noun, with an s unless there is exactly one."""
    if number == 1:
        return noun
    return f"{noun}s"


def number(value: float | int | None, absent: str = "–", digits: int = 3) -> str:
    """A number with its significant digits: ``0.123``, ``41.2``, ``7``, ``12346``.

    Args:
        value: A number, or None where there is none.
        absent: The text for None.
        digits: Significant digits; digits in front of the point are never cut, and an ``int`` is complete.
    """
    if value is None:
        return absent
    short = f"{value:.{digits}g}"
    if isinstance(value, int) or abs(float(short)) >= 10 ** (digits - 1):
        return f"{value:.0f}"
    return short


def short_number(value: float) -> str:
    """A measured number with two significant digits: ``130``, ``4.2``, ``0.69``."""
    return number(value, digits=2)


def size_text(num_bytes: int | float) -> str:
    """Bytes as GiB, or as MiB below a tenth of a GiB."""
    if num_bytes >= 2**30 / 10:
        return f"{num_bytes / 2**30:.1f} GiB"
    return f"{num_bytes / 2**20:.1f} MiB"
