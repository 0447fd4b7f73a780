"""Floating-point operations of one training token: matrix products and attention, nothing else.

A multiply-add is two operations. Norms, rotary positions, softmax, the activation, the embedding lookup and the
optimizer are left out, as every law and every published MFU leaves them out; the count equals torch's FlopCounterMode.
Attention is the full T x T square unless `causal` is asked for: the convention of PaLM's appendix B and of most
published MFU. A causal kernel does about half of that work, so an MFU by the full square flatters long contexts.
"""

from msgspec import Struct

from isoflop.count.parameters import of_block, outside_blocks, parameters
from isoflop.errors import UsageError
from isoflop.specs.architecture import Architecture, Counts, Encoder, EncoderDecoder, ParameterCount
from isoflop.specs.layout import Recompute
from isoflop.specs.transformer import MLP, Attention, Block, LatentAttention, Transformer


class FlopCount(Struct, frozen=True, kw_only=True):
    """Operations of one token in a sequence of `sequence` tokens.

    Attributes:
        matmul_forward: 2 per weight that multiplies an activation, the head included.
        attention_forward: scores and their weighted sum, queries against keys.
        head_forward: of `matmul_forward`, what lies outside the blocks.
        selective_forward: of `matmul_forward`, what selective recomputation runs again: the output projections of
            attention, the up of a gated MLP beside its gate, the router.
        causal: only the keys a token may see are counted, not the full square.
        target: tokens the decoder of an encoder-decoder adds to the encoder's `sequence`; 0 elsewhere. The mean is then
            over both, so that training work is `total` times all tokens.
    """

    parameters: ParameterCount
    sequence: int
    matmul_forward: float
    attention_forward: float
    causal: bool
    head_forward: float = 0.0
    selective_forward: float = 0.0
    target: int = 0

    @property
    def forward(self) -> float:
        """Operations of the forward pass."""
        return self.matmul_forward + self.attention_forward

    @property
    def backward(self) -> float:
        """Operations of the backward pass: for each product one for the input's gradient, one for the weight's."""
        return 2.0 * self.forward

    @property
    def total(self) -> float:
        """Forward and backward, without recomputation."""
        return 3.0 * self.forward

    def context_ratio(self, width: int) -> float:
        """n_ctx / 12 d: about what attention adds to the products of blocks whose MLP is 4 widths wide, causal.

        Source: Kaplan et al. 2020 (arXiv:2001.08361), sec. 2.1, who leave attention out where this is far below 1.
        """
        return self.sequence / (12.0 * width)

    def with_recompute(self, recompute: Recompute) -> float:
        """Forward and backward with what the backward pass computes again: HFU counts this, MFU does not.

        "full" runs every block's forward pass again, as published HFU counts it; torch's checkpoint stops once it has
        what it needs, which spares the last product of each block.
        """
        again = {"none": 0.0, "selective": self.selective_forward, "full": self.forward - self.head_forward}
        return self.total + again[recompute]

    def six_n(self, counts: Counts = "total") -> float:
        """The laws' 6 N, N as `counts` says; by "matmul" it is `total` without attention."""
        return 6.0 * self.parameters.by(counts)


def flops_per_token(
    architecture: Architecture, *, sequence: int, causal: bool = False, target: int | None = None
) -> FlopCount:
    """Count the operations of one token.

    Args:
        architecture: the model.
        sequence: tokens of the sequence it stands in, T; of an encoder-decoder what the encoder reads.
        causal: count for each query the keys it may see, on average (T + 1) / 2 and less within a window, instead of T.
        target: what the decoder of an encoder-decoder writes; `sequence` by default.

    Raises:
        UsageError: `sequence` or `target` is below 1, or `target` is given to a model of one stack.
    """
    if sequence < 1:
        raise UsageError(f"sequence is {sequence}; it must be at least 1")
    both = isinstance(architecture, EncoderDecoder)
    if isinstance(architecture, Transformer):
        both = bool(architecture.encoder and architecture.decoder)
    if target is not None and not both:
        raise UsageError("a target length belongs to an encoder-decoder; this model has one stack")
    if target is not None and target < 1:
        raise UsageError(f"target is {target}; it must be at least 1")
    written = (sequence if target is None else target) if both else 0
    return count(architecture, parameters(architecture), sequence=sequence, causal=causal, target=written)


def count(
    architecture: Architecture, counted: ParameterCount, *, sequence: int, causal: bool, target: int
) -> FlopCount:
    """As `flops_per_token`, of an architecture whose parameters are counted already; `target` 0 is one stack."""
    if isinstance(architecture, Transformer):
        return _of_transformer(architecture, counted, sequence=sequence, causal=causal, target=target)
    if isinstance(architecture, Encoder | EncoderDecoder) or architecture.experts or architecture.window is not None:
        return count(architecture.transformer(), counted, sequence=sequence, causal=causal, target=target)
    a = architecture
    keys = (sequence + 1) / 2 if causal else sequence
    return FlopCount(
        parameters=counted,
        sequence=sequence,
        matmul_forward=2.0 * counted.matmul,
        attention_forward=4.0 * a.layers * a.heads * a.head_size * keys,  # 2 for q.k, 2 for weights times v
        head_forward=2.0 * a.vocabulary * a.width,
        selective_forward=2.0 * a.layers * (a.heads * a.head_size * a.width + a.width * a.hidden),
        causal=causal,
    )


def _of_transformer(a: Transformer, counted: ParameterCount, *, sequence: int, causal: bool, target: int) -> FlopCount:
    """Each block's work times the share of the tokens that pass its stack: all of them where there is one stack."""
    tokens = sequence + target
    read, written = (sequence / tokens, target / tokens) if target else (1, 1)
    reading = [(block, block.layers * read) for block in a.encoder]
    writing = [(block, block.layers * written) for block in a.decoder]
    head = written * 2.0 * outside_blocks(a).matmul
    if target or any(block.shared for block in a.blocks):
        matmul = sum(runs * 2.0 * of_block(block, width=a.width).matmul for block, runs in reading) + head
        matmul += sum(block.layers * _crossing(block, a.width, read=read, written=written) for block in a.decoder)
    else:
        matmul = 2.0 * counted.matmul
    return FlopCount(
        parameters=counted,
        sequence=sequence,
        matmul_forward=matmul,
        attention_forward=sum(runs * _scores(b, sequence, source=0, causal=False) for b, runs in reading)
        + sum(runs * _scores(b, target or sequence, source=sequence, causal=causal) for b, runs in writing),
        head_forward=head,
        selective_forward=sum(runs * 2.0 * _selective(block, a.width) for block, runs in reading + writing),
        causal=causal,
        target=target,
    )


def _selective(block: Block, width: int) -> float:
    """Weights of one block whose products selective recomputation does not keep."""
    out = sum(_values(attention) * width for attention in (block.attention, block.cross) if attention is not None)
    if isinstance(block.mlp, MLP):
        return out + _up(block.mlp, width)
    m = block.mlp
    return out + m.experts * width + m.active * _up(m.expert, width) + (_up(m.shared, width) if m.shared else 0)


def _values(attention: Attention | LatentAttention) -> int:
    """Channels that the output projection reads."""
    size = attention.value_size if isinstance(attention, LatentAttention) else attention.head_size
    return attention.heads * size


def _up(mlp: MLP, width: int) -> int:
    """The second product into the hidden channels, where there is a gate."""
    return width * mlp.hidden if mlp.gated else 0


def _crossing(block: Block, width: int, *, read: float, written: float) -> float:
    """Products of a decoder's block; keys and values of cross attention are of the encoder's tokens."""
    keys_values = 2 * width * block.cross.kv_heads * block.cross.head_size if block.cross else 0
    return written * 2.0 * (of_block(block, width=width).matmul - keys_values) + read * 2.0 * keys_values


def _scores(block: Block, length: int, *, source: int, causal: bool) -> float:
    """Of one query: all heads against the keys of its own sequence, and against the `source` where it crosses over."""
    own = channels(block.attention) * _keys(block.attention, length, causal=causal)
    return own + (channels(block.cross) * source if block.cross else 0)


def channels(attention: Attention | LatentAttention) -> float:
    """Operations of one query against one key, all heads: 2 a channel of q.k, 2 a channel of the value."""
    a = attention
    if isinstance(a, LatentAttention):
        return 2.0 * a.heads * (a.plain_size + a.rotary_size + a.value_size)
    return 4.0 * a.heads * a.head_size


def _keys(attention: Attention | LatentAttention, length: int, *, causal: bool) -> float:
    """Keys of one query, on average over the sequence."""
    if not causal:
        return length
    window = attention.window
    if window is None or window >= length:
        return (length + 1) / 2
    return (window * (window + 1) / 2 + (length - window) * window) / length
