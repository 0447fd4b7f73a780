"""Which keys a query sees, in the form that the device's attention kernel takes.

Where nothing narrows it, that is a flag and no mask. Windows, documents and prefixes are one rule: a mask that
FlexAttention skips whole tiles by on a GPU, and a boolean matrix elsewhere (FlexAttention has no gradient on CPU).

Shapes: B batch, T tokens.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

Rule: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Whether, in a sequence and a head, a query sees a key; of numbers, or of arrays that broadcast."""


class Seen(NamedTuple):
    """What attention is told.

    Attributes:
        causal: every key up to the query's own place.
        mask: (B or 1, heads or 1, T, T), true for a key that is seen, or a number to add to each score.
        blocks: the same in FlexAttention's form.
    """

    causal: bool = False
    mask: Tensor | None = None
    blocks: BlockMask | None = None


CAUSAL = Seen(causal=True)
EVERYTHING = Seen()


def seen(
    tokens_BT: Tensor,
    *,
    causal: bool,
    window: int | None = None,
    documents_BT: Tensor | None = None,
    prefix_B: Tensor | None = None,
    flex: bool = False,
) -> Seen:
    """What each token sees: of its own document, at most `window` tokens, and nothing later unless both are prefix.

    Args:
        tokens_BT: the batch; its shape and device matter.
        causal: no later key is seen; otherwise all are.
        window: most keys to one side, the query's own included; it binds prefixes too.
        documents_BT: number of each token's document, not decreasing along a row.
        prefix_B: tokens at the beginning of each row that see each other both ways.
        flex: FlexAttention's form, for devices where it is fast.
    """
    (rows, length), device = tokens_BT.shape, tokens_BT.device
    narrow = window is not None and window < length
    if documents_BT is None and prefix_B is None and not narrow:
        return CAUSAL if causal else EVERYTHING
    rule = _rule(causal=causal, window=window if narrow else None, documents_BT=documents_BT, prefix_B=prefix_B)
    each = 1 if documents_BT is None and prefix_B is None else rows
    if flex:
        return Seen(blocks=create_block_mask(rule, each, None, length, length, device=str(device)))
    row, place = torch.arange(each, device=device), torch.arange(length, device=device)
    mask = rule(row[:, None, None, None], row[:1], place[:, None], place)
    return Seen(mask=mask.expand(each, 1, length, length))


def _rule(*, causal: bool, window: int | None, documents_BT: Tensor | None, prefix_B: Tensor | None) -> Rule:
    def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        visible = query >= key if causal else query == query
        if prefix_B is not None:
            visible = visible | (key < prefix_B[row])
        if window is not None:
            visible = visible & ((query - key).abs() < window)
        if documents_BT is not None:
            visible = visible & (documents_BT[row, query] == documents_BT[row, key])
        return visible

    return sees
