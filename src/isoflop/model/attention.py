"""Grouped-query attention, causal, through torch's fused kernel.

Shapes: B batch, T tokens, D width, H query heads, K key and value heads, S head size.
Source: Ainslie et al. 2023 (arXiv:2305.13245); QK-norm: Henry et al. 2020 (arXiv:2010.04245), as RMSNorm per head.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from isoflop.model.layers import normalise, rotate
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

    def forward(self, x_BTD: Tensor, table: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D); `table` is the rotary table."""
        H, K, S = self.spec.heads, self.spec.kv_heads, self.spec.head_size
        qkv_BTHS = self.qkv(x_BTD).view(*x_BTD.shape[:2], H + 2 * K, S)
        qk_BTHS, v_BTKS = qkv_BTHS.split_with_sizes((H + K, K), dim=2)
        if self.spec.qk_norm:
            gain_HS = torch.cat((self.query_norm.expand(H, S), self.key_norm.expand(K, S)))
            qk_BTHS = normalise(qk_BTHS, gain_HS, self.spec.norm_epsilon)
        q_BTHS, k_BTKS = rotate(qk_BTHS, table).split_with_sizes((H, K), dim=2)
        mixed_BHTS = scaled_dot_product_attention(
            q_BTHS.transpose(1, 2),
            k_BTKS.transpose(1, 2).type_as(q_BTHS),
            v_BTKS.transpose(1, 2).type_as(q_BTHS),
            is_causal=True,
            scale=self.scale,
            enable_gqa=H != K,
        )
        out_BTD: Tensor = self.out(mixed_BHTS.transpose(1, 2).flatten(2))
        return out_BTD
