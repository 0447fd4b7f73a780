"""BERT's encoder, post-norm, with its masked-language head: attention and a GELU MLP, a LayerNorm after each.

Shapes: B batch, T tokens, N = B T, D width, V vocabulary.
Source: Devlin et al. 2019 (arXiv:1810.04805); Liu et al. 2019 (arXiv:1907.11692).
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from isoflop.errors import UsageError
from isoflop.model.attention import SelfAttention
from isoflop.model.experts import Mixture
from isoflop.model.layers import MLP
from isoflop.model.recompute import recomputed
from isoflop.model.seen import EVERYTHING, Seen, seen
from isoflop.specs import architecture as specs
from isoflop.specs.layout import Recompute


class Block(nn.Module):
    """norm(x + attention(x)), then norm(x + mlp(x))."""

    def __init__(self, spec: specs.Encoder, recompute: Recompute = "none") -> None:
        super().__init__()
        self.recompute = recompute
        self.attention = SelfAttention(spec.width, spec.heads, spec.head_size, bias=True)
        self.attention_norm = nn.LayerNorm(spec.width, spec.norm_epsilon)
        self.mlp = MLP(spec.width, spec.hidden, gelu, bias=True)
        self.mlp_norm = nn.LayerNorm(spec.width, spec.norm_epsilon)

    def forward(self, x_BTD: Tensor, seen: Seen = EVERYTHING) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        if self.recompute == "none" or not torch.is_grad_enabled():
            return self._added(x_BTD, seen)
        return recomputed(self._added, x_BTD, seen, keep_products=False)

    def _added(self, x_BTD: Tensor, seen: Seen) -> Tensor:
        x_BTD = self.attention_norm(x_BTD + self.attention(x_BTD, seen))
        out_BTD: Tensor = self.mlp_norm(x_BTD + self.mlp(x_BTD))
        return out_BTD


class Encoder(nn.Module):
    """The model of a `specs.Encoder`. Its weights are not set: `build` does that.

    Attributes:
        segments: the table of token types, where there is one.
        transform: before the head; with GELU and a LayerNorm after it.
    """

    def __init__(self, spec: specs.Encoder, recompute: Recompute = "none") -> None:
        if recompute == "selective":
            raise UsageError('recompute "selective" knows no encoders; take "full" or "none"')
        super().__init__()
        self.spec = spec
        self.embedding = nn.Embedding(spec.vocabulary, spec.width)
        self.positions = nn.Embedding(spec.context, spec.width)
        self.segments = nn.Embedding(spec.segments, spec.width) if spec.segments else None
        self.embedding_norm = nn.LayerNorm(spec.width, spec.norm_epsilon)
        self.blocks = nn.ModuleList(Block(spec, recompute) for _ in range(spec.layers))
        self.transform = nn.Linear(spec.width, spec.width)
        self.transform_norm = nn.LayerNorm(spec.width, spec.norm_epsilon)
        self.head_bias = nn.Parameter(torch.empty(spec.vocabulary))

    @property
    def head_weight(self) -> Tensor:
        """(V, D) the embedding."""
        return self.embedding.weight

    def forward(
        self, tokens_BT: Tensor, *, documents_BT: Tensor | None = None, segments_BT: Tensor | None = None
    ) -> Tensor:
        """(B, T) token ids to (B, T, D) hidden states, one context at most.

        Args:
            documents_BT: number of each token's document, not decreasing along a row; none sees another. Positions go
                on through a row, as RoBERTa packs: were they to begin anew, rows of the table would seldom be reached.
            segments_BT: type of each token; None makes all of them the first.
        """
        place_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        x_BTD: Tensor = self.embedding(tokens_BT) + self.positions(place_T)
        if self.segments is not None:
            x_BTD = x_BTD + self.segments(torch.zeros_like(tokens_BT[:1]) if segments_BT is None else segments_BT)
        x_BTD = self.embedding_norm(x_BTD)
        sight = seen(tokens_BT, causal=False, documents_BT=documents_BT, flex=tokens_BT.device.type == "cuda")
        for block in self.blocks:
            x_BTD = block(x_BTD, sight)
        return x_BTD

    def before_head(self, x_ND: Tensor) -> Tensor:
        """What the head multiplies, of those tokens that are to be said."""
        out_ND: Tensor = self.transform_norm(gelu(self.transform(x_ND)))
        return out_ND

    def logits(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) hidden states to (B, T, V) logits."""
        return linear(self.before_head(x_BTD), self.head_weight, self.head_bias)

    @property
    def mixtures(self) -> list[Mixture]:
        """None: it is dense."""
        return []
