"""A Llama-like decoder, pre-norm: blocks of attention and SwiGLU, one or a mixture, between an embedding and a head.

Shapes: B batch, T tokens, D width, V vocabulary.
Source: Touvron et al. 2023 (arXiv:2302.13971), sec. 2.2.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from isoflop.model.attention import Attention
from isoflop.model.experts import Mixture
from isoflop.model.layers import RMSNorm, SwiGLU, rotary_table
from isoflop.model.recompute import recomputed
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

    def forward(self, x_BTD: Tensor, table: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D); what the backward pass computes again is forgotten inside, where shards are whole."""
        if self.recompute == "none" or not torch.is_grad_enabled():
            return self._added(x_BTD, table)
        return recomputed(self._added, x_BTD, table, keep_products=self.recompute == "selective")

    def _added(self, x_BTD: Tensor, table: Tensor) -> Tensor:
        # `add` with alpha is one operation, and at 1 the very sum.
        x_BTD = x_BTD.add(self.attention(self.attention_norm(x_BTD), table), alpha=self.branch_scale)
        out_BTD: Tensor = x_BTD.add(self.mlp(self.mlp_norm(x_BTD)), alpha=self.branch_scale)
        return out_BTD


class Decoder(nn.Module):
    """The model of a `specs.Decoder`. Its weights are not set: `build` does that.

    Attributes:
        head_scale: on the hidden states that the head sees, and so on the logits.
    """

    table: Tensor
    head_scale: float = 1.0

    def __init__(self, spec: specs.Decoder, recompute: Recompute = "none") -> None:
        super().__init__()
        self.spec = spec
        self.embedding = nn.Embedding(spec.vocabulary, spec.width)
        self.blocks = nn.ModuleList(Block(spec, recompute) for _ in range(spec.layers))
        self.norm = RMSNorm(spec.width, spec.norm_epsilon)
        self.head = None if spec.tied else nn.Linear(spec.width, spec.vocabulary, bias=False)
        self.register_buffer("table", rotary_table(spec.context, spec.head_size, spec.rope_theta), persistent=False)

    @property
    def head_weight(self) -> Tensor:
        """(V, D) matrix that turns hidden states into logits: the embedding where tied."""
        return self.embedding.weight if self.head is None else self.head.weight

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """(B, T) token ids to (B, T, D) normalised hidden states, one context at most."""
        x_BTD: Tensor = self.embedding(tokens_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD, self.table)
        out_BTD: Tensor = self.norm(x_BTD)
        return out_BTD if self.head_scale == 1.0 else out_BTD * self.head_scale

    @property
    def mixtures(self) -> list[Mixture]:
        """The mixtures of experts, block by block; none in a dense model."""
        return [module for module in self.modules() if isinstance(module, Mixture)]

    def logits(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) hidden states to (B, T, V) logits."""
        return linear(x_BTD, self.head_weight)
