"""Rotary positions: what angle each pair of channels turns by at each position, and the turn itself.

Shapes: B batch, T tokens, H heads (queries and keys together), S head size.
"""

import math

import torch
from torch import Tensor

from isoflop.specs.rotary import Dynamic, Linear, Llama3, RopeScaling, Yarn


def rotary_table(context: int, head_size: int, theta: float, scaling: RopeScaling | None = None) -> Tensor:
    """(context, head_size / 2, 2): cosine and sine of each position's angle at each frequency.

    With YaRN both are multiplied by its attention factor, which makes scores larger by its square.

    Source: Su et al. 2021 (arXiv:2104.09864), sec. 3.2.2.
    """
    frequency = frequencies(context, head_size, theta, scaling)
    angle = torch.outer(torch.arange(context, dtype=torch.float64), frequency)
    turned = torch.stack((angle.cos(), angle.sin()), dim=-1)
    if isinstance(scaling, Yarn):
        turned *= 0.1 * math.log(scaling.factor) + 1 if scaling.attention_factor is None else scaling.attention_factor
    return turned.float()


def frequencies(context: int, head_size: int, theta: float, scaling: RopeScaling | None = None) -> Tensor:
    """(head_size / 2,) radians a token, as `specs.rotary` says for each kind of scaling."""
    if isinstance(scaling, Dynamic):
        stretch = scaling.factor * context / scaling.original_context - scaling.factor + 1
        theta *= stretch ** (head_size / (head_size - 2))
    frequency = theta ** (-torch.arange(0, head_size, 2, dtype=torch.float64) / head_size)
    match scaling:
        case Linear():
            return frequency / scaling.factor
        case Llama3():
            turns = scaling.original_context * frequency / (2 * math.pi)
            low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
            return _between(frequency, scaling.factor, ((turns - low) / (high - low)).clamp(0, 1))
        case Yarn():
            return _between(frequency, scaling.factor, 1 - _ramp(scaling, head_size, theta))
    return frequency


def _between(frequency: Tensor, factor: float, kept: Tensor) -> Tensor:
    """The share `kept` of a frequency as it is, the rest divided."""
    return kept * frequency + (1 - kept) * frequency / factor


def _ramp(scaling: Yarn, head_size: int, theta: float) -> Tensor:
    """From 0 at the pair of channels that turns `beta_fast` times in the original context to 1 at `beta_slow` times.

    Pairs are whole, as in the code of YaRN's authors: the first rounded down, the last up.
    """

    def pair(turns: float) -> float:
        return head_size * math.log(scaling.original_context / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first = max(math.floor(pair(scaling.beta_fast)), 0)
    last = min(math.ceil(pair(scaling.beta_slow)), head_size - 1)
    apart = last - first or 0.001
    return ((torch.arange(head_size // 2, dtype=torch.float64) - first) / apart).clamp(0, 1)


def rotate(x_BTHS: Tensor, table: Tensor) -> Tensor:
    """Turn neighbouring channels (2i, 2i + 1) as complex numbers by their position's angle.

    This is the pairing of the paper; one complex product is 2.5 times faster on CPU than Hugging Face's pairing of
    (i, i + S/2), from which the rows of q and k differ by a fixed permutation only.
    """
    if torch.compiler.is_compiling():  # which fuses real products, and complex ones not at all
        cos_TS, sin_TS = table[: x_BTHS.shape[1], None].unbind(-1)
        even, odd = x_BTHS.float().reshape(*x_BTHS.shape[:-1], -1, 2).unbind(-1)
        turned = torch.stack((even * cos_TS - odd * sin_TS, even * sin_TS + odd * cos_TS), dim=-1)
        return turned.flatten(-2).type_as(x_BTHS)
    turn_TS = torch.view_as_complex(table[: x_BTHS.shape[1]])[:, None]
    wide_BTHS = x_BTHS.to(torch.promote_types(x_BTHS.dtype, torch.float32))
    pairs = torch.view_as_complex(wide_BTHS.reshape(*x_BTHS.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turn_TS).flatten(-2).type_as(x_BTHS)
