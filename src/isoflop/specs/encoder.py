"""The encoder that we train: BERT's and RoBERTa's layout."""

from typing import ClassVar

from msgspec import Struct

from isoflop.errors import UsageError
from isoflop.specs.transformer import MLP, Attention, Block, Transformer


class Encoder(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="family", tag="encoder"):
    """A BERT: learned positions, LayerNorm after attention and MLP, GELU, biases, a head that says masked tokens.

    There is no dropout: in pre-training that sees its text once or twice it only slows learning (Geiping & Goldstein
    2022, arXiv:2212.14034, sec. 4.3).

    Attributes:
        layers: blocks.
        width: residual stream, d_model.
        heads: query, key and value heads.
        head_size: width of one head.
        hidden: inner width of the MLP (two matrices width x hidden).
        vocabulary: rows of the embedding, which is the head too.
        context: rows of the table of positions; RoBERTa's table has two more, which no token reaches.
        segments: token types (BERT 2, RoBERTa 1); 0 has no table of them.
        norm_epsilon: LayerNorm's epsilon (RoBERTa 1e-5).

    Source: Devlin et al. 2019 (arXiv:1810.04805); Liu et al. 2019 (arXiv:1907.11692).
    """

    layers: int
    width: int
    heads: int
    head_size: int
    hidden: int
    vocabulary: int
    context: int
    segments: int = 0
    norm_epsilon: float = 1e-12
    tied: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads", "head_size", "hidden", "vocabulary", "context"):
            if getattr(self, name) < 1:
                raise UsageError(f"architecture: {name} is {getattr(self, name)}; it must be at least 1")
        if self.segments < 0:
            raise UsageError(f"architecture: segments is {self.segments}; it must be 0 or more")
        if not 0 < self.norm_epsilon < float("inf"):
            raise UsageError(f"architecture: norm_epsilon is {self.norm_epsilon}; it must be positive and finite")

    def transformer(self) -> Transformer:
        """The same model, composed of its parts."""
        attention = Attention(
            heads=self.heads, kv_heads=self.heads, head_size=self.head_size, qkv_bias=True, out_bias=True
        )
        mlp = MLP(hidden=self.hidden, gated=False, bias=True)
        return Transformer(
            width=self.width,
            vocabulary=self.vocabulary,
            context=self.context,
            encoder=(Block(layers=self.layers, attention=attention, mlp=mlp, norm="layer"),),
            positions=self.context,
            segments=self.segments,
            embedding_norm="layer",
            final_norm=None,
            head_bias=True,
            head_transform=True,
        )
