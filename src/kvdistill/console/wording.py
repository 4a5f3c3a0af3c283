"""Numbers as people read them."""


def counted(number: int, noun: str) -> str:
    """A number of things: ``1 thread``, ``0 slots``, ``1,200 steps``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def short_number(value: float) -> str:
    """A measured number with two significant digits, and every digit in front of the point: ``130``, ``4.2``,
    ``0.69``.
    """
    if value >= 9.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 0.995 else f"{value:.2g}"
