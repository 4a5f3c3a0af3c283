"""Rotary scaling: the frequencies of each method, and keys moved between positions.

Frequencies of D rotated channels (2 F, in the letters of ``kv.py``) at base θ are ``θ^(-2i/D)``.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kvdistill.kv import Rope
from kvdistill.ops import rotate


def move(
    keys: Float[Tensor, "B H T K"], start: Int[Tensor, "B #H T"], end: Int[Tensor, "B #H T"], rope: Rope
) -> Float[Tensor, "B H T K"]:
    """Rotate keys from the positions whose rotation they carry to other positions.

    Args:
        keys: Rotated keys, (B, H, T, K).
        start: Position of each slot now, (B, H, T), or (B, 1, T) for all heads.
        end: Position of each slot afterwards, in the same shape.
        rope: Rotation that the keys carry.

    Returns:
        Keys as the model computes them at ``end``, in the same shape and dtype.

    Source: https://arxiv.org/abs/2104.09864, equation 16 (a product of rotations adds their angles).
    """
    # The keys carry the attention factor already, so the further rotation is without it.
    return rotate(keys, end - start, replace(rope, factor=1.0))


def plain_frequencies(theta: float, width: int) -> Float[Tensor, " F"]:
    """Frequencies without scaling, ``θ^(-2i/D)``.

    Args:
        theta: Base of the frequencies.
        width: D, the number of rotated channels.

    Returns:
        Radians per position, (F) with F = D / 2.

    Source: https://arxiv.org/abs/2104.09864, equation 15.
    """
    exponents = torch.arange(0, width, 2, dtype=torch.float32) / width
    return theta**-exponents


def ntk_base(theta: float, factor: float, width: int) -> float:
    """The base at which the lowest frequency is 1 / factor of what it was, and the highest is unchanged.

    Args:
        theta: Base before.
        factor: s, the ratio of the longer window to the trained one.
        width: D, the number of rotated channels.

    Returns:
        ``θ s^(D / (D - 2))``.

    Source: https://arxiv.org/abs/2309.00071, equation 16.
    """
    return theta * factor ** (width / (width - 2))


@dataclass(frozen=True, kw_only=True)
class Unscaled:
    """Frequencies as trained."""

    def rope(self, theta: float, width: int, length: int = 0) -> Rope:
        """Rotation of D channels at base ``theta``; the other methods have the same arguments.

        Args:
            theta: Base of the frequencies.
            width: D, the number of rotated channels.
            length: Tokens of the text; only ``Dynamic`` and ``LongRope`` depend on it.

        Returns:
            Frequencies (F) and attention factor.
        """
        return Rope(plain_frequencies(theta, width))


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Position interpolation: every frequency divided by the factor.

    Source: https://arxiv.org/abs/2306.15595, equation 4.
    """

    factor: float

    def rope(self, theta: float, width: int, length: int = 0) -> Rope:
        """As ``Unscaled.rope``."""
        return Rope(plain_frequencies(theta, width) / self.factor)


@dataclass(frozen=True, kw_only=True)
class NTKAware:
    """A larger base: high frequencies stay, the lowest is interpolated.

    Source: https://arxiv.org/abs/2309.00071, equation 16.
    """

    factor: float

    def rope(self, theta: float, width: int, length: int = 0) -> Rope:
        """As ``Unscaled.rope``."""
        return Rope(plain_frequencies(ntk_base(theta, self.factor, width), width))


@dataclass(frozen=True, kw_only=True)
class Dynamic:
    """NTK-aware scaling by as much as the text is longer than the window, and none within it.

    Source: https://arxiv.org/abs/2309.00071, appendix B.1; the factor as transformers has it.
    """

    factor: float
    window: int
    """Tokens that the model was trained on."""

    def rope(self, theta: float, width: int, length: int = 0) -> Rope:
        """As ``Unscaled.rope``."""
        ratio = max(length, self.window) / self.window
        base = ntk_base(theta, self.factor * ratio - (self.factor - 1), width)
        return Rope(plain_frequencies(base, width))


@dataclass(frozen=True, kw_only=True)
class Llama3:
    """Long wavelengths are interpolated, short ones stay, those between are blended.

    Source: Llama 3.1, https://arxiv.org/abs/2407.21783, section 3.4.2; thresholds as in transformers.
    """

    factor: float
    window: int
    """Tokens that the model was trained on."""
    low: float = 1.0
    """Wavelengths above ``window / low`` are interpolated."""
    high: float = 4.0
    """Wavelengths below ``window / high`` stay."""

    def rope(self, theta: float, width: int, length: int = 0) -> Rope:
        """As ``Unscaled.rope``."""
        freq = plain_frequencies(theta, width)
        turns = self.window * freq / (2 * math.pi)  # turns within the window, (F)
        smooth = ((turns - self.low) / (self.high - self.low)).clamp(0, 1)
        return Rope((1 - smooth) * freq / self.factor + smooth * freq)


@dataclass(frozen=True, kw_only=True)
class Yarn:
    """A ramp over the channels from unscaled to interpolated frequencies, and an attention factor.

    Source: https://arxiv.org/abs/2309.00071, equations 17 to 22.
    """

    factor: float
    window: int
    """Tokens that the model was trained on."""
    beta_fast: float = 32.0
    """Channels with more turns than this within the window stay."""
    beta_slow: float = 1.0
    """Channels with fewer turns than this are interpolated."""
    attention_factor: float | None = None
    """Multiplies cosine and sine; None is ``0.1 ln(factor) + 1``."""

    def rope(self, theta: float, width: int, length: int = 0) -> Rope:
        """As ``Unscaled.rope``."""
        freq = plain_frequencies(theta, width)
        first = max(math.floor(self._channel(self.beta_fast, theta, width)), 0)
        last = min(math.ceil(self._channel(self.beta_slow, theta, width)), width - 1)
        # 0 up to ``first``, 1 from ``last`` on, (F).
        ramp = ((torch.arange(width // 2) - first) / max(last - first, 0.001)).clamp(0, 1)
        attention = self.attention_factor
        if attention is None:
            attention = 0.1 * math.log(self.factor) + 1.0
        return Rope(ramp * freq / self.factor + (1 - ramp) * freq, factor=attention)

    def _channel(self, turns: float, theta: float, width: int) -> float:
        """The channel pair that makes this many turns within the window."""
        return width * math.log(self.window / (2 * math.pi * turns)) / (2 * math.log(theta))


@dataclass(frozen=True, kw_only=True)
class LongRope:
    """A factor per channel pair, one set for short and one for long texts, and an attention factor.

    Source: https://arxiv.org/abs/2402.13753, equation 2; the attention factor as in transformers.
    """

    factor: float
    window: int
    """Tokens that the model was trained on; longer texts take ``long``."""
    short: tuple[float, ...]
    long: tuple[float, ...]

    def rope(self, theta: float, width: int, length: int = 0) -> Rope:
        """As ``Unscaled.rope``."""
        divisors = self.short
        if length > self.window:
            divisors = self.long
        attention = 1.0
        if self.factor > 1:
            attention = math.sqrt(1 + math.log(self.factor) / math.log(self.window))
        return Rope(plain_frequencies(theta, width) / torch.tensor(divisors), factor=attention)
