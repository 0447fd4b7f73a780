"""T5: an encoder that reads, a decoder that writes, pre-norm, with learned biases of relative positions.

Shapes: B batch, T tokens read, U tokens written, N = B U, D width, H heads, V vocabulary.
Source: Raffel et al. 2020 (arXiv:1910.10683), sec. 2.1; T5 1.1: Shazeer 2020 (arXiv:2002.05202).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, relu

from isoflop.errors import UsageError
from isoflop.model.attention import CrossAttention, SelfAttention
from isoflop.model.experts import Mixture
from isoflop.model.layers import GEGLU, MLP, RMSNorm
from isoflop.model.recompute import recomputed
from isoflop.model.seen import Seen
from isoflop.specs import architecture as specs
from isoflop.specs.layout import Recompute


class Block(nn.Module):
    """x + attention(norm(x)); in a decoder x + cross(norm(x), source); x + mlp(norm(x))."""

    def __init__(self, spec: specs.EncoderDecoder, *, crossing: bool, recompute: Recompute = "none") -> None:
        super().__init__()
        self.recompute = recompute
        self.attention_norm = RMSNorm(spec.width, spec.norm_epsilon)
        self.attention = SelfAttention(spec.width, spec.heads, spec.head_size, bias=False, scale=1.0)
        if crossing:
            self.cross_norm = RMSNorm(spec.width, spec.norm_epsilon)
        self.cross = CrossAttention(spec.width, spec.heads, spec.head_size) if crossing else None
        self.mlp_norm = RMSNorm(spec.width, spec.norm_epsilon)
        self.mlp = GEGLU(spec.width, spec.hidden) if spec.gated else MLP(spec.width, spec.hidden, relu, bias=False)

    def forward(self, x_BUD: Tensor, seen: Seen, source_BTD: Tensor | None = None) -> Tensor:
        """(B, U, D) to (B, U, D)."""
        if self.recompute == "none" or not torch.is_grad_enabled():
            return self._added(x_BUD, seen, source_BTD)
        return recomputed(self._added, x_BUD, seen, source_BTD, keep_products=False)

    def _added(self, x_BUD: Tensor, seen: Seen, source_BTD: Tensor | None) -> Tensor:
        x_BUD = x_BUD + self.attention(self.attention_norm(x_BUD), seen)
        if self.cross is not None:
            x_BUD = x_BUD + self.cross(self.cross_norm(x_BUD), source_BTD)
        out_BUD: Tensor = x_BUD + self.mlp(self.mlp_norm(x_BUD))
        return out_BUD


class Stack(nn.Module):
    """Blocks that share the biases of relative positions, and a norm after them.

    Attributes:
        relative: (buckets, H) a bias for each bucket of distances.
    """

    def __init__(self, spec: specs.EncoderDecoder, *, writes: bool, recompute: Recompute) -> None:
        super().__init__()
        self.spec, self.writes = spec, writes
        self.relative = nn.Embedding(spec.buckets, spec.heads)
        layers = spec.writing_layers if writes else spec.layers
        self.blocks = nn.ModuleList(Block(spec, crossing=writes, recompute=recompute) for _ in range(layers))
        self.norm = RMSNorm(spec.width, spec.norm_epsilon)

    def forward(self, x_BUD: Tensor, source_BTD: Tensor | None = None) -> Tensor:
        """(B, U, D) to (B, U, D), normalised."""
        seen = Seen(mask=self.bias(x_BUD.shape[1]))
        for block in self.blocks:
            x_BUD = block(x_BUD, seen, source_BTD)
        out_BUD: Tensor = self.norm(x_BUD)
        return out_BUD

    def bias(self, length: int) -> Tensor:
        """(1, H, length, length) what is added to each score; minus infinity for what a decoder must not see.

        It depends on the distance alone, so one line of 2 length - 1 biases is looked up, and each query's row is a
        stretch of it: the gradient is summed over the line, not over length**2 places.
        """
        distance = torch.arange(1 - length, length, device=self.relative.weight.device)
        bucket = buckets(distance, spec=self.spec, both_ways=not self.writes)
        line_H = self.relative(bucket).T
        if self.writes:
            line_H = line_H.masked_fill(distance > 0, -math.inf)
        rows_HUU: Tensor = line_H.unfold(1, length, 1).flip(1)
        return rows_HUU[None]


def buckets(distance: Tensor, *, spec: specs.EncoderDecoder, both_ways: bool) -> Tensor:
    """The bucket of each distance key - query: half of a direction's for single distances, half for logarithmic ranges.

    Args:
        both_ways: later keys have half of the buckets, the upper one; otherwise all are the first bucket's.

    Source: Raffel et al. 2020, sec. 2.1; as published with the paper.
    """
    count = spec.buckets // 2 if both_ways else spec.buckets
    single = count // 2
    away = distance.abs() if both_ways else (-distance).clamp(min=0)
    range_ = (away.clamp(min=1).float() / single).log() / math.log(spec.max_distance / single) * (count - single)
    bucket = torch.where(away < single, away, (single + range_.long()).clamp(max=count - 1))
    return bucket + count * (distance > 0) if both_ways else bucket


class EncoderDecoder(nn.Module):
    """The model of a `specs.EncoderDecoder`. Its weights are not set: `build` does that."""

    head_bias = None

    def __init__(self, spec: specs.EncoderDecoder, recompute: Recompute = "none") -> None:
        if recompute == "selective":
            raise UsageError('recompute "selective" knows no encoders; take "full" or "none"')
        super().__init__()
        self.spec = spec
        self.embedding = nn.Embedding(spec.vocabulary, spec.width)
        self.encoder = Stack(spec, writes=False, recompute=recompute)
        self.decoder = Stack(spec, writes=True, recompute=recompute)
        self.head = None if spec.tied else nn.Linear(spec.width, spec.vocabulary, bias=False)

    @property
    def head_weight(self) -> Tensor:
        """(V, D) matrix that turns hidden states into logits: the embedding where tied."""
        return self.embedding.weight if self.head is None else self.head.weight

    def forward(self, inputs_BT: Tensor, outputs_BU: Tensor) -> Tensor:
        """(B, T) ids that are read and (B, U) that are written, shifted right already, to (B, U, D) hidden states."""
        source_BTD = self.encoder(self.embedding(inputs_BT))
        out_BUD: Tensor = self.decoder(self.embedding(outputs_BU), source_BTD)
        return out_BUD

    def before_head(self, x_ND: Tensor) -> Tensor:
        """The hidden states, scaled where the embedding is the head: its rows have length sqrt(D)."""
        return x_ND * self.spec.width**-0.5 if self.spec.tied else x_ND

    def logits(self, x_BUD: Tensor) -> Tensor:
        """(B, U, D) hidden states to (B, U, V) logits."""
        return linear(self.before_head(x_BUD), self.head_weight)

    @property
    def mixtures(self) -> list[Mixture]:
        """None: it is dense."""
        return []
