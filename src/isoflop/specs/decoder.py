"""The decoder that we train: what a Llama, a Mistral, a Mixtral and a Qwen 3 have in common."""

from msgspec import Struct

from isoflop.errors import UsageError
from isoflop.specs.rotary import RopeScaling
from isoflop.specs.transformer import MLP, Attention, Block, Experts, Transformer


class Routing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Experts in place of a decoder's MLPs; each has the decoder's `hidden` width.

    Attributes:
        count: experts of a block.
        active: how many of them a token goes through.
        shared: hidden width of an MLP every token takes besides, 0 for none; several are one of their summed width.
        balance_loss: weight of the load-balance loss, which is 1 a block where all experts are used alike.
        router_z_loss: weight of the mean squared log-partition of the router.
    """

    count: int
    active: int
    shared: int = 0
    balance_loss: float = 0.01
    router_z_loss: float = 0.001

    def __post_init__(self) -> None:
        if not 1 <= self.active <= self.count:
            raise UsageError(f"architecture: {self.active} active of {self.count} experts")
        if self.shared < 0:
            raise UsageError(f"architecture: experts.shared is {self.shared}; it must be 0 or more")
        for name in ("balance_loss", "router_z_loss"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"architecture: experts.{name} is {getattr(self, name)}; it must be 0 or more, finite")


class Decoder(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="family", tag="decoder"):
    """A Llama-like decoder: RMSNorm, rotary positions, SwiGLU, grouped-query attention, no biases.

    Attributes:
        layers: blocks.
        width: residual stream, d_model.
        heads: query heads.
        kv_heads: key and value heads; `heads` without grouping, 1 for multi-query.
        head_size: width of one head.
        hidden: inner width of the SwiGLU MLP (three matrices width x hidden).
        vocabulary: rows of the embedding.
        context: longest sequence, tokens.
        tied: the output head is the embedding.
        qk_norm: RMSNorm on queries and keys, per head.
        rope_theta: base of the rotary frequencies.
        norm_epsilon: RMSNorm's epsilon.
        experts: a mixture of experts in every block; None has one MLP.
        window: most keys a query sees, itself included; None sees the whole sequence.
        full_every: with a window, the last of every so many blocks sees the whole sequence (Gemma 3: 6); None leaves
            the window on all (Mistral).
        rope_scaling: how the rotary frequencies were stretched for a longer context; None leaves them.
    """

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    hidden: int
    vocabulary: int
    context: int
    tied: bool = True
    qk_norm: bool = True
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-6
    experts: Routing | None = None
    window: int | None = None
    full_every: int | None = None
    rope_scaling: RopeScaling | None = None

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads", "kv_heads", "head_size", "hidden", "vocabulary", "context"):
            if getattr(self, name) < 1:
                raise UsageError(f"architecture: {name} is {getattr(self, name)}; it must be at least 1")
        for name in ("rope_theta", "norm_epsilon"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UsageError(f"architecture: {name} is {getattr(self, name)}; it must be positive and finite")
        if self.heads % self.kv_heads:
            raise UsageError(f"architecture: {self.heads} heads do not divide into {self.kv_heads} kv_heads")
        if self.head_size % 2:
            raise UsageError(f"architecture: head_size {self.head_size} is odd; rotary positions need pairs")
        for name in ("window", "full_every"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UsageError(f"architecture: {name} is {value}; it must be at least 1")
        if self.full_every is not None and self.window is None:
            raise UsageError("architecture: full_every is set, but there is no window; every block sees everything")
        if self.rope_scaling is not None:
            self.rope_scaling.check(context=self.context, head_size=self.head_size)

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each block."""
        period = self.full_every or self.layers + 1
        return tuple(None if layer % period == 0 else self.window for layer in range(1, self.layers + 1))

    def transformer(self) -> Transformer:
        """The same model, composed of its parts."""
        full = 0 if self.full_every is None else self.layers // self.full_every
        parts = ((None, self.layers),) if self.window is None else ((self.window, self.layers - full), (None, full))
        return Transformer(
            width=self.width,
            vocabulary=self.vocabulary,
            context=self.context,
            decoder=tuple(self._blocks(layers, window) for window, layers in parts if layers),
            tied=self.tied,
        )

    def _blocks(self, layers: int, window: int | None) -> Block:
        attention = Attention(
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_size=self.head_size,
            qk_norm="head" if self.qk_norm else None,
            window=window,
        )
        return Block(layers=layers, attention=attention, mlp=self._mlp())

    def _mlp(self) -> MLP | Experts:
        mlp, routing = MLP(hidden=self.hidden), self.experts
        if routing is None:
            return mlp
        shared = MLP(hidden=routing.shared) if routing.shared else None
        return Experts(experts=routing.count, active=routing.active, expert=mlp, shared=shared)
