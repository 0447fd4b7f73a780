"""The plainest training there is of the model that isoflop trains, to hold losses against.

Whole logits, torch's own rms_norm, softmax, cross-entropy and clipping, AdamW without fusion, rotation by sine and
cosine; nothing is shared with isoflop's model but the names of the weights. Shapes: B batch, T tokens, H heads, S size.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, embedding, linear, rms_norm, silu

from isoflop.data.batch import Batch
from isoflop.specs.architecture import Decoder
from isoflop.specs.optimizer import Optimizer


class Reference:
    """A decoder as a dictionary of weights.

    Args:
        weights: of isoflop's model, copied.
        dtype: fp32, or fp64 for a truth that rounding does not blur.
    """

    def __init__(self, spec: Decoder, weights: Mapping[str, Tensor], *, dtype: torch.dtype = torch.float32) -> None:
        self.spec = spec
        self.weights = {name: w.detach().to(dtype, copy=True).requires_grad_() for name, w in weights.items()}
        angle = torch.outer(
            torch.arange(spec.context, dtype=dtype),
            spec.rope_theta ** -(torch.arange(0, spec.head_size, 2, dtype=dtype) / spec.head_size),
        )
        self.cos, self.sin = angle.cos(), angle.sin()

    def losses(self, batches: Iterable[Batch], optimizer: Optimizer) -> list[float]:
        """Train; the loss of each step before its update, nats per token. A constant learning rate."""
        assert optimizer.learning_rate is not None
        assert optimizer.beta2 is not None
        flat = list(self.weights.values())
        groups = [
            {"params": [w for w in flat if w.ndim >= 2], "weight_decay": optimizer.weight_decay},
            {"params": [w for w in flat if w.ndim < 2], "weight_decay": 0.0},
        ]
        updater = torch.optim.AdamW(
            groups, lr=optimizer.learning_rate, betas=(optimizer.beta1, optimizer.beta2), eps=optimizer.epsilon,
            foreach=False, fused=False,
        )  # fmt: skip
        out = []
        for batch in batches:
            logits = self.logits(torch.from_numpy(batch.inputs_ST)).flatten(0, 1)
            nats = cross_entropy(logits, torch.from_numpy(batch.targets_SU).flatten())
            (nats + optimizer.z_loss * logits.logsumexp(1).square().mean()).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(flat, optimizer.clip_norm, foreach=False)
            updater.step()
            updater.zero_grad()
            out.append(nats.item())
        return out

    def logits(self, tokens_BT: Tensor) -> Tensor:
        """(B, T) to (B, T, V)."""
        w = self.weights
        x = embedding(tokens_BT, w["embedding.weight"])
        for i in range(self.spec.layers):
            x = x + self._attention(self._norm(x, f"blocks.{i}.attention_norm.weight"), f"blocks.{i}.attention.")
            x = x + self._mlp(self._norm(x, f"blocks.{i}.mlp_norm.weight"), f"blocks.{i}.mlp.")
        return linear(self._norm(x, "norm.weight"), w["embedding.weight" if self.spec.tied else "head.weight"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return rms_norm(x, x.shape[-1:], self.weights[name], self.spec.norm_epsilon)

    def _attention(self, x: Tensor, at: str) -> Tensor:
        heads, shared, size = self.spec.heads, self.spec.kv_heads, self.spec.head_size
        parts = linear(x, self.weights[at + "qkv.weight"]).split_with_sizes(
            [n * size for n in (heads, shared, shared)], -1
        )
        q, k, v = (part.view(*part.shape[:2], -1, size).transpose(1, 2) for part in parts)
        if self.spec.qk_norm:
            q, k = self._norm(q, at + "query_norm"), self._norm(k, at + "key_norm")
        k, v = (part.repeat_interleave(heads // shared, dim=1) for part in (self._turn(k), v))
        score = self._turn(q) @ k.transpose(-1, -2) / size**0.5
        later = torch.ones(score.shape[-2:], dtype=torch.bool).triu(1)
        mixed = score.masked_fill(later, -torch.inf).softmax(-1) @ v
        return linear(mixed.transpose(1, 2).flatten(2), self.weights[at + "out.weight"])

    def _turn(self, x: Tensor) -> Tensor:
        """Channels (2i, 2i + 1) by their position's angle."""
        cos, sin = self.cos[: x.shape[-2]], self.sin[: x.shape[-2]]
        even, odd = x[..., ::2], x[..., 1::2]
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)

    def _mlp(self, x: Tensor, at: str) -> Tensor:
        gate, up = linear(x, self.weights[at + "gate_up.weight"]).chunk(2, dim=-1)
        return linear(silu(gate) * up, self.weights[at + "down.weight"])
