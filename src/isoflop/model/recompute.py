"""A block's backward pass computed again from its input, whole or but for its costly products.

"selective" keeps what is dear to compute and small to keep: queries, keys and values, attention's output, and the MLP's
gate; the output projection, up, norms, rotary turns and elementwise parts run twice. torchtitan's selective
recomputation keeps every second product: of ours that would be these and the block's last one, which nobody needs.

Source: Chen et al. 2016 (arXiv:1604.06174), sec. 3; Korthikanti et al. 2022 (arXiv:2205.05198), sec. 5.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import (
    CheckpointPolicy,
    SelectiveCheckpointContext,
    checkpoint,
    create_selective_checkpoint_contexts,
)

_KEPT_PRODUCTS = (1, 3)  # of q k v, output, gate, up, down
_ATTENTION = frozenset(
    {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
        torch.ops.aten._scaled_dot_product_flash_attention.default,
        torch.ops.aten._scaled_dot_product_efficient_attention.default,
        torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    }
)


def recomputed(block: Callable[..., Tensor], *inputs: object, keep_products: bool) -> Tensor:
    """`block(*inputs)`, of which the backward pass finds the inputs only, and with `keep_products` some products."""
    contexts: dict[str, Any] = {"context_fn": _keeping} if keep_products else {}
    out: Tensor = checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False, **contexts)
    return out


def _keeping() -> tuple[Any, Any]:
    """Contexts of one block's forward pass and of its repetition; each counts its own products."""
    counts = {False: 0, True: 0}
    contexts: tuple[Any, Any] = create_selective_checkpoint_contexts(partial(_policy, counts))  # type: ignore[no-untyped-call]
    return contexts


def _policy(
    counts: dict[bool, int], context: SelectiveCheckpointContext, operation: Any, *_: Any, **__: Any
) -> CheckpointPolicy:
    if operation is torch.ops.aten.mm.default:
        counts[context.is_recompute] += 1
        kept = counts[context.is_recompute] in _KEPT_PRODUCTS
    else:
        kept = operation in _ATTENTION
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE
