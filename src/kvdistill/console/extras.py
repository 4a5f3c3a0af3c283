"""Optional dependencies: which extra of the package installs them, and the message where they are missing."""

from importlib.util import find_spec

EXTRAS = {
    "reporting": ("matplotlib", "scipy", "tensorboard"),
    "routing": ("sklearn",),
    "hub": ("datasets",),
}
"""Import names of the packages that each extra of ``pyproject.toml`` adds to the core."""


def missing_packages(extra: str) -> tuple[str, ...]:
    """Packages of an extra that are not installed.

    Args:
        extra: a key of ``EXTRAS``.

    Returns:
        Their import names; empty where the extra is complete.
    """
    return tuple(name for name in EXTRAS[extra] if find_spec(name) is None)


def how_to_install(extra: str) -> str:
    """The sentence that names the missing packages of an extra and the command that installs them."""
    missing = missing_packages(extra)
    remedy = f"Run: pip install 'kvdistill[{extra}]'"
    if len(missing) == 1:
        return f"{missing[0]} is not installed. {remedy}"
    return f"{', '.join(missing)} are not installed. {remedy}"


def require_extra(extra: str, feature: str) -> None:
    """Refuse a feature whose packages are not installed.

    Args:
        extra: a key of ``EXTRAS``.
        feature: what needs it, as the subject of the message.

    Raises:
        ValueError: if a package of the extra is missing.
    """
    if missing_packages(extra):
        raise ValueError(f"{feature} needs the extra {extra!r}: {how_to_install(extra)}")
