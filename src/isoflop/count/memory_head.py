"""The loss head: logits over the vocabulary and their gradients, the most forgotten term.

Eager cross-entropy holds 12 bytes a token and word at its peak, whatever the precision: the fp32 log-softmax, the
gradient of the loss by it, and the gradient of the logits (its 16-bit copy comes when the second is gone). Where the
vocabulary is shared by a tensor-parallel group, torch's loss_parallel makes both in one step that holds a fourth array.

Chunked (`train.head_loss`) makes the gradient where the logits stand, a chunk of tokens at a time: 4 bytes a token and
word of one chunk, with 2 for a 16-bit copy, and the whole gradient of head and hidden states from there on. Fused
kernels keep the logits on the chip (Wijmans et al. 2024, arXiv:2411.09009): only those gradients are left.
"""

import numpy as np

from isoflop.count.memory_columns import Columns, Number

EAGER_BYTES, EAGER_SHARED_BYTES = 12.0, 16.0
CHUNK_ELEMENTS = 2.0**27
"""Logits that exist at once on an accelerator."""


def head_bytes(columns: Columns, *, vocabulary: int, width: int) -> Number:
    """At the peak of the loss; logits are shared by vocabulary over a tensor-parallel group."""
    c = columns
    words, said = vocabulary / c.tensor, c.tokens * c.said
    eager = np.where(c.tensor > 1, EAGER_SHARED_BYTES, EAGER_BYTES) * said * words
    rows = np.minimum(said, np.floor(CHUNK_ELEMENTS / vocabulary))
    narrow = (c.compute < 4) * 1.0
    # fp32 logits, then their gradient; its 16-bit copy. Under autocast a product, of the head or of the chunk's hidden
    # states, which cannot be added in place, and the hidden states in 16 bit.
    product = 2.0 * c.autocast * np.maximum(c.learns * words, rows) * width
    chunk = rows * words * (4.0 + 2.0 * narrow) + product + 2.0 * c.autocast * said * width
    return (
        c.pick("loss_head", {"eager": 1}) * eager
        + c.pick("loss_head", {"chunked": 1}) * chunk
        + gradients(c, vocabulary=vocabulary, width=width) * c.pick("loss_head", {"eager": 0}, 1)
    )


def gradients(columns: Columns, *, vocabulary: int, width: int) -> Number:
    """Of the head's weight and of the hidden states, which the chunked head makes in the forward pass."""
    c = columns
    of_head = c.learns * c.gradient_width * vocabulary * width / c.tensor
    return of_head + c.residual * c.tokens * c.said * width / c.tensor


def narrow_logits(columns: Columns, *, vocabulary: int) -> Number:
    """The eager head's 16-bit logits, gone before its peak; nothing as large comes to fill their place."""
    c = columns
    eager = c.pick("loss_head", {"eager": 1}) * (c.compute < 4)
    return eager * c.compute * c.tokens * c.said * vocabulary / c.tensor
