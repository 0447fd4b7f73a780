"""Layouts as people write them, "fsdp=8,tp=8,pp=2", and whether a model can lie so.

    ddp=N       N whole copies; beside fsdp=M, N copies each sharded over M devices (hybrid)
    zero1=N     optimizer state sharded; zero2=N gradients too; zero3=N or fsdp=N everything
    tp, pp, cp  tensor, pipeline and context parallel devices
    ep          expert parallel devices, out of those of ddp or fsdp and cp

The numbers multiply to the devices; ep does not count.
"""

import re

from isoflop.count import sequence as sequences
from isoflop.errors import UnknownNameError, UsageError
from isoflop.specs.architecture import Architecture
from isoflop.specs.layout import Layout, Recompute, Sharding
from isoflop.specs.transformer import MLP, Block, Experts, LatentAttention, Transformer

_SHARDINGS: dict[str, Sharding] = {
    "ddp": "ddp", "zero1": "zero1", "zero2": "zero2", "zero3": "zero3", "fsdp": "zero3",
}  # fmt: skip
_DEGREES = {"tp": "tensor", "pp": "pipeline", "cp": "context", "ep": "expert"}
_PART = re.compile(r"\s*([A-Za-z]+[0-9]?)\s*=\s*([0-9]{1,9})\s*")


def parse(
    text: str | None, *, devices: int, micro_batch: int, sequence: int, recompute: Recompute = "none",
    accumulation: int = 1, virtual_stages: int = 1,
) -> Layout:  # fmt: skip
    """Read a layout; None is fsdp over all devices.

    Raises:
        UsageError: not a list of NAME=NUMBER, two ways to shard, or numbers that do not multiply to the devices.
    """
    degrees = {"fsdp": devices} if text is None else _read(text)
    ways = [name for name in degrees if name in _SHARDINGS and name != "ddp"]
    if len(ways) > 1:
        raise UsageError(f"--layout {text!r}: {ways[0]} and {ways[1]} are two ways to shard; keep one")
    way = ways[0] if ways else "ddp"
    product = 1
    for name, degree in degrees.items():
        product *= 1 if name == "ep" else degree
    if product != devices:
        spelled = " x ".join(f"{name} {degree}" for name, degree in degrees.items() if name != "ep")
        raise UsageError(
            f"--layout {text!r}: {spelled} is {product} devices, but --gpus has {devices}; "
            f"for example {_repaired(degrees, way, product, devices)}"
        )
    return Layout(
        sharding=_SHARDINGS[way],
        recompute=recompute,
        devices=devices,
        micro_batch=micro_batch,
        sequence=sequence,
        replicas=degrees.get("ddp", 1) if ways else 1,
        accumulation=accumulation,
        virtual_stages=virtual_stages,
        **{field: degrees.get(name, 1) for name, field in _DEGREES.items()},
    )


def _read(text: str) -> dict[str, int]:
    degrees: dict[str, int] = {}
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise UsageError(f"--layout {text!r}: {part.strip()!r} is not NAME=NUMBER; write for example fsdp=8,tp=8")
        name, degree = match[1].lower(), int(match[2])
        if name not in _SHARDINGS and name not in _DEGREES:
            raise UnknownNameError("kind of parallelism", match[1], [*_SHARDINGS, *_DEGREES])
        if name in degrees:
            raise UsageError(f"--layout {text!r}: {name} is given twice")
        if degree < 1:
            raise UsageError(f"--layout {text!r}: {name} is {degree}; it must be at least 1")
        degrees[name] = degree
    return degrees


def _repaired(degrees: dict[str, int], way: str, product: int, devices: int) -> str:
    """The same layout with the sharding that makes up the devices, or --gpus that do."""
    rest = product // degrees.get(way, 1)
    if devices % rest:
        return f"--gpus with {product} devices"
    others = [f"{name}={degree}" for name, degree in degrees.items() if name != way and degree > 1]
    return ",".join([f"{way}={devices // rest}", *others])


def check(architecture: Architecture, layout: Layout) -> None:
    """Refuse what no trainer can do.

    Raises:
        UsageError: a sequence beyond the learned positions, heads or hidden channels that do not divide by tp, more
            stages than layers, experts that do not divide by ep.
    """
    model = architecture if isinstance(architecture, Transformer) else architecture.transformer()
    sequences.check(architecture, layout.sequence)
    stages = layout.pipeline * layout.virtual_stages
    if stages > model.layers:
        held = "" if layout.virtual_stages == 1 else f" x {layout.virtual_stages} virtual stages"
        raise UsageError(f"pp={layout.pipeline}{held}: the model has only {model.layers} layers to cut into {stages}")
    for block in model.blocks:
        _check_tensor(block, layout.tensor)
        _check_experts(block, layout)
    if layout.expert > 1 and not any(isinstance(block.mlp, Experts) for block in model.blocks):
        raise UsageError(f"ep={layout.expert}: the model has no experts")


def _check_tensor(block: Block, tensor: int) -> None:
    for attention in (block.attention, block.cross):
        if attention is None:
            continue
        if tensor > attention.heads or attention.heads % tensor:
            raise UsageError(f"tp={tensor}: the model's {attention.heads} heads do not divide by it")
        keys = attention.heads if isinstance(attention, LatentAttention) else attention.kv_heads
        if keys % tensor and tensor % keys:
            raise UsageError(f"tp={tensor}: the model's {keys} key and value heads do not divide by it, nor it by them")
    for mlp in (block.mlp,) if isinstance(block.mlp, MLP) else (block.mlp.expert, block.mlp.shared):
        if mlp is not None and mlp.hidden % tensor:
            raise UsageError(f"tp={tensor}: the model's {mlp.hidden} hidden channels do not divide by it")


def _check_experts(block: Block, layout: Layout) -> None:
    if layout.expert == 1 or not isinstance(block.mlp, Experts):
        return
    experts, expert = block.mlp.experts, layout.expert
    if expert > experts or experts % expert:
        raise UsageError(f"ep={expert}: the model's {experts} experts do not divide by it")
    ranks = layout.data * layout.context
    if ranks % expert:
        raise UsageError(f"ep={expert}: the {ranks} data and context parallel devices do not divide by it")
