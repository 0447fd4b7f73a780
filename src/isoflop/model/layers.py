"""The small parts of a decoder: RMSNorm, SwiGLU and rotary positions, cheap enough for models of 30k parameters.

Shapes: B batch, T tokens, D width, H heads (queries and keys together), S head size, F hidden width of the MLP.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, rms_norm, silu


class _Normalise(torch.autograd.Function):
    """x / rms(x) * weight with its gradient written out.

    F.rms_norm is one kernel on CUDA but a chain of eight on CPU, and autograd doubles it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        unit = x * scale
        ctx.save_for_backward(unit, scale, weight)
        out: Tensor = unit * weight
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        unit, scale, weight = ctx.saved_tensors
        product = gradients[0] * unit
        weight_gradient = product.flatten(0, -1 - weight.ndim).sum(0)
        along = product.mul_(weight).mean(-1, keepdim=True)
        return (gradients[0] * weight).addcmul_(unit, along, value=-1).mul_(scale), weight_gradient, None


def normalise(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """RMSNorm over the last axis; `weight` has its shape, or that of the last two axes (one row a head).

    Source: Zhang & Sennrich 2019 (arXiv:1910.07467), eq. 4.
    """
    if x.device.type == "cpu":
        return _Normalise.apply(x, weight, epsilon)  # type: ignore[no-any-return, no-untyped-call]
    if weight.ndim == 1:
        return rms_norm(x, x.shape[-1:], weight, epsilon)  # keeps its input; a product outside would keep its own too
    return rms_norm(x, x.shape[-1:], None, epsilon) * weight


class RMSNorm(nn.Module):
    """RMSNorm with one gain a channel."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.epsilon = epsilon

    def forward(self, x_BTD: Tensor) -> Tensor:
        """The same shape, root mean square 1 times the gain."""
        return normalise(x_BTD, self.weight, self.epsilon)


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)); gate and up are one matrix of 2 F rows, gate first.

    Attributes:
        apart: multiply by the two halves one after the other, so that one product can be kept and the other forgotten.

    Source: Shazeer 2020 (arXiv:2002.05202), eq. 6.
    """

    def __init__(self, width: int, hidden: int, *, apart: bool = False) -> None:
        super().__init__()
        self.apart = apart
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        if self.apart:
            gate_BTF, up_BTF = (linear(x_BTD, half_FD) for half_FD in self.gate_up.weight.chunk(2))
        else:
            gate_BTF, up_BTF = self.gate_up(x_BTD).chunk(2, dim=-1)
        out: Tensor = self.down(silu(gate_BTF) * up_BTF)
        return out


def rotary_table(context: int, head_size: int, theta: float) -> Tensor:
    """(context, head_size / 2, 2): cosine and sine of each position's angle at each frequency.

    Source: Su et al. 2021 (arXiv:2104.09864), sec. 3.2.2.
    """
    frequency = theta ** (-torch.arange(0, head_size, 2, dtype=torch.float64) / head_size)
    angle = torch.outer(torch.arange(context, dtype=torch.float64), frequency)
    return torch.stack((angle.cos(), angle.sin()), dim=-1).float()


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
    pairs = torch.view_as_complex(x_BTHS.float().reshape(*x_BTHS.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turn_TS).flatten(-2).type_as(x_BTHS)
