"""A Llama-like decoder, pre-norm: blocks of attention and SwiGLU, one or a mixture, between an embedding and a head.

Shapes: B batch, T tokens, N = B T, D width, V vocabulary, L blocks, E experts.
Source: Touvron et al. 2023 (arXiv:2302.13971), sec. 2.2.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from isoflop.model.attention import Attention
from isoflop.model.experts import Mixture
from isoflop.model.layers import RMSNorm, SwiGLU
from isoflop.model.recompute import recomputed
from isoflop.model.rotary import rotary_table
from isoflop.model.seen import CAUSAL, Seen, seen
from isoflop.specs import architecture as specs
from isoflop.specs.layout import Recompute


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    Attributes:
        branch_scale: on each of the two before it is added.
    """

    branch_scale: float = 1.0

    def __init__(self, spec: specs.Decoder, recompute: Recompute = "none") -> None:
        super().__init__()
        self.recompute = recompute
        self.attention_norm = RMSNorm(spec.width, spec.norm_epsilon)
        self.attention = Attention(spec)
        self.mlp_norm = RMSNorm(spec.width, spec.norm_epsilon)
        self.mlp = (
            Mixture(spec.width, spec.hidden, spec.experts)
            if spec.experts
            else SwiGLU(spec.width, spec.hidden, apart=recompute == "selective")
        )

    def forward(self, x_BTD: Tensor, table: Tensor, seen: Seen = CAUSAL) -> Tensor:
        """(B, T, D) to (B, T, D); what the backward pass computes again is forgotten inside, where shards are whole."""
        if self.recompute == "none" or not torch.is_grad_enabled():
            return self._added(x_BTD, table, seen)
        return recomputed(self._added, x_BTD, table, seen, keep_products=self.recompute == "selective")

    def _added(self, x_BTD: Tensor, table: Tensor, seen: Seen) -> Tensor:
        # `add` with alpha is one operation, and at 1 the very sum.
        x_BTD = x_BTD.add(self.attention(self.attention_norm(x_BTD), table, seen), alpha=self.branch_scale)
        out_BTD: Tensor = x_BTD.add(self.mlp(self.mlp_norm(x_BTD)), alpha=self.branch_scale)
        return out_BTD


class Decoder(nn.Module):
    """The model of a `specs.Decoder`. Its weights are not set: `build` does that.

    Attributes:
        head_scale: on the hidden states that the head sees, and so on the logits.
    """

    table: Tensor
    head_scale: float = 1.0
    head_bias = None

    def __init__(self, spec: specs.Decoder, recompute: Recompute = "none") -> None:
        super().__init__()
        self.spec, self.recompute = spec, recompute
        self.windows = spec.windows
        self.embedding = nn.Embedding(spec.vocabulary, spec.width)
        self.blocks = nn.ModuleList(Block(spec, recompute) for _ in range(spec.layers))
        self.norm = RMSNorm(spec.width, spec.norm_epsilon)
        self.head = None if spec.tied else nn.Linear(spec.width, spec.vocabulary, bias=False)
        table = rotary_table(spec.context, spec.head_size, spec.rope_theta, spec.rope_scaling)
        self.register_buffer("table", table, persistent=False)

    @property
    def head_weight(self) -> Tensor:
        """(V, D) matrix that turns hidden states into logits: the embedding where tied."""
        return self.embedding.weight if self.head is None else self.head.weight

    def forward(
        self, tokens_BT: Tensor, *, documents_BT: Tensor | None = None, prefix_B: Tensor | None = None
    ) -> Tensor:
        """(B, T) token ids to (B, T, D) normalised hidden states, one context at most.

        Args:
            documents_BT: number of each token's document, not decreasing along a row; none sees another. Positions go
                on through a row, for rotary scores know distances only: a document is the same wherever it begins.
            prefix_B: how many tokens at the beginning of each row see each other both ways.
        """
        # FlexAttention's kernel is none of those whose output selective recomputation keeps.
        flex = tokens_BT.device.type == "cuda" and self.recompute != "selective"
        sights = {
            window: seen(tokens_BT, causal=True, window=window, documents_BT=documents_BT, prefix_B=prefix_B, flex=flex)
            for window in set(self.windows)
        }
        x_BTD: Tensor = self.embedding(tokens_BT)
        for block, window in zip(self.blocks, self.windows, strict=True):
            x_BTD = block(x_BTD, self.table, sights[window])
        out_BTD: Tensor = self.norm(x_BTD)
        return out_BTD if self.head_scale == 1.0 else out_BTD * self.head_scale

    def before_head(self, x_ND: Tensor) -> Tensor:
        """The hidden states as they are."""
        return x_ND

    def logits(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) hidden states to (B, T, V) logits."""
        return linear(x_BTD, self.head_weight)

    @property
    def mixtures(self) -> list[Mixture]:
        """The mixtures of experts, block by block; none in a dense model."""
        return [module for module in self.modules() if isinstance(module, Mixture)]

    def expert_load(self) -> Tensor | None:
        """(L, E) share of each block's last choices that each of its experts got; None in a dense model.

        Each row sums to 1; E times its largest is how many times the mean its busiest expert got.
        """
        if not self.mixtures:
            return None
        chosen_LE = torch.stack([mixture.chosen_E for mixture in self.mixtures])
        return chosen_LE / chosen_LE.sum(1, keepdim=True)
