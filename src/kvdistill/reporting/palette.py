"""Labels, colors and markers of methods and experiments, the same in all tables and figures."""

import re
from dataclasses import dataclass
from zlib import crc32


@dataclass(frozen=True)
class Tint:
    """A color for light and for dark pages, as hexadecimal RGB."""

    light: str
    """On a light page, and in the SVG files."""
    dark: str
    """On a dark page."""


@dataclass(frozen=True)
class Method:
    """Label, color and marker of a method."""

    label: str
    tint: Tint
    marker: str


INK = Tint("#1a1a1a", "#e8e6e3")
PAPER = Tint("#ffffff", "#16181c")
MUTED = Tint("#595959", "#a9adb3")
RULE = Tint("#d9d9d9", "#3a3f46")
SHADE = Tint("#f4f4f4", "#22262c")
"""Background of code and quotations."""
GOOD = Tint("#1b7837", "#7bd389")
BAD = Tint("#b2182b", "#ff8a80")
NOTE = Tint("#b07800", "#e0b050")

# Distinct for color-blind readers and dark enough on white. Source: Okabe and Ito 2008, Tol 2021, both
# slightly darkened.
_BLUE = Tint("#0072b2", "#5ab4ee")
_VERMILION = Tint("#d55e00", "#ff9a52")
_GREEN = Tint("#009e73", "#2fd0a3")
_PURPLE = Tint("#aa4499", "#e58ad9")
_OCHER = Tint("#b87a00", "#e8bb3c")
_INDIGO = Tint("#332288", "#a79bff")
_FOREST = Tint("#117733", "#86cf70")
_WINE = Tint("#882255", "#f2789f")
_SLATE = Tint("#607080", "#9fb2c4")
_TEAL = Tint("#00798c", "#4fc3d6")
_BROWN = Tint("#7f5539", "#d0a880")

METHODS = {
    "latent": Method("latent slots", _BLUE, "o"),
    "cot": Method("CoT, verbose", _GREEN, "^"),
    "cot_terse": Method("CoT, terse", _FOREST, "v"),
    "direct": Method("direct answer", _OCHER, "X"),
    "kv": Method("latent, KV term", _VERMILION, "s"),
    "e1": Method("latent, no KV term (E1)", _BLUE, "o"),
    "step_end": Method("latent, step-end", _VERMILION, "s"),
    "right_crop": Method("latent, right-crop", _PURPLE, "D"),
    "rkv": Method("latent, R-KV", _INDIGO, "P"),
    "full": Method("latent, full KV", _WINE, "p"),
    "shuffled": Method("latent, shuffled KV", _SLATE, "*"),
    "fused": Method("latent, teachers fused", _INDIGO, "P"),
    "only_gpt2": Method("latent, GPT-2 alone", _PURPLE, "D"),
    "only_qwen3": Method("latent, Qwen3 alone", _WINE, "p"),
    "random_teacher": Method("latent, random teachers", _FOREST, "v"),
    "other_text": Method("latent, another question's chain", _SLATE, "*"),
    "cyclic": Method("latent, own cache through adapters", _TEAL, "h"),
    "lift": Method("latent, lifted to the teachers", _BROWN, "d"),
}
"""The methods of the demo and of the experiments, by their short names in files and options."""
EXPERIMENTS = {
    "E1": "e1",
    "E2": "full",
    "E3": "right_crop",
    "E4": "rkv",
    "E5": "shuffled",
    "direct": "direct",
    "CoT": "cot",
}
"""Experiment -> the method that it trains, whose color and marker it has."""
_SPARE = (_BLUE, _VERMILION, _GREEN, _PURPLE, _OCHER, _INDIGO, _WINE, _SLATE)
_MARKERS = "osD^vPX*"
_TINTS = {
    "ink": INK,
    "paper": PAPER,
    "muted": MUTED,
    "rule": RULE,
    "shade": SHADE,
    "good": GOOD,
    "bad": BAD,
    "note": NOTE,
    "blue": _BLUE,
    "vermilion": _VERMILION,
    "green": _GREEN,
    "purple": _PURPLE,
    "ocher": _OCHER,
    "indigo": _INDIGO,
    "forest": _FOREST,
    "wine": _WINE,
    "slate": _SLATE,
    "teal": _TEAL,
    "brown": _BROWN,
}
"""All colors of a page, by the name of their CSS variables."""


def method(key: str) -> Method:
    """Label, color and marker of a method.

    Args:
        key: its short name; an unknown one gets a color and a marker by its hash, the same in every report.
    """
    known = METHODS.get(key)
    if known is not None:
        return known
    place = crc32(key.encode("utf-8", "replace"))
    return Method(
        f"latent, {key.replace('_', '-')}", _SPARE[place % len(_SPARE)], _MARKERS[place % len(_MARKERS)]
    )


def experiment(name: str) -> Method:
    """Color and marker of the method that an experiment trains, with the experiment's name as label."""
    found = method(EXPERIMENTS.get(name, name))
    return Method(name, found.tint, found.marker)


def variables(dark: bool) -> str:
    """All colors as CSS variables, for a dark or a light page."""
    colors = {name: tint.light for name, tint in _TINTS.items()}
    if dark:
        colors = {name: tint.dark for name, tint in _TINTS.items()}
    return " ".join(f"--{name}: {color};" for name, color in colors.items())


def themed(svg: str) -> str:
    """An SVG whose colors are replaced by the page's CSS variables; colors outside the palette are kept."""
    names = {tint.light: name for name, tint in _TINTS.items()}

    def variable(found: re.Match[str]) -> str:
        color = found[0].lower()
        if color not in names:
            return found[0]
        return f"var(--{names[color]})"

    return re.sub(r"(?<=: )#[0-9a-fA-F]{6}(?=[;\"])", variable, svg)
