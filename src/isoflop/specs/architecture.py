"""What a model is built of. `model` builds it, `count` counts it, from the same value."""

from typing import Literal, TypeAlias

from msgspec import Struct

from isoflop.specs.decoder import Decoder, Routing
from isoflop.specs.encoder import Encoder
from isoflop.specs.encoder_decoder import EncoderDecoder
from isoflop.specs.transformer import MLP, Attention, Transformer

__all__ = [
    "ADDED", "Architecture", "Counts", "Decoder", "Encoder", "EncoderDecoder", "Model", "ParameterCount", "Routing",
    "as_decoder",
]  # fmt: skip

Model: TypeAlias = Decoder | Encoder | EncoderDecoder
"""What we train; a table of a file names it by its `family`, a decoder where it names none."""

Architecture: TypeAlias = Model | Transformer
"""A model that we train, or any other, to be counted."""

ADDED: dict[str, object] = {"experts": None, "window": None, "full_every": None, "rope_scaling": None}
"""Fields younger than runs that exist: at these values a run keeps the key that it had without them."""


def as_decoder(architecture: Architecture) -> Decoder | None:
    """The same model as a dense decoder without windows, or None where it is none: a Llama's config.json reads as a
    `Transformer`.
    """
    if isinstance(architecture, Decoder):
        return None if architecture.experts or architecture.window is not None else architecture
    if not isinstance(architecture, Transformer):
        return None
    block = architecture.decoder[0] if architecture.decoder else None
    if block is None or not isinstance(block.attention, Attention) or not isinstance(block.mlp, MLP):
        return None
    a = block.attention
    if a.head_size % 2:
        return None
    found = Decoder(
        layers=block.layers,
        width=architecture.width,
        heads=a.heads,
        kv_heads=a.kv_heads,
        head_size=a.head_size,
        hidden=block.mlp.hidden,
        vocabulary=architecture.vocabulary,
        context=architecture.context or 1,
        tied=architecture.tied,
        qk_norm=a.qk_norm is not None,
    )
    return found if found.transformer() == architecture else None


Counts: TypeAlias = Literal["total", "non_embedding", "matmul", "active", "unknown"]
"""Which parameters a law's N counts.

total: everything, tied weights once. non_embedding: without the embedding, positions and the head (Kaplan 2020).
matmul: every weight that multiplies an activation, so blocks and head, tied or not, and of experts the chosen ones;
6 N D is then the matmul work.
active: what one token touches: everything but the experts not chosen. unknown: the source does not say.
"""


class ParameterCount(Struct, frozen=True, kw_only=True):
    """Parameters of one model by kind.

    Attributes:
        embedding: the table of the vocabulary.
        attention: projections with their biases, sinks.
        mlp: MLPs and experts with their biases.
        norm: every normalisation but the head's own, QK-norm among them.
        head: 0 when tied and without a bias or a transform of its own.
        router: routers of experts, gates of shared ones.
        position: learned positions, token types, relative position biases.
        projection: between a narrower embedding and the residual stream.
        idle: how many of mlp sit in experts that a token does not choose.
        vector: how many of the rest of attention, mlp, router, projection and head multiply nothing: biases, sinks, the
            head's norm.
        tied: the embedding is the head too.
    """

    embedding: int
    attention: int
    mlp: int
    norm: int
    head: int
    router: int = 0
    position: int = 0
    projection: int = 0
    idle: int = 0
    vector: int = 0
    tied: bool = False

    @property
    def total(self) -> int:
        """Every parameter once."""
        return self.embedding + self.position + self.projection + self.non_embedding + self.head

    @property
    def non_embedding(self) -> int:
        """Without the embedding, positions and the head."""
        return self.attention + self.mlp + self.norm + self.router

    @property
    def active(self) -> int:
        """What one token touches: everything but the experts not chosen."""
        return self.total - self.idle

    @property
    def matmul(self) -> int:
        """Weights that multiply an activation: blocks and head, a tied head counted as the head it is."""
        head = self.head + (self.embedding if self.tied else 0)
        return self.attention + self.mlp - self.idle + self.router + self.projection + head - self.vector

    def by(self, counts: Counts) -> int:
        """The N that this convention means."""
        match counts:
            case "non_embedding":
                return self.non_embedding
            case "matmul":
                return self.matmul
            case "active":
                return self.active
            case _:
                return self.total
