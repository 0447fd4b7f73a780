"""The small parts of a model: RMSNorm and MLPs, cheap enough for models of 30k parameters.

Shapes: B batch, T tokens, D width, F hidden width of the MLP.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, rms_norm, silu

from isoflop.model.gradients import Normalise, by_hand, gated


def normalise(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """RMSNorm over the last axis; `weight` has its shape, or that of the last two axes (one row a head).

    Source: Zhang & Sennrich 2019 (arXiv:1910.07467), eq. 4.
    """
    if x.device.type == "cpu":
        return Normalise.apply(x, weight, epsilon, by_hand(x, weight))  # type: ignore[no-any-return, no-untyped-call]
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
        with_gelu: in silu's place.

    Source: Shazeer 2020 (arXiv:2002.05202), eq. 6.
    """

    with_gelu = False

    def __init__(self, width: int, hidden: int, *, apart: bool = False) -> None:
        super().__init__()
        self.apart = apart
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        if self.apart:
            gate_BTF, up_BTF = (linear(x_BTD, half_FD) for half_FD in self.gate_up.weight.chunk(2))
            hidden_BTF = self.activated(gate_BTF) * up_BTF
        elif by_hand(x_BTD, self.gate_up.weight):
            hidden_BTF = gated(x_BTD, self.gate_up.weight, with_gelu=self.with_gelu)
        else:
            gate_BTF, up_BTF = self.gate_up(x_BTD).chunk(2, dim=-1)
            hidden_BTF = self.activated(gate_BTF) * up_BTF
        out: Tensor = self.down(hidden_BTF)
        return out

    def activated(self, gate_BTF: Tensor) -> Tensor:
        """The gate."""
        return gelu(gate_BTF, approximate="tanh") if self.with_gelu else silu(gate_BTF)


class GEGLU(SwiGLU):
    """The same with GELU, in its tanh approximation, in silu's place: T5 1.1's (Shazeer 2020, eq. 6)."""

    with_gelu = True


class MLP(nn.Module):
    """down(activation(up(x))): BERT's with GELU and biases, the first T5's with ReLU and none."""

    def __init__(self, width: int, hidden: int, activation: Callable[[Tensor], Tensor], *, bias: bool) -> None:
        super().__init__()
        self.activation = activation
        self.up = nn.Linear(width, hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        out: Tensor = self.down(self.activation(self.up(x_BTD)))
        return out
