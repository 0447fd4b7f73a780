"""Attention through torch's fused kernels: the decoder's, grouped and rotary, and that of encoders.

Shapes: B batch, T and U tokens, D width, H query heads, K key and value heads, S head size.
Source: Ainslie et al. 2023 (arXiv:2305.13245); QK-norm: Henry et al. 2020 (arXiv:2010.04245), as RMSNorm per head.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.functional import scaled_dot_product_attention

from isoflop.model.gradients import by_hand, turned
from isoflop.model.layers import normalise
from isoflop.model.rotary import rotate
from isoflop.model.seen import CAUSAL, EVERYTHING, Seen
from isoflop.specs import architecture as specs


class Attention(nn.Module):
    """Queries, keys and values are one matrix: H S rows of q, then K S of k, then K S of v.

    Attributes:
        scale: on the product of query and key; None for 1 / sqrt(S).
    """

    scale: float | None = None

    def __init__(self, spec: specs.Decoder) -> None:
        super().__init__()
        self.spec = spec
        self.qkv = nn.Linear(spec.width, (spec.heads + 2 * spec.kv_heads) * spec.head_size, bias=False)
        self.out = nn.Linear(spec.heads * spec.head_size, spec.width, bias=False)
        if spec.qk_norm:
            self.query_norm = nn.Parameter(torch.empty(spec.head_size))
            self.key_norm = nn.Parameter(torch.empty(spec.head_size))

    def forward(self, x_BTD: Tensor, table: Tensor, seen: Seen = CAUSAL) -> Tensor:
        """(B, T, D) to (B, T, D); `table` is the rotary table."""
        H, K, S = self.spec.heads, self.spec.kv_heads, self.spec.head_size
        gain_HS = torch.cat((self.query_norm.expand(H, S), self.key_norm.expand(K, S))) if self.spec.qk_norm else None
        if by_hand(x_BTD, self.qkv.weight):
            turn = torch.view_as_complex(table[: x_BTD.shape[1]])[:, None]
            q_BTHS, k_BTKS, v_BTKS = turned(
                x_BTD, self.qkv.weight, turn, gain_HS, epsilon=self.spec.norm_epsilon, heads=(H, K)
            )
        else:
            qkv_BTHS = self.qkv(x_BTD).view(*x_BTD.shape[:2], H + 2 * K, S)
            qk_BTHS, v_BTKS = qkv_BTHS.split_with_sizes((H + K, K), dim=2)
            if gain_HS is not None:
                qk_BTHS = normalise(qk_BTHS, gain_HS, self.spec.norm_epsilon)
            q_BTHS, k_BTKS = rotate(qk_BTHS, table).split_with_sizes((H, K), dim=2)
        mixed_BTD = attend(q_BTHS, k_BTKS.type_as(q_BTHS), v_BTKS.type_as(q_BTHS), seen, scale=self.scale)
        out_BTD: Tensor = self.out(mixed_BTD)
        return out_BTD


class SelfAttention(nn.Module):
    """As many key as query heads, no positions of its own: BERT's, and T5's, whose scores are not divided.

    Attributes:
        scale: of scores; None divides them by sqrt(S).
    """

    def __init__(self, width: int, heads: int, head_size: int, *, bias: bool, scale: float | None = None) -> None:
        super().__init__()
        self.heads, self.head_size, self.scale = heads, head_size, scale
        self.qkv = nn.Linear(width, 3 * heads * head_size, bias=bias)
        self.out = nn.Linear(heads * head_size, width, bias=bias)

    def forward(self, x_BTD: Tensor, seen: Seen = EVERYTHING) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        q_BTHS, k_BTHS, v_BTHS = self.qkv(x_BTD).view(*x_BTD.shape[:2], 3, self.heads, self.head_size).unbind(2)
        out_BTD: Tensor = self.out(attend(q_BTHS, k_BTHS, v_BTHS, seen, scale=self.scale))
        return out_BTD


class CrossAttention(nn.Module):
    """Queries of one sequence to all of another; keys and values are one matrix. T5's: scores are not divided."""

    def __init__(self, width: int, heads: int, head_size: int) -> None:
        super().__init__()
        self.heads, self.head_size = heads, head_size
        self.query = nn.Linear(width, heads * head_size, bias=False)
        self.key_value = nn.Linear(width, 2 * heads * head_size, bias=False)
        self.out = nn.Linear(heads * head_size, width, bias=False)

    def forward(self, x_BUD: Tensor, source_BTD: Tensor) -> Tensor:
        """(B, U, D) that ask, (B, T, D) that are read, to (B, U, D)."""
        q_BUHS = self.query(x_BUD).view(*x_BUD.shape[:2], self.heads, self.head_size)
        k_BTHS, v_BTHS = self.key_value(source_BTD).view(*source_BTD.shape[:2], 2, self.heads, self.head_size).unbind(2)
        out_BUD: Tensor = self.out(attend(q_BUHS, k_BTHS, v_BTHS, EVERYTHING, scale=1.0))
        return out_BUD


def attend(q_BTHS: Tensor, k_BUKS: Tensor, v_BUKS: Tensor, seen: Seen, *, scale: float | None = None) -> Tensor:
    """(B, T, H S): values weighted by the softmax of scores; groups of query heads share a key head."""
    heads = (q_BTHS.transpose(1, 2), k_BUKS.transpose(1, 2), v_BUKS.transpose(1, 2))
    grouped = q_BTHS.shape[2] != k_BUKS.shape[2]
    if seen.blocks is not None:
        mixed_BHTS = _flex(q_BTHS.device.type)(*heads, block_mask=seen.blocks, scale=scale, enable_gqa=grouped)
    else:
        mixed_BHTS = scaled_dot_product_attention(
            *heads, attn_mask=seen.mask, is_causal=seen.causal, scale=scale, enable_gqa=grouped
        )
    mixed_BTD: Tensor = mixed_BHTS.transpose(1, 2).flatten(2)
    return mixed_BTD


@cache
def _flex(device: str) -> Any:
    """FlexAttention, compiled where there is a GPU: uncompiled it makes all scores."""
    return torch.compile(flex_attention) if device == "cuda" else flex_attention
