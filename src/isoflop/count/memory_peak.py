"""Memory of one device for training or running any model on any layout, in closed form.

A step's need changes as it goes, so the peak is the largest of several moments:

    forward   the forward pass ends: autocast still holds its 16-bit copies, the loss two thirds of what it will
    loss      every activation is kept, and the logits with their gradients
    norm      the last norm's backward pass, where the vocabulary is small
    last      the backward pass of the last block: its activations once more where they are recomputed, the gradients in
              its MLP, its weights whole and the next block's on their way
    second    the same one block later, with the last block's gradients on their way out
    early     the same in the second block of all, first in the first one: little else is kept, but most gradients are
              there
    entry     the embedding's gradient is made
    root      gradients of embedding and head on their way out
    rollout   ppo writes the answers it learns from: states and the cache of keys and values
    update    states and all gradients

A pipeline's first stage keeps as many micro-batches as there are stages, its last one has the loss; the larger counts.
Under zero3 its weights stay whole through the step and its gradients are summed whole, as torch's schedules do it: to
gather and spread them for every micro-batch would cost more traffic than it saves.
What each part takes is told by the breakdown at the peak; the margin for the allocator is a line of its own
(`memory_margin`).

Not counted: the CUDA context (about 0.5 GB), NCCL's own buffers, data loading; the margin was measured with them.
"""

from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from isoflop.count import sequence
from isoflop.count.memory_columns import Columns, Number
from isoflop.count.memory_margin import margin
from isoflop.count.memory_model import End, Model
from isoflop.errors import UsageError
from isoflop.specs.architecture import Architecture
from isoflop.specs.layout import Layout, Training

PARTS = (
    "weights", "gradients", "optimizer", "other_models", "gathered", "activations", "loss_head", "buffers", "kv_cache",
)  # fmt: skip
_COLUMNS = (*PARTS, "unfilled")
Moment = dict[str, Number]


class Memory(Struct, frozen=True, kw_only=True):
    """Memory of one device at its peak, bytes.

    Attributes:
        moment: when that is: "forward", "loss", "norm", "last", "second", "early", "first", "entry", "root",
            "rollout", "update", or "inference".
        stage: the end of the pipeline that has it; "last" without a pipeline.
        parts: by what it is for, in the order of `PARTS`; those that a layout does not have are 0.
        unfilled_bytes: of the margin, holes that nothing at the peak fits into.
        margin_bytes: what the allocator reserves beyond the tensors.
        lo_bytes, hi_bytes: 95 % interval of the whole, from the measurements that the margin rests on.
    """

    moment: str
    stage: End
    parts: dict[str, float]
    unfilled_bytes: float
    margin_bytes: float
    lo_bytes: float
    hi_bytes: float

    @property
    def tensors_bytes(self) -> float:
        """All but the margin."""
        return sum(self.parts.values())

    @property
    def total_bytes(self) -> float:
        """The peak."""
        return self.tensors_bytes + self.margin_bytes

    def breakdown(self) -> dict[str, float]:
        """Bytes by what they are for; they add up to the peak."""
        return {**self.parts, "margin": self.margin_bytes}


def memory(
    architecture: Architecture, layout: Layout, training: Training | None = None, *, tables: Path | None = None
) -> Memory:
    """The peak of one device.

    Args:
        tables: a file of one's own rows; it may hold another margin.

    Raises:
        UsageError: the layout's sequence is longer than the model's table of positions.
    """
    sequence.check(architecture, layout.sequence)
    end, moment, parts = _peak(architecture, Columns.of(layout, training or Training()))
    beyond = margin(tables)
    unfilled = float(parts.pop("unfilled"))
    found = {name: float(part) for name, part in parts.items()}
    held = sum(found.values()) + unfilled
    return Memory(
        moment=str(moment),
        stage="first" if end == "first" else "last",
        parts=found,
        unfilled_bytes=unfilled,
        margin_bytes=unfilled + beyond.share * held,
        lo_bytes=(1 + beyond.lo) * held,
        hi_bytes=(1 + beyond.hi) * held,
    )


def memory_sweep(architecture: Architecture, **fields: Any) -> dict[str, Number]:
    """The peak over many layouts at once: 10,000 in some milliseconds.

    Args:
        fields: those of `Layout` and `Training`; each a value or an array, and arrays broadcast.

    Returns:
        bytes by part with "margin" and "total", each of the arrays' shape.

    Raises:
        UnknownNameError: no such field, or no such name in one.
        UsageError: a degree below 1, or fewer devices than the degrees multiply to.
    """
    _, _, parts = _peak(architecture, _columns(fields))
    unfilled, tensors = parts.pop("unfilled"), sum(parts.values(), start=np.zeros(()))
    reserved = unfilled + margin().share * (tensors + unfilled)
    return {**parts, "margin": reserved, "total": tensors + reserved}


def memory_totals(architecture: Architecture, **fields: Any) -> Number:
    """As the "total" of `memory_sweep`, several times as fast: what a search over layouts for training asks.

    Raises:
        UsageError: as there; or inference, which has one moment and needs no search.
    """
    columns = _columns(fields)
    if np.any(columns.pick("method", {"inference": 1})):
        raise UsageError("memory_totals: is of training; inference has `memory_sweep`")
    model = Model(architecture, columns)
    most, unfilled = np.zeros(()), np.zeros(())
    for end in _ends(columns):
        for parts in _Step(model, columns, end).moments().values():
            holes = parts.pop("unfilled")
            tensors = sum(parts.values(), start=np.zeros(()))
            unfilled = np.where(tensors > most, holes, unfilled)
            most = np.maximum(tensors, most)
    return most + unfilled + margin().share * (most + unfilled)


def _columns(fields: dict[str, Any]) -> Columns:
    """With what a layout and a training have by default."""
    open_ = {"adapter_rank": np.nan, "said": np.nan}
    defaults = {**open_, "precision": "bf16", "optimizer": "adamw", "loss_head": "eager"}
    degrees = dict.fromkeys(
        ("tensor", "pipeline", "virtual_stages", "context", "expert", "replicas", "accumulation"), 1
    )
    return Columns({**defaults, **degrees, "method": "pretrain", **fields})


def _ends(columns: Columns) -> tuple[End, ...]:
    """Ends of the pipeline that may need most: one device is both."""
    return ("first", "last") if np.any(columns.pipeline > 1) else ("last",)


def _peak(architecture: Architecture, columns: Columns) -> tuple[Any, Any, Moment]:
    """The end of the pipeline and the name of the largest moment, and its parts."""
    model, moments = Model(architecture, columns), {}
    for end in _ends(columns):
        moments.update({(end, name): parts for name, parts in _Step(model, columns, end).moments().items()})
    serving = _serving(model, columns)
    shape = np.broadcast_shapes(*(np.shape(part) for each in (*moments.values(), serving) for part in each.values()))
    table = np.empty((len(moments) + 1, len(_COLUMNS), *shape))
    for row, each in enumerate((*moments.values(), serving)):
        for column, name in enumerate(_COLUMNS):
            table[row, column] = each.get(name, 0.0)
    totals = table[:, : len(PARTS)].sum(axis=1)
    serves = columns.pick("method", {"inference": 1}) > 0
    totals[:-1] = np.where(serves, -1.0, totals[:-1])
    totals[-1] = np.where(serves, totals[-1], -1.0)
    best = totals.argmax(axis=0)
    places, names = (np.array(each) for each in zip(*moments, ("first", "inference"), strict=True))
    chosen = np.take_along_axis(table, best[None, None], axis=0)[0]
    return places[best], names[best], dict(zip(_COLUMNS, chosen, strict=True))


class _Step:
    """One training step at one end of the pipeline, moment by moment.

    Attributes:
        always: what is there all the time.
        complete: every gradient.
        before_root: all but what is outside the blocks, whose gradients FSDP spreads last.
        begun: those that are there before the backward pass: all of them where DDP's buckets or sums over micro-batches
            hold them.
        of_head: the head's gradient from the loss on. A tied one waits for the embedding's at the very end; another one
            goes into DDP's bucket at once.
    """

    def __init__(self, m: Model, c: Columns, end: End) -> None:
        self.m, self.c, self.s = m, c, m.stage(end)
        s = self.s
        self.head = np.where(c.pipeline > 1, 1.0 * (end == "last"), 1.0)
        self.kept = s.kept * (m.in_flight if end == "first" else 1.0)
        spread = (c.stage >= 3) & (c.shards > 1)
        self.sharded, self.whole = spread & (c.pipeline <= 1), spread & (c.pipeline > 1)
        self.grows = ((c.stage > 0) | (c.data <= 1)) & (c.accumulation <= 1) & (c.pipeline <= 1)
        self.keeps_all = c.pick("recompute", {"none": 1}) > 0
        self.complete = s.gradients + np.where(self.whole, s.whole_gradients, 0.0)
        self.begun = np.where(self.grows, 0.0, self.complete)
        self.before_root = self.complete - np.where(self.sharded & self.grows, s.root_gradients_kept, 0.0)
        of_head = self.grows | self.sharded | m.outside.tied
        self.of_head = np.where(of_head, s.head_gradient * self.head, 0.0)
        root = s.root_gathered + m.block_gathered
        unpacked = c.unpacked * m.block_gathered
        self.gathered = np.where(self.sharded, root, np.where(self.whole, s.gathered, unpacked))
        self.always: Moment = {
            "weights": s.weights,
            "optimizer": s.optimizer,
            "other_models": s.other_models,
            "buffers": m.parallel_buffers,
        }

    def moments(self) -> dict[str, Moment]:
        """All of them, each with the holes that nothing in it fills."""
        last = self.s.layers - 1
        found = {
            "forward": self.forward(),
            "loss": self.loss(),
            "norm": self.norm(),
            "last": self.block(np.zeros(())),
            "second": self.block(np.minimum(1.0, last)),
            "early": self.block(np.maximum(last - 1.0, 0.0)),
            "first": self.block(last),
            "entry": self.entry(),
            "root": self.root(),
            "rollout": {"kv_cache": self.c.pick("method", {"ppo": 1}) * self.m.cache, "activations": self.m.prefill},
            "update": {"gradients": self.complete, "buffers": np.zeros(())},
        }
        holes = self.m.narrow_logits * self.head + self.complete
        return {
            name: self.always | parts | {"unfilled": np.maximum(holes - parts.get("gradients", 0.0), 0.0)}
            for name, parts in found.items()
        }

    def forward(self) -> Moment:
        """Autocast lets go of its copies only after the eager loss: logits and log-softmax, 8 of their 12 bytes."""
        m, s, eager = self.m, self.s, self.c.pick("loss_head", {"eager": 1})
        copies = np.where(self.keeps_all, s.casts, s.cached) + m.cast_head * self.head
        return self.loss() | {
            "gathered": self.gathered + eager * copies,
            "loss_head": eager * m.loss_head * self.head * (2.0 / 3.0),
        }

    def loss(self) -> Moment:
        """Every activation is kept, and the logits with their gradients."""
        m, s = self.m, self.s
        cached = self.c.pick("loss_head", {"chunked": 1}) * s.cached
        return {
            "gradients": self.begun,
            "gathered": self.gathered + np.where(self.keeps_all, s.casts, cached) + m.cast_head * self.head,
            "activations": self.kept + m.final_norm * self.head,
            "loss_head": m.loss_head * self.head,
        }

    def norm(self) -> Moment:
        """The last norm's backward pass."""
        return {
            "gradients": self.begun + self.of_head,
            "gathered": self.gathered + np.where(self.keeps_all, self.s.casts, 0.0),
            "activations": self.kept + (self.m.final_norm + 2 * self.m.stream) * self.head,
        }

    def block(self, done: Number) -> Moment:
        """The backward pass of a block when so many are done; FSDP fetches the next one and sends the one before."""
        m, s = self.m, self.s
        incoming = np.where(self.sharded & (done < s.layers - 1), m.block_gathered, 0.0)
        outgoing = np.where(self.sharded & (done > 0), m.block_reduced, 0.0)
        # The MLP's gradient; DDP moves it into its bucket at once.
        own = np.where(self.grows | self.sharded, m.product_gradient, 0.0)
        copies = np.where(self.keeps_all, s.casts * (1 - done / s.layers), m.cast_block)
        return {
            "gradients": self.begun + self.of_head + own + np.where(self.grows, s.gradients_of_block * done, 0.0),
            "gathered": self.gathered + copies,
            "activations": self.kept - done * s.one_kept + m.block_working,
            "buffers": m.parallel_buffers + incoming + outgoing,
        }

    def entry(self) -> Moment:
        """The embedding's gradient, whole; of a tied one the head's beside it, and their sum."""
        m, s = self.m, self.s
        one = s.head_gradient * self.head
        beside = np.where(m.outside.tied, 2.0 * one, np.where(self.grows, 0.0, one))
        return {
            "gradients": self.before_root + np.where(self.sharded, (2.0 + m.outside.tied) * one, beside),
            "gathered": np.where(self.sharded, s.root_gathered, np.where(self.whole, s.gathered, 0.0)),
            "activations": self.kept - s.kept + m.stream,
            "buffers": m.parallel_buffers + np.where(self.sharded, m.block_reduced, 0.0),
        }

    def root(self) -> Moment:
        """Gradients of embedding and head leave; FSDP has let go of their weights before."""
        m, s = self.m, self.s
        return {
            "gradients": self.before_root + np.where(self.sharded, s.root_gradients, 0.0),
            "gathered": np.where(self.whole, s.gathered, 0.0),
            "activations": self.kept - s.kept,
            "buffers": m.parallel_buffers + np.where(self.sharded, s.root_reduced, 0.0),
        }


def _serving(m: Model, c: Columns) -> Moment:
    """Weights as they are read, the cache, and one micro-batch on its way through a block."""
    s = m.stage("first")
    sharded = (c.stage >= 3) & (c.shards > 1)
    return {
        "weights": s.read_weights, "kv_cache": m.cache, "activations": m.prefill, "loss_head": m.next_logits,
        "gathered": np.where(sharded, s.root_gathered + m.block_gathered, c.unpacked * m.block_gathered),
        "buffers": m.parallel_buffers,
    }  # fmt: skip
