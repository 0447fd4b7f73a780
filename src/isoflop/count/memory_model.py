"""A model's parts in bytes, per device, for layouts in columns: what the moments of `memory` are put together from.

Letters: T tokens of a device's micro-batch, D width, V vocabulary. Tensor parallelism shares matrices and heads, and
between the products the sequence; norms are whole on every device of the group.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from msgspec import Struct

from isoflop.count.memory_activations import Kept, interleaved
from isoflop.count.memory_cache import cache_elements
from isoflop.count.memory_columns import Columns, Number
from isoflop.count.memory_head import head_bytes, narrow_logits
from isoflop.count.memory_kinds import Kind, kinds, transformer
from isoflop.count.memory_tuning import CRITICS, FROZEN_MODELS
from isoflop.count.parameters import outside_blocks
from isoflop.specs.architecture import Architecture

End: TypeAlias = Literal["first", "last"]

_REDUCED_BYTES = 4.0  # gradients are summed in fp32


class Stage(Struct, frozen=True, kw_only=True):
    """One pipeline stage's bytes a device.

    Attributes:
        layers: blocks, on average over the stages.
        gradients: of all of it, sharded where gradients are.
        gradients_of_block: what one finished block adds to them.
        other_models: reference, critic and reward model.
        head_gradient: of the head's matrix, whole.
        root_gradients: of everything outside the blocks, before it is sharded.
        root_gradients_kept: their share of `gradients`.
        root_gathered: embedding, head and last norm, whole.
        root_reduced: the buffer their gradients leave through.
        kept: activations of one micro-batch.
        one_kept: of one block.
        whole_gradients: of all of it, not sharded, as sums over micro-batches keep them.
        gathered: its weights, whole.
        read_weights: its weights where nothing is trained.
        casts: 16-bit copies of its blocks' matrices under autocast, where the backward pass finds them again.
        cached: those that autocast holds to the end of the forward pass anyway; of a halved matrix it holds none.
    """

    layers: Number
    weights: Number
    gradients: Number
    optimizer: Number
    gradients_of_block: Number
    other_models: Number
    head_gradient: Number
    root_gradients: Number
    root_gradients_kept: Number
    root_gathered: Number
    root_reduced: Number
    kept: Number
    one_kept: Number
    whole_gradients: Number
    gathered: Number
    read_weights: Number
    casts: Number
    cached: Number


class Model:
    """The bytes of one architecture on many layouts."""

    def __init__(self, architecture: Architecture, columns: Columns) -> None:
        self.architecture, self.c = architecture, columns
        self.parts = transformer(architecture)
        self.kinds = kinds(architecture)
        self.outside = outside_blocks(self.parts)
        self.width = self.parts.width

    # Activations

    def bytes_of(self, kept: Kept) -> Number:
        """Of T tokens."""
        c = self.c
        each = c.residual * kept.residual + c.compute * (kept.stream + kept.inner)
        return c.tokens * (each + 4.0 * (kept.inner_fp32 + kept.stream_fp32)) / c.tensor

    @cached_property
    def stream(self) -> Number:
        """The residual stream."""
        return self.c.residual * self.c.tokens * self.width / self.c.tensor

    def passing(self, kind: Kind) -> Number:
        """Tokens that pass a block, as a share of T; keys and values of what was read are counted as if written."""
        return self.c.said if kind.writes else 1.0

    def whole(self, kind: Kind) -> Number:
        """What one block keeps where nothing is computed again."""
        return self.passing(kind) * self.bytes_of(kind.activations.whole)

    def kept(self, kind: Kind) -> Number:
        """What one block keeps for its backward pass."""
        c = self.c
        none, selective = (c.pick("recompute", {name: 1}) for name in ("none", "selective"))
        again = self.stream + selective * self.bytes_of(kind.activations.products)
        return np.where(none > 0, self.whole(kind), self.passing(kind) * again)

    @cached_property
    def block_working(self) -> Number:
        """What the backward pass of a block needs beside what was kept, at its widest: in the MLP.

        The rest of its activations where they are recomputed, the stream's gradient, and gradients of the hidden
        channels: of gate, nonlinearity and product, in whose place the product itself is gone by then.
        """
        c, widest = self.c, np.zeros(())
        again = 1.0 - c.pick("recompute", {"none": 1})
        for kind in self.kinds:
            stream = self.passing(kind) * self.stream
            rest = again * (self.whole(kind) - self.kept(kind) + stream)
            hidden = Kept(inner=(2.0 if kind.gated else 1.0) * kind.activations.hidden)
            widest = np.maximum(widest, rest + stream + self.passing(kind) * self.bytes_of(hidden))
        return widest

    @cached_property
    def final_norm(self) -> Number:
        """Before the head; the chunked head has its output in hand as the residual stream is."""
        if self.parts.final_norm is None:
            return np.zeros(())
        chunked = self.c.pick("loss_head", {"eager": 0}, 1) > 0
        share: Number = self.c.said if any(kind.writes for kind in self.kinds) else 1.0
        wide, narrow = (Kept(residual=self.width * n, stream=self.width * (2 - n), stream_fp32=1) for n in (2, 1))
        return share * np.where(chunked, self.bytes_of(wide), self.bytes_of(narrow))

    @cached_property
    def loss_head(self) -> Number:
        """Logits and their gradients; nothing without a head."""
        return head_bytes(self.c, vocabulary=self.parts.vocabulary, width=self.width) * float(self.parts.head)

    @cached_property
    def narrow_logits(self) -> Number:
        """The 16-bit logits that the loss is computed from."""
        return narrow_logits(self.c, vocabulary=self.parts.vocabulary) * float(self.parts.head)

    @cached_property
    def in_flight(self) -> Number:
        """Micro-batches whose activations the first stage keeps."""
        c = self.c
        most = c.pipeline * interleaved(pipeline=c.pipeline, virtual_stages=c.virtual_stages)
        return np.where(c.accumulation > 1, np.minimum(most, c.accumulation), most)

    # Parameters

    def _largest(self, size: Callable[[Kind], Number | float]) -> Number:
        """Of any kind of block."""
        largest: Number = np.zeros(())
        for kind in self.kinds:
            largest = np.maximum(largest, size(kind))
        return largest

    def _summed(self, size: Callable[[Kind], Number | float]) -> Number:
        """Over a stage's blocks."""
        total: Number = np.zeros(())
        for kind in self.kinds:
            total = total + kind.layers * size(kind)
        return total / self.c.pipeline

    def _matrices(self, kind: Kind) -> Number:
        """Of a block, on one device: what tensor and expert parallelism leave of its matrices."""
        c = self.c
        return (kind.shared - kind.experts + kind.experts / c.expert) / c.tensor

    def _computed(self, kind: Kind) -> Number:
        """With the norms: the block as products read it."""
        return self._matrices(kind) + kind.whole

    def _owned(self, kind: Kind) -> Number:
        """What states are sharded of. All shards share the experts, though products read 1 / expert of them."""
        return np.where(self.c.stage >= 3, kind.shared / self.c.tensor + kind.whole, self._computed(kind))

    def _adapter(self, kind: Kind) -> Number:
        """Adapters of a block on one device."""
        return self.c.adapter * kind.adapter_sides / self.c.tensor

    def _trained(self, kind: Kind) -> Number:
        """Parameters of a block that have gradients, as they are computed."""
        return np.where(self.c.adapter > 0, self._adapter(kind), self._computed(kind))

    @cached_property
    def block_gathered(self) -> Number:
        """A block's weights, whole."""
        return self.c.compute * self._largest(lambda kind: self._computed(kind) + self._adapter(kind))

    @cached_property
    def block_reduced(self) -> Number:
        """The buffer through which a block's gradients leave."""
        return _REDUCED_BYTES * self._largest(self._trained)

    @cached_property
    def product_gradient(self) -> Number:
        """Of the MLP's last matrix, whole."""
        c = self.c
        whole = c.compute * self._largest(lambda kind: kind.down / (c.tensor * (c.expert if kind.experts else 1.0)))
        return np.where(c.adapter > 0, 0.0, whole)

    @cached_property
    def cast_block(self) -> Number:
        """16-bit copies of a block's matrices under autocast."""
        return 2.0 * self.c.autocast * self._largest(self._matrices)

    @cached_property
    def cast_head(self) -> Number:
        """16-bit copy of the head under autocast."""
        return 2.0 * self.c.autocast * self.head_params

    @property
    def head_params(self) -> Number:
        """The matrix of the loss head, its own or the embedding's."""
        return self.parts.vocabulary * self.width / self.c.tensor * float(self.parts.head)

    @cached_property
    def parallel_buffers(self) -> Number:
        """What travels between tensor, context, expert and pipeline ranks: forward and gradient, of one block."""
        c = self.c
        whole = 2.0 * c.compute * c.tokens * self.width
        keys = self._largest(lambda kind: kind.activations.keys) * 2.0 * c.compute * c.tokens * c.context / c.tensor
        chosen = self._largest(lambda kind: float(kind.chosen))
        return (
            np.where(c.tensor > 1, whole, 0.0)
            + np.where(c.context > 1, keys, 0.0)
            + np.where(c.expert > 1, chosen * whole / c.tensor, 0.0)
            + np.where(c.pipeline > 1, 2.0 * self.stream, 0.0)
        )

    def _root(self, end: End) -> Number:
        """Embedding and positions at the first end, head and last norm at the last; a tied head is there again."""
        only, out = self.c.pipeline <= 1, self.outside
        entry = np.where(only | (end == "first"), out.embedding + out.position, 0.0)
        copied = np.where(only, 0.0, out.embedding * out.tied)
        return (entry + np.where(only | (end == "last"), out.head + out.norm + out.projection + copied, 0.0)) / (
            self.c.tensor
        )

    def stage(self, end: End) -> Stage:
        """One end of the pipeline; no stage between has more than the first."""
        c, root = self.c, self._root(end)
        by_weights, by_gradients, by_optimizer = (np.where(c.stage >= least, c.shards, 1.0) for least in (3, 2, 1))
        frozen = c.adapter > 0
        blocks, adapters = self._summed(self._owned), self._summed(self._adapter)
        learning, learning_root = np.where(frozen, adapters, blocks), np.where(frozen, 0.0, root)
        weight, gradient = c.per_parameter("weight"), c.per_parameter("gradient")
        weights = np.where(frozen, c.frozen * (blocks + root), weight * root) + weight * learning
        weights = np.where(frozen, weights, weight * (blocks + root)) / by_weights
        norms = np.where(frozen, 0.0, self._summed(lambda kind: kind.whole))
        matrices, rest = learning - norms, learning_root + norms
        optimizer = c.per_parameter("optimizer") * matrices + c.per_parameter("optimizer_rest") * rest
        optimizer = optimizer / by_optimizer
        free = frozen & (c.pick("method", {"dpo": 1}) > 0)  # without its adapters the model is its own reference
        halved = c.pick("recompute", {"selective": 1})
        read = c.frozen * (blocks + root) / by_weights
        return Stage(
            layers=sum(kind.layers for kind in self.kinds) / c.pipeline,
            weights=weights,
            gradients=gradient * (learning + learning_root) / by_gradients,
            optimizer=optimizer,
            other_models=np.where(free, 0.0, c.pick("method", FROZEN_MODELS)) * read
            + c.pick("method", CRITICS) * (weights + optimizer),
            gradients_of_block=gradient * self._largest(self._trained) / by_gradients,
            head_gradient=np.where(frozen, 0.0, c.gradient_width * self.head_params),
            root_gradients=np.where(frozen, 0.0, c.compute * root),
            root_gradients_kept=gradient * learning_root / by_gradients,
            root_gathered=c.compute * root,
            root_reduced=_REDUCED_BYTES * learning_root,
            kept=self._summed(self.kept),
            one_kept=self._largest(self.kept),
            whole_gradients=_REDUCED_BYTES * (self._summed(self._trained) + learning_root),
            gathered=c.compute * (self._summed(self._computed) + root),
            read_weights=read,
            casts=2.0 * c.autocast * self._summed(self._matrices),
            cached=2.0
            * c.autocast
            * self._summed(lambda kind: self._matrices(kind) - halved * kind.gate_up / c.tensor),
        )

    @cached_property
    def prefill(self) -> Number:
        """A micro-batch on its way through the blocks at its widest, in the MLP; none of it is kept."""
        hidden = self._largest(
            lambda kind: self.bytes_of(Kept(inner=(3.0 if kind.gated else 2.0) * kind.activations.hidden))
        )
        return hidden + 2.0 * self.stream

    @cached_property
    def next_logits(self) -> Number:
        """fp32 logits of each sequence's last token."""
        return 4.0 * self.c.micro_batch * self.parts.vocabulary / self.c.tensor * float(self.parts.head)

    @cached_property
    def cache(self) -> Number:
        """Keys and values of a micro-batch."""
        c = self.c
        elements = cache_elements(self.parts, sequence=c.sequence, tensor=c.tensor)
        return c.cache_width * c.micro_batch * elements / (c.pipeline * c.context)
