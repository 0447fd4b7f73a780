"""What is learned: a function `(model, batch) -> loss`. The loop does not know which.

Shapes: B batch, T tokens, N = B T, D width, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from isoflop.count.memory_head import CHUNK_ELEMENTS
from isoflop.data.corrupt import NOTHING
from isoflop.model.decoder import Decoder
from isoflop.specs.layout import LossHead

_CHUNK_ROWS = 512
"""Tokens whose logits exist at once on CPU. A chunk adds to the whole gradient of the head, 12 V D bytes of traffic
beside 6 rows V D operations: 2 % of the time at 512 rows whatever V and D, a third at 32 (measured, LOG.md)."""
_CHUNK_ELEMENTS_CUDA = int(CHUNK_ELEMENTS)


class _HeadLoss(torch.autograd.Function):
    """Head, cross-entropy and z-loss in one, chunk by chunk of tokens.

    The gradient of a chunk's logits is made where its logits stand, (softmax (1 + 2 z lse) - one_hot) / N, and goes
    into the two matrix products at once, so neither logits nor their gradient ever exist whole.
    """

    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, head_VD: Tensor, targets_N: Tensor, z_loss: float, learns: bool, chunk_elements: int
    ) -> tuple[Tensor, Tensor]:
        tokens, vocabulary = max(1, x_ND.shape[0]), head_VD.shape[0]  # no tokens, no loss
        rows = max(1, chunk_elements // vocabulary)
        # A slope over the number of tokens is too small for fp16, and no scale of the loss reaches in here.
        divided = 1 if _in_fp16(x_ND.device.type) else tokens
        # Autocast would turn the whole head into bf16 again for every chunk.
        device = x_ND.device.type
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else head_VD.dtype
        lowx_ND, low_VD = x_ND.to(low), head_VD.to(low)
        x_gradient = torch.empty_like(x_ND) if learns else None
        head_gradient = torch.zeros_like(head_VD) if learns else None
        nats = x_ND.new_zeros((), dtype=torch.float64)
        penalty = x_ND.new_zeros((), dtype=torch.float64)
        for start in range(0, x_ND.shape[0], rows):
            chunk = slice(start, start + rows)
            x_CD, target_C1 = lowx_ND[chunk], targets_N[chunk, None]
            logits_CV = x_CD @ low_VD.T
            logits_CV = logits_CV.to(torch.promote_types(logits_CV.dtype, torch.float32))
            top_C1 = logits_CV.amax(1, keepdim=True)
            said_C1 = logits_CV.sub_(top_C1).gather(1, target_C1)
            # One exponential serves the partition and the gradient.
            sum_C1 = logits_CV.exp_().sum(1, keepdim=True)
            log_C1 = sum_C1.log()
            lse_C1 = log_C1 + top_C1
            nats += (log_C1 - said_C1).sum(dtype=torch.float64)
            penalty += lse_C1.square().sum(dtype=torch.float64)
            if x_gradient is not None and head_gradient is not None:
                slope_CV = logits_CV.mul_((1 + 2 * z_loss * lse_C1) / (sum_C1 * divided))
                slope_CV.scatter_(1, target_C1, slope_CV.gather(1, target_C1) - 1 / divided)
                slope_CV = slope_CV.to(low)
                if x_ND.dtype == head_VD.dtype == low:
                    torch.mm(slope_CV, low_VD, out=x_gradient[chunk])
                    head_gradient.addmm_(slope_CV.T, x_CD)
                else:
                    x_gradient[chunk] = slope_CV @ low_VD
                    head_gradient += slope_CV.T @ x_CD
                del slope_CV
            del logits_CV  # or it would still be there when the next chunk's are made
        if divided != tokens and x_gradient is not None and head_gradient is not None:
            x_gradient /= tokens
            head_gradient /= tokens
        ctx.save_for_backward(x_gradient, head_gradient)
        nats /= tokens
        loss = nats + z_loss * penalty / tokens
        ctx.mark_non_differentiable(nats)
        return loss, nats

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        x_gradient, head_gradient = ctx.saved_tensors
        return x_gradient * gradients[0], head_gradient * gradients[0], None, None, None, None


def _in_fp16(device: str) -> bool:
    return torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16


def causal(
    model: Decoder,
    inputs_BT: Tensor,
    targets_BT: Tensor,
    z_loss: float,
    loss_head: LossHead = "chunked",
    *,
    chunk_elements: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Predict each next token.

    Args:
        loss_head: "chunked", or "eager" for whole logits and torch's cross-entropy: 12 bytes a token and word at its
            peak, and more with a z-loss.
        chunk_elements: logits that exist at once; None takes what suits the device.

    Returns:
        the loss to minimise, nats + z_loss * mean(lse^2) + the penalties of experts, and the cross-entropy alone in
        nats per token, detached.

    Source: z-loss, Chowdhery et al. 2022 (arXiv:2204.02311), sec. 5.
    """
    if loss_head == "eager":
        return _eager(model, inputs_BT, targets_BT, z_loss)
    return _chunked(model, model(inputs_BT).flatten(0, 1), targets_BT.flatten(), z_loss, chunk_elements)


def _with_experts(model: Decoder, loss: Tensor) -> Tensor:
    """The loss and what the mixtures of experts add to it for their balance, block by block."""
    return loss + sum(mixture.penalty for mixture in model.mixtures) if model.spec.experts else loss


def chosen(
    model: Decoder, inputs_BT: Tensor, targets_BT: Tensor, z_loss: float, *, chunk_elements: int | None = None
) -> tuple[Tensor, Tensor]:
    """Say the targets that are not `NOTHING`: masked language modelling, and prefixes that are only read.

    The head sees no other token, which at 15 % saves most of its work. The mean is over what is said, so parts of a
    batch are to be weighted by that; where nothing is said, loss and gradient are 0.

    Returns:
        as `causal`.
    """
    x_ND, targets_N = model(inputs_BT).flatten(0, 1), targets_BT.flatten()
    said_C = (targets_N != NOTHING).nonzero()[:, 0]
    return _chunked(model, x_ND[said_C], targets_N[said_C], z_loss, chunk_elements)


def _chunked(
    model: Decoder, x_ND: Tensor, targets_N: Tensor, z_loss: float, chunk_elements: int | None
) -> tuple[Tensor, Tensor]:
    """Head and loss without whole logits."""
    learns = torch.is_grad_enabled()
    usual = _CHUNK_ROWS * len(model.head_weight) if x_ND.device.type == "cpu" else _CHUNK_ELEMENTS_CUDA
    elements = chunk_elements or usual
    loss, nats = _HeadLoss.apply(x_ND, model.head_weight, targets_N, z_loss, learns, elements)  # type: ignore[no-untyped-call]
    return _with_experts(model, loss), nats


def _eager(model: Decoder, inputs_BT: Tensor, targets_BT: Tensor, z_loss: float) -> tuple[Tensor, Tensor]:
    """Logits whole, in fp32 from there on; those in 16 bit are let go before the backward pass."""
    logits_NV = model.logits(model(inputs_BT)).flatten(0, 1).float()
    nats = cross_entropy(logits_NV, targets_BT.flatten())
    penalty = z_loss * logits_NV.logsumexp(1).square().mean() if z_loss else 0.0
    return _with_experts(model, nats + penalty), nats.detach()
