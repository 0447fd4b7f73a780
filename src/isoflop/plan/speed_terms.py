"""Where the time of a training step goes, term by term, each at the device's rated speed.

    products   matrix products and what is computed again, over the dense peak
    attention  scores and their weighted sum over the keys a token may see, over the dense peak
    pointwise  everything between the products: what the blocks keep is written and read again, over memory bandwidth
    head       the loss over the vocabulary, over memory bandwidth
    optimizer  weights, gradients and moments once a step, over memory bandwidth
    data, tensor, context, expert, pipeline
               the bytes of `count.traffic` over the links each group of devices has
    blocks     blocks run, forward and backward: each costs some launches of kernels and, the more devices, the more
               waiting for the slowest; a block on n devices counts 1 + log2 n times
    bubble     a pipeline's idle share: (stages - 1) / (micro-batches x virtual stages)

`speed` weighs them with what was measured. Layouts come in columns; 10,000 take some milliseconds.
"""

from typing import Any

import numpy as np
from msgspec import Struct

from isoflop.count.flops import flops_per_token
from isoflop.count.memory_columns import Columns, Number
from isoflop.count.memory_model import Model
from isoflop.count.parameters import parameters
from isoflop.count.traffic import of_columns
from isoflop.errors import UsageError
from isoflop.specs.architecture import Architecture
from isoflop.specs.cluster import Device

# Written in the forward pass, read in the backward pass, and as much again for their gradients.
_POINTWISE_PASSES = 4.0
# Logits in 16 bit and fp32, log-softmax, gradients in fp32 and 16 bit: each written once and read once.
_HEAD_BYTES = 32.0
# Where products are in 8 bit, attention is not.
_SCORES = {"fp8": "bf16"}
UNKNOWN_NETWORK = 12.5e9  # bytes/s a device where its row does not say: one 100 Gbit/s card
# AdamW reads gradient, weight and two moments, and writes the last three, in fp32.
_OPTIMIZER_BYTES = 28.0


class Terms(Struct, frozen=True, kw_only=True):
    """Seconds of one optimizer step on one device at rated speed, but for the last three.

    Attributes:
        flop: model FLOP of one device in a step, attention as the full square: what MFU counts.
        tokens: of one device in a step, as its share of all tokens; of an encoder-decoder those that it reads.
        blocks: a number of blocks.
        bubble: a share of the time.
        peak: dense FLOP/s of one device.
    """

    products: Any
    attention: Any
    pointwise: Any
    head: Any
    optimizer: Any
    data: Any
    tensor: Any
    context: Any
    expert: Any
    pipeline: Any
    blocks: Any
    bubble: Any
    peak: float
    flop: Any
    tokens: Any


def peak(device: Device, precision: str) -> float:
    """Dense FLOP/s of one device as torch sees it.

    Raises:
        UsageError: the device's row has no peak for the precision.
    """
    if precision not in device.dense_flop_per_s:
        raise UsageError(
            f"device {device.name}: its row has no {precision} peak, only {', '.join(device.dense_flop_per_s)}"
        )
    return device.dense_flop_per_s[precision] / device.dies


def terms(
    device: Device, architecture: Architecture, c: Columns, *, precision: str, sequence: int, said: float | None = None
) -> Terms:
    """The terms of every layout in the columns, all of one precision and sequence.

    Args:
        said: tokens of a sequence that the loss is of, as in `Training`; the columns' own.
    """
    model, rate = Model(architecture, c), peak(device, precision)
    written = bool(model.parts.encoder and model.parts.decoder) and round(said or sequence)
    share = 1.0 if said is None else said / sequence
    work = flops_per_token(architecture, sequence=sequence, target=written or None)
    seen = flops_per_token(architecture, sequence=sequence, causal=True, target=written or None).attention_forward
    again = {name: work.with_recompute(name) - work.total for name in ("none", "selective", "full")}
    full = c.pick("recompute", {"full": 1.0})
    # Work is of a token that passes, read or written; here each token read brings the written ones along. A head that
    # says some of the tokens only does its work on those.
    passing, unsaid = 1 + written / sequence, 0.0 if written else (1 - share) * 3 * work.head_forward
    products = passing * (3 * work.matmul_forward + c.pick("recompute", again) - full * work.attention_forward) - unsaid
    attention = passing * (3.5 + full) * seen  # backward multiplies five times where forward does twice
    tokens = c.accumulation * c.tokens / (c.tensor * c.pipeline)
    memory = (device.memory_bytes_per_s or rate / 200) / device.dies
    kept = sum(kind.layers * model.whole(kind) for kind in model.kinds)
    owned = parameters(architecture).total / (c.tensor * c.pipeline)
    sent, links = of_columns(architecture, c), Links(device, c)
    return Terms(
        products=tokens * products / rate,
        attention=tokens * attention / peak(device, _SCORES.get(precision, precision)),
        pointwise=c.accumulation * (_POINTWISE_PASSES + full) * kept / c.pipeline / memory,
        head=share * tokens * model.parts.vocabulary * _HEAD_BYTES / memory,
        optimizer=owned / np.where(c.stage >= 1, c.shards, 1.0) * _OPTIMIZER_BYTES / memory,
        data=sent.data / links.ring(c.shards, stride=c.tensor)
        + sent.replicas / links.ring(c.data * c.context / c.shards, stride=c.tensor * c.shards),
        tensor=sent.tensor / links.ring(c.tensor, stride=1.0),
        context=sent.context / links.ring(c.context, stride=c.tensor),
        expert=sent.expert / links.all_to_all(c.expert, stride=c.tensor * c.context),
        pipeline=sent.pipeline / links.ring(c.pipeline, stride=c.devices / c.pipeline),
        blocks=c.accumulation * (1 + full / 3) * model.parts.layers / c.pipeline * (1 + np.log2(c.devices)),
        bubble=(c.pipeline - 1) / (c.accumulation * c.virtual_stages),
        peak=rate,
        flop=tokens * (passing * work.total - unsaid),
        tokens=tokens,
    )


class Links:
    """Bandwidth of a group of devices, bytes/s each sends: the link inside a node, the network beyond it.

    Groups lie tensor innermost, then context, then data, then pipeline. Where k devices of a group stand in one node, a
    ring that leaves it uses the network of all k.
    """

    def __init__(self, device: Device, c: Columns) -> None:
        self.node = float(device.node_devices)
        network = (device.network_bytes_per_s or UNKNOWN_NETWORK) / device.dies
        self.link = (device.link_bytes_per_s or 2 * network) / 2 / device.dies
        self.network = network

    def _inside(self, devices: Number, stride: Number) -> Number:
        return np.clip(self.node / stride, 1.0, np.maximum(devices, 1.0))

    def ring(self, devices: Number, *, stride: Number) -> Number:
        """Of a gather or reduction."""
        inside = self._inside(devices, stride)
        return np.where(inside >= devices, self.link, np.minimum(self.link, inside * self.network))

    def all_to_all(self, devices: Number, *, stride: Number) -> Number:
        """Where every device sends to every other: what leaves the node has its own network only."""
        inside = self._inside(devices, stride)
        off = 1 - inside / np.maximum(devices, 1.0)
        return 1 / ((1 - off) / self.link + off / self.network)
