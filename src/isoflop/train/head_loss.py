"""Head and cross-entropy of what is to be said, without logits that ever exist whole.

Shapes: B batch, T tokens, N = B T or those of them that are to be said, C tokens of a chunk, D width, V vocabulary.
"""

from typing import Any, Protocol

import torch
from msgspec import Struct
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from isoflop.count.memory_head import CHUNK_ELEMENTS
from isoflop.data.corrupt import NOTHING
from isoflop.specs.layout import LossHead

_CHUNK_ROWS = 512
"""Tokens whose logits exist at once on CPU. A chunk adds to the whole gradient of the head, 12 V D bytes of traffic
beside 6 rows V D operations: 2 % of the time at 512 rows whatever V and D, a third at 32 (measured, LOG.md)."""
_CHUNK_ELEMENTS_CUDA = int(CHUNK_ELEMENTS)


class Head(Protocol):
    """What a model has behind its hidden states."""

    @property
    def head_weight(self) -> Tensor:
        """(V, D)"""

    @property
    def head_bias(self) -> Tensor | None:
        """(V,)"""

    def before_head(self, x_ND: Tensor) -> Tensor:
        """What stands between the hidden states and the head, of the tokens that are to be said alone."""


class HeadLoss(Struct, frozen=True, kw_only=True):
    """How the loss of a head is taken.

    Attributes:
        z_loss: weight of the mean squared log-partition (Chowdhery et al. 2022, arXiv:2204.02311, sec. 5).
        loss_head: "chunked", or "eager" for whole logits and torch's cross-entropy: 12 bytes a token and word at its
            peak, and more with a z-loss.
        chunk_elements: logits that exist at once; None takes what suits the device.
    """

    z_loss: float = 0.0
    loss_head: LossHead = "chunked"
    chunk_elements: int | None = None

    def every(self, head: Head, x_BTD: Tensor, targets_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Say every target.

        Returns:
            the loss to minimise, nats + z_loss * mean(lse^2), and the cross-entropy alone in nats per token, detached.
        """
        return self._said(head, x_BTD.flatten(0, 1), targets_BT.flatten())

    def chosen(self, head: Head, x_BTD: Tensor, targets_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Say the targets that are not `NOTHING`: the head sees no other token, which at 15 % saves most of its work.

        The mean is over what is said, so parts of a batch are to be weighted by that; where nothing is said, loss and
        gradient are 0.

        Returns:
            as `every`.
        """
        x_ND, targets_N = x_BTD.flatten(0, 1), targets_BT.flatten()
        said_C = (targets_N != NOTHING).nonzero()[:, 0]
        return self._said(head, x_ND[said_C], targets_N[said_C])

    def _said(self, head: Head, x_ND: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
        x_ND = head.before_head(x_ND)
        if self.loss_head == "eager":
            return self._eager(head, x_ND, targets_N)
        usual = _CHUNK_ROWS * len(head.head_weight) if x_ND.device.type == "cpu" else _CHUNK_ELEMENTS_CUDA
        elements = self.chunk_elements or usual
        learns = torch.is_grad_enabled()
        found: tuple[Tensor, Tensor] = _HeadLoss.apply(  # type: ignore[no-untyped-call]
            x_ND, head.head_weight, head.head_bias, targets_N, self.z_loss, learns, elements
        )
        return found

    def _eager(self, head: Head, x_ND: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
        """Logits whole, in fp32 from there on; those in 16 bit are let go before the backward pass."""
        logits_NV = linear(x_ND, head.head_weight, head.head_bias).float()
        if not len(targets_N):
            nothing = logits_NV.sum()  # 0, and the gradient of it
            return nothing, nothing.detach()
        nats = cross_entropy(logits_NV, targets_N)
        penalty = self.z_loss * logits_NV.logsumexp(1).square().mean() if self.z_loss else 0.0
        return nats + penalty, nats.detach()


class _HeadLoss(torch.autograd.Function):
    """Head, cross-entropy and z-loss in one, chunk by chunk of tokens.

    The gradient of a chunk's logits is made where its logits stand, (softmax (1 + 2 z lse) - one_hot) / N, and goes
    into the two matrix products at once, so neither logits nor their gradient ever exist whole.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_ND: Tensor,
        head_VD: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        z_loss: float,
        learns: bool,
        chunk_elements: int,
    ) -> tuple[Tensor, Tensor]:
        tokens, vocabulary = max(1, x_ND.shape[0]), head_VD.shape[0]  # no tokens, no loss
        rows = max(1, chunk_elements // vocabulary)
        # A slope over the number of tokens is too small for fp16, and no scale of the loss reaches in here.
        divided = 1 if _in_fp16(x_ND.device.type) else tokens
        # Autocast would turn the whole head into 16 bit again for every chunk.
        device = x_ND.device.type
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else head_VD.dtype
        lowx_ND, low_VD = x_ND.to(low), head_VD.to(low)
        x_gradient = torch.empty_like(x_ND) if learns else None
        head_gradient = torch.zeros_like(head_VD) if learns else None
        bias_gradient = torch.zeros_like(bias_V) if learns and bias_V is not None else None
        nats = x_ND.new_zeros((), dtype=torch.float64)
        penalty = x_ND.new_zeros((), dtype=torch.float64)
        for start in range(0, x_ND.shape[0], rows):
            chunk = slice(start, start + rows)
            x_CD, target_C1 = lowx_ND[chunk], targets_N[chunk, None]
            logits_CV = x_CD @ low_VD.T
            logits_CV = logits_CV.to(torch.promote_types(logits_CV.dtype, torch.float32))
            if bias_V is not None:
                logits_CV += bias_V
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
                if bias_gradient is not None:
                    bias_gradient += slope_CV.sum(0)
                slope_CV = slope_CV.to(low)
                if x_ND.dtype == head_VD.dtype == low:
                    torch.mm(slope_CV, low_VD, out=x_gradient[chunk])
                    head_gradient.addmm_(slope_CV.T, x_CD)
                else:
                    x_gradient[chunk] = slope_CV @ low_VD
                    head_gradient += slope_CV.T @ x_CD
                del slope_CV
            del logits_CV  # or it would still be there when the next chunk's are made
        if divided != tokens:
            for gradient in (x_gradient, head_gradient, bias_gradient):
                if gradient is not None:
                    gradient /= tokens
        ctx.save_for_backward(x_gradient, head_gradient, bias_gradient)
        nats /= tokens
        loss = nats + z_loss * penalty / tokens
        ctx.mark_non_differentiable(nats)
        return loss, nats

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x_gradient, head_gradient, bias_gradient = ctx.saved_tensors
        of_bias = None if bias_gradient is None else bias_gradient * gradients[0]
        return x_gradient * gradients[0], head_gradient * gradients[0], of_bias, None, None, None, None


def _in_fp16(device: str) -> bool:
    return torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
