"""The encoder-decoder that we train: T5's layout."""

from msgspec import Struct

from isoflop.errors import UsageError
from isoflop.specs.transformer import MLP, Attention, Block, Transformer


class EncoderDecoder(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="family", tag="encoder-decoder"
):
    """A T5: RMSNorm before each part, learned biases of relative positions in place of positions, nothing else biased.

    As it stands it is T5 1.1; `gated = false` with `tied = true` is the first T5. Queries are not divided by
    sqrt(head_size): their first weights are. There is no dropout, as in T5 1.1's pre-training.

    Attributes:
        layers: blocks of the encoder.
        decoder_layers: blocks of the decoder; None has as many.
        width: residual stream, d_model.
        heads: query, key and value heads.
        head_size: width of one head, d_kv; heads * head_size need not be the width.
        hidden: inner width of the MLP, d_ff.
        vocabulary: rows of the embedding, which both stacks share.
        context: longest input, tokens.
        tied: the output head is the embedding, and hidden states are multiplied by width**-0.5 before it.
        gated: the MLP is GELU with a gate (three matrices); otherwise ReLU (two).
        buckets: distances that relative positions tell apart, of each stack.
        max_distance: distance from which on all share a bucket.
        norm_epsilon: RMSNorm's epsilon.

    Source: Raffel et al. 2020 (arXiv:1910.10683), sec. 2.1; T5 1.1: Shazeer 2020 (arXiv:2002.05202).
    """

    layers: int
    width: int
    heads: int
    head_size: int
    hidden: int
    vocabulary: int
    context: int
    decoder_layers: int | None = None
    tied: bool = False
    gated: bool = True
    buckets: int = 32
    max_distance: int = 128
    norm_epsilon: float = 1e-6

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads", "head_size", "hidden", "vocabulary", "context"):
            if getattr(self, name) < 1:
                raise UsageError(f"architecture: {name} is {getattr(self, name)}; it must be at least 1")
        if self.decoder_layers is not None and self.decoder_layers < 1:
            raise UsageError(f"architecture: decoder_layers is {self.decoder_layers}; it must be at least 1")
        if self.buckets < 4 or self.buckets % 4:
            raise UsageError(
                f"architecture: buckets is {self.buckets}; it must be a multiple of 4, as half of those of each "
                "direction are for single distances"
            )
        if self.max_distance <= self.buckets // 2:
            raise UsageError(
                f"architecture: max_distance is {self.max_distance}; it must be more than half of the buckets, "
                f"{self.buckets // 2}, which are for single distances"
            )
        if not 0 < self.norm_epsilon < float("inf"):
            raise UsageError(f"architecture: norm_epsilon is {self.norm_epsilon}; it must be positive and finite")

    @property
    def writing_layers(self) -> int:
        """Blocks of the decoder."""
        return self.layers if self.decoder_layers is None else self.decoder_layers

    def transformer(self) -> Transformer:
        """The same model, composed of its parts."""
        return Transformer(
            width=self.width,
            vocabulary=self.vocabulary,
            context=self.context,
            encoder=self._stack(self.layers, crossing=False),
            decoder=self._stack(self.writing_layers, crossing=True),
            tied=self.tied,
        )

    def _stack(self, layers: int, *, crossing: bool) -> tuple[Block, ...]:
        """The first block has the biases of relative positions, which are all blocks'."""
        plain = Attention(heads=self.heads, kv_heads=self.heads, head_size=self.head_size)
        placed = Attention(
            heads=self.heads, kv_heads=self.heads, head_size=self.head_size, relative_positions=self.buckets
        )
        return tuple(
            Block(
                layers=count,
                attention=attention,
                cross=plain if crossing else None,
                mlp=MLP(hidden=self.hidden, gated=self.gated),
                norms=3 if crossing else 2,
            )
            for count, attention in ((1, placed), (layers - 1, plain))
            if count
        )
