"""What to say of a layout that does not fit, or only just: one change that would do, and what stands in the way."""

from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from isoflop.count.memory_peak import Memory, memory
from isoflop.specs.architecture import Architecture, as_decoder
from isoflop.specs.cluster import Cluster
from isoflop.specs.layout import Layout, Training
from isoflop.specs.transformer import Transformer
from isoflop.units import show

_MOST_DEVICES = 2**20
_LEAST = "fsdp with --recompute full, --loss chunked and --micro-batch 1"


def warnings(need: Memory, cluster: Cluster) -> list[str]:
    """Where the interval of the measured margins reaches over the capacity, though the estimate does not."""
    room = cluster.memory_bytes
    if not need.total_bytes <= room < need.hi_bytes:
        return []
    return [
        f"a close fit: allocators as the measured ones may reserve up to {show(need.hi_bytes, 'bytes')} of "
        f"{show(room, 'bytes')}"
    ]


def notes(architecture: Architecture) -> list[str]:
    """What the number rests on where it is not a model of the kind that was measured."""
    if as_decoder(architecture) is not None:
        return []
    said = [
        "memory of this kind of model is not verified: the closed form was held against torch's memory tracker and "
        "published peaks for dense decoders like Llama without windows; here it follows the same rules"
    ]
    parts = architecture if isinstance(architecture, Transformer) else architecture.transformer()
    if any(getattr(block.attention, "relative_positions", 0) for block in (*parts.encoder, *parts.decoder)):
        said.append(
            "biases of relative positions are learned, so on a CPU attention keeps its scores, heads x sequence**2 of "
            "each block, which are not counted"
        )
    return said


def too_large(
    architecture: Architecture, layout: Layout, training: Training, need: Memory, cluster: Cluster, *,
    tables: Path | None = None,
) -> str:  # fmt: skip
    """What is short, what takes most, and the first single change that fits by the margin of `tables`."""
    room, parts = cluster.memory_bytes, need.breakdown()
    most = max(parts, key=lambda part: parts[part])
    said = (
        f"{show(need.total_bytes, 'bytes')} a device; have {show(room, 'bytes')}. Most of it are "
        f"{most.replace('_', ' ')} ({show(parts[most], 'bytes')}). "
    )
    for advice, other, trained in _changes(layout, training, cluster):
        found = memory(architecture, other, trained, tables=tables)
        if found.total_bytes <= room:
            return said + f"{advice}: {show(found.total_bytes, 'bytes')}"
    return (
        said + "No change of recomputation, loss, sharding, micro-batch or devices would do: share the model (tp, pp)"
    )


def _changes(layout: Layout, training: Training, cluster: Cluster) -> Iterator[tuple[str, Layout, Training]]:
    """From the cheapest in speed to the dearest."""
    if training.method != "inference":
        if training.loss_head == "eager":
            yield "--loss chunked", layout, replace(training, loss_head="chunked")
        for recompute in ("selective", "full"):
            if recompute != layout.recompute:
                yield f"--recompute {recompute}", replace(layout, recompute=recompute), training
    if layout.sharding != "zero3" and layout.data > 1:
        yield "fsdp in place of " + layout.sharding, replace(layout, sharding="zero3"), training
    batch = layout.micro_batch
    while batch > 1:
        batch //= 2
        yield f"--micro-batch {batch}", replace(layout, micro_batch=batch), training
    chunked = training if training.method == "inference" else replace(training, loss_head="chunked")
    least = replace(layout, sharding="zero3", recompute="full", micro_batch=1)
    yield _LEAST, least, chunked
    devices = layout.devices
    while devices < _MOST_DEVICES:
        devices *= 2
        more = f"--gpus {devices // cluster.device.dies}x{cluster.device.name}"
        yield f"{more}, {_LEAST}", replace(least, devices=devices), chunked
