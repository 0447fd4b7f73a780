"""The models, batches and optimizer settings that every contender of `benchmarks/train.py` trains alike.

Standard library alone: the peers' environment reads it too.
"""

from dataclasses import dataclass

LEARNING_RATE, BETA1, BETA2, EPSILON, WEIGHT_DECAY, CLIP_NORM = 1e-3, 0.9, 0.95, 1e-8, 0.1, 1.0
ROPE_THETA, NORM_EPSILON = 10_000.0, 1e-6


@dataclass(frozen=True, kw_only=True)
class Size:
    """One shape, tied embeddings, no biases, and its batch.

    Attributes:
        hidden: of the SwiGLU; the peer with a GELU MLP of four widths has as many parameters there, within a tenth.
        kv_heads: of peers that know grouped queries; the others have `heads`.
        threads: of `isoflop` at this size, as its recipe says; peers take what torch takes by itself.
    """

    layers: int
    width: int
    heads: int
    kv_heads: int
    hidden: int
    vocabulary: int
    context: int
    sequences: int
    threads: int

    @property
    def head_size(self) -> int:
        """Width of one head."""
        return self.width // self.heads

    @property
    def batch_tokens(self) -> int:
        """Tokens of one step."""
        return self.sequences * self.context


SIZES = {
    "6x384": Size(
        layers=6, width=384, heads=6, kv_heads=6, hidden=1024, vocabulary=8192, context=256, sequences=16,
        threads=2,
    ),
    "4x128": Size(
        layers=4, width=128, heads=4, kv_heads=4, hidden=344, vocabulary=1024, context=128, sequences=16,
        threads=1,
    ),
    "3x64": Size(
        layers=3, width=64, heads=2, kv_heads=1, hidden=192, vocabulary=1024, context=128, sequences=4,
        threads=1,
    ),
}  # fmt: skip
"""A small model, a ladder's middle rung, and recipes/tiny.toml."""
