"""Parts of a block with their gradients written out, for CPUs, where each pass over memory costs what it costs.

torch has one kernel for each on CUDA; on a CPU it makes a chain of passes, each into memory fetched anew, and autograd
doubles it. Here halves of a product lie apart, so that each is read in one piece; what nobody needs any more is written
over; and a gradient is written where it shall stand. Together 1.2 times the speed of a block (LOG.md).

Shapes: B batch, T tokens, N = B T, D width, F hidden width of an MLP, H query and K key heads, J = H + K, S head size.
"""

from typing import Any

import torch
from torch import Tensor, nn

_aten = torch.ops.aten


def by_hand(x: Tensor, weight: Tensor) -> bool:
    """Whether the products of this module are for them.

    Not where weights are other than plain tensors, nor for the compiler, which fuses plain operations better, nor under
    those who look at each operation: counters, trackers, and recomputation that keeps some of them.
    """
    plain = type(weight) in (Tensor, nn.Parameter) and x.device.type == "cpu"
    return plain and not torch.compiler.is_compiling() and not torch._C._len_torch_dispatch_stack()


def gated(x_BTD: Tensor, gate_up_GD: Tensor, *, with_gelu: bool = False) -> Tensor:
    """(B, T, F) activation(gate(x)) * up(x); gate and up are one matrix of 2 F rows, gate first.

    Args:
        with_gelu: in its tanh approximation, in silu's place.
    """
    return _Gated.apply(*_alike(x_BTD, gate_up_GD), with_gelu)  # type: ignore[no-any-return, no-untyped-call]


def turned(
    x_BTD: Tensor, qkv_RD: Tensor, turn_T1S: Tensor, gain_JS: Tensor | None, *, epsilon: float, heads: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (B, T, H, S), keys and values (B, T, K, S); the first two normalised where there is a gain, and turned.

    Args:
        turn_T1S: complex, for each position and pair of channels; (T, 1, S / 2).
        heads: H and K.
    """
    x_BTD, qkv_RD = _alike(x_BTD, qkv_RD)
    return _Turned.apply(x_BTD, qkv_RD, turn_T1S, gain_JS, epsilon, heads)  # type: ignore[no-any-return, no-untyped-call]


def _alike(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Both as autocast would have them for a product."""
    if not torch.is_autocast_enabled("cpu"):
        return x, weight
    kind = torch.get_autocast_dtype("cpu")
    return x.to(kind), weight.to(kind)


class Normalise(torch.autograd.Function):
    """x / rms(x) * weight, over the last axis; the weight has its shape, or that of the last two.

    `one_kernel` has the way back as one pass, through LayerNorm's kernel, from x itself; otherwise x / rms(x) is kept.
    """

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight: Tensor, epsilon: float, one_kernel: bool) -> Tensor:
        scale_N1 = _scale(x_ND, epsilon)
        ctx.one_kernel = one_kernel and weight.ndim == 1 and x_ND.dtype == weight.dtype
        unit_ND = x_ND * scale_N1
        ctx.save_for_backward(x_ND if ctx.one_kernel else unit_ND, scale_N1, weight)
        return unit_ND.mul_(weight) if ctx.one_kernel else unit_ND * weight

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        kept_ND, scale_N1, weight = ctx.saved_tensors
        found = _by_layer_norm if ctx.one_kernel else _norm_backward
        return *found(gradients[0], kept_ND, scale_N1, weight), None, None


def _scale(x_ND: Tensor, epsilon: float) -> Tensor:
    norm_N1: Tensor = torch.linalg.vector_norm(x_ND, dim=-1, keepdim=True)
    return norm_N1.square_().div_(x_ND.shape[-1]).add_(epsilon).rsqrt_()


def _by_layer_norm(slope_ND: Tensor, x_ND: Tensor, scale_N1: Tensor, weight_D: Tensor) -> tuple[Tensor, Tensor]:
    """LayerNorm's one kernel, told that the mean is 0; what it takes off for the mean's own gradient is given back."""
    shape = x_ND.shape[-1:]
    x_gradient_ND, weight_gradient_D, _ = _aten.native_layer_norm_backward(
        slope_ND, x_ND, shape, torch.zeros_like(scale_N1), scale_N1, weight_D, None, [True, True, False]
    )
    mean_N1 = torch.mv(slope_ND.reshape(-1, *shape), weight_D / shape[0]).view(scale_N1.shape)
    return x_gradient_ND.add_(mean_N1.mul_(scale_N1)), weight_gradient_D


def _norm_backward(slope_ND: Tensor, unit_ND: Tensor, scale_N1: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    product_ND = slope_ND * unit_ND
    weight_gradient = product_ND.flatten(0, -1 - weight.ndim).sum(0)
    along_N1 = product_ND.mul_(weight).mean(-1, keepdim=True)
    return (slope_ND * weight).addcmul_(unit_ND, along_N1, value=-1).mul_(scale_N1), weight_gradient


class _Gated(torch.autograd.Function):
    """The activation is not kept: on a CPU to take it again costs less than to fetch it."""

    @staticmethod
    def forward(ctx: Any, x_BTD: Tensor, gate_up_GD: Tensor, with_gelu: bool) -> Tensor:
        x_ND, (gate_FD, up_FD) = x_BTD.flatten(0, -2), gate_up_GD.chunk(2)
        gate_NF, up_NF = x_ND @ gate_FD.T, x_ND @ up_FD.T
        ctx.save_for_backward(x_ND, gate_up_GD, gate_NF, up_NF)
        ctx.with_gelu, ctx.shape = with_gelu, x_BTD.shape
        out_NF = _activate(gate_NF, torch.empty_like(gate_NF), with_gelu).mul_(up_NF)
        return out_NF.view(*x_BTD.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        x_ND, gate_up_GD, gate_NF, up_NF = ctx.saved_tensors
        slope_NF = gradients[0].reshape(up_NF.shape)
        to_up_NF = _activate(gate_NF, torch.empty_like(up_NF), ctx.with_gelu).mul_(slope_NF)
        to_gate_NF = slope_NF * up_NF
        if ctx.with_gelu:
            _aten.gelu_backward.grad_input(to_gate_NF, gate_NF, approximate="tanh", grad_input=to_gate_NF)
        else:
            _aten.silu_backward.grad_input(to_gate_NF, gate_NF, grad_input=to_gate_NF)
        of_x_ND, of_weight_GD = _through_product((to_gate_NF, to_up_NF), x_ND, gate_up_GD)
        return of_x_ND.view(ctx.shape), of_weight_GD, None


def _activate(gate_NF: Tensor, into_NF: Tensor, with_gelu: bool) -> Tensor:
    active_NF: Tensor = (
        _aten.gelu.out(gate_NF, approximate="tanh", out=into_NF) if with_gelu else _aten.silu.out(gate_NF, out=into_NF)
    )
    return active_NF


def _through_product(slopes: tuple[Tensor, Tensor], x_ND: Tensor, weight_RD: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of both factors, from those of two groups of the product's columns."""
    first, second = slopes
    rows = first.shape[1]
    of_weight_RD = torch.empty_like(weight_RD)
    torch.mm(first.T, x_ND, out=of_weight_RD[:rows])
    torch.mm(second.T, x_ND, out=of_weight_RD[rows:])
    return (first @ weight_RD[:rows]).addmm_(second, weight_RD[rows:]), of_weight_RD


class _Turned(torch.autograd.Function):
    """See `turned`."""

    @staticmethod
    def forward(
        ctx: Any,
        x_BTD: Tensor,
        qkv_RD: Tensor,
        turn_T1S: Tensor,
        gain_JS: Tensor | None,
        epsilon: float,
        heads: tuple[int, int],
    ) -> tuple[Tensor, Tensor, Tensor]:
        x_ND, shape = x_BTD.flatten(0, -2), (*x_BTD.shape[:-1], -1, 2 * turn_T1S.shape[-1])
        rows = sum(heads) * shape[-1]
        qk_BTJS, v_BTKS = (x_ND @ qkv_RD[:rows].T).view(shape), (x_ND @ qkv_RD[rows:].T).view(shape)
        kept: tuple[Tensor, ...] = ()
        if gain_JS is not None:
            scale_BTJ1 = _scale(qk_BTJS, epsilon)
            kept = (qk_BTJS.mul_(scale_BTJ1), scale_BTJ1, gain_JS)
            qk_BTJS = qk_BTJS * gain_JS
        qk_BTJS = qk_BTJS.to(torch.promote_types(qk_BTJS.dtype, torch.float32))
        _as_complex(qk_BTJS).mul_(turn_T1S)
        ctx.save_for_backward(x_ND, qkv_RD, turn_T1S, *kept)
        ctx.heads, ctx.shape = heads, x_BTD.shape
        q_BTHS, k_BTKS = qk_BTJS.to(x_BTD.dtype).split_with_sizes(heads, dim=2)
        return q_BTHS, k_BTKS, v_BTKS

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x_ND, qkv_RD, turn_T1S, *kept = ctx.saved_tensors
        queries, keys = ctx.heads
        size = 2 * turn_T1S.shape[-1]
        back_T1S, of_gain_JS = turn_T1S.conj().resolve_conj(), None
        wide = torch.promote_types(x_ND.dtype, torch.float32)
        qk_BTJS = x_ND.new_empty(*ctx.shape[:-1], queries + keys, size, dtype=wide)
        for gradient, part in zip(gradients, qk_BTJS.split_with_sizes(ctx.heads, dim=2), strict=False):  # not values'
            torch.mul(_as_complex(gradient.to(wide)), back_T1S, out=_as_complex(part))
        if kept:
            qk_BTJS, of_gain_JS = _norm_backward(qk_BTJS, *kept)
        slopes = (qk_BTJS.view(len(x_ND), -1).to(x_ND.dtype), gradients[2].reshape(len(x_ND), -1))
        of_x_ND, of_weight_RD = _through_product(slopes, x_ND, qkv_RD)
        return of_x_ND.view(ctx.shape), of_weight_RD, None, of_gain_JS, None, None


def _as_complex(x_BTJS: Tensor) -> Tensor:
    """Neighbouring channels as complex numbers; the same memory where they lie side by side."""
    whole = x_BTJS.stride(-1) == 1 and all(step % 2 == 0 for step in x_BTJS.stride()[:-1])
    return torch.view_as_complex((x_BTJS if whole else x_BTJS.contiguous()).view(*x_BTJS.shape[:-1], -1, 2))
