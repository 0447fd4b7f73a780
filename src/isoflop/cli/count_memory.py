"""`isoflop count memory MODEL`: will it fit, and where does the memory go."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import click
from msgspec import to_builtins

from isoflop import units
from isoflop.cli.shell import Output, Printer, output_options
from isoflop.errors import CapacityError
from isoflop.specs.layout import LossHead, Method, OptimizerName, Precision, Recompute, Training


@click.command("memory")
@click.argument("model")
@click.option("--gpus", required=True, metavar="COUNTxDEVICE", help="Devices, e.g. 64xH100.")
@click.option("--layout", "laid", metavar="LAYOUT",
              help="How they share the work: ddp, zero1, zero2, fsdp, tp, pp, cp, ep, e.g. fsdp=8,tp=8. "
              "Default: fsdp over all.")  # fmt: skip
@click.option("--micro-batch", type=click.IntRange(min=1), default=1, show_default=True,
              help="Sequences a device takes at once; pairs for dpo.")  # fmt: skip
@click.option("--seq", "sequence", type=click.IntRange(min=1),
              help="Tokens of a sequence; by default the model's context, or 2048 where it has none.")  # fmt: skip
@click.option("--precision", type=click.Choice(get_args(Precision)), default="bf16", show_default=True,
              help="Of products; with 16 bit and less the optimizer keeps fp32 weights.")  # fmt: skip
@click.option("--recompute", type=click.Choice(get_args(Recompute)), default="none", show_default=True,
              help="What the backward pass computes again instead of keeping.")  # fmt: skip
@click.option("--optimizer", type=click.Choice(get_args(OptimizerName)), default="adamw", show_default=True,
              help="Whose state is kept.")  # fmt: skip
@click.option("--loss", "loss_head", type=click.Choice(get_args(LossHead)), default="eager", show_default=True,
              help="How logits become a loss.")  # fmt: skip
@click.option("--method", type=click.Choice(get_args(Method)), default="pretrain", show_default=True,
              help="dpo adds a reference, ppo a critic, a reference and a reward model.")  # fmt: skip
@click.option("--lora", "adapter_rank", type=click.IntRange(min=1), metavar="RANK",
              help="Train adapters of this rank alone.")  # fmt: skip
@click.option("--accumulate", type=click.IntRange(min=1), default=1, show_default=True,
              help="Micro-batches of one optimizer step.")  # fmt: skip
@click.option("--virtual-stages", type=click.IntRange(min=1), default=1, show_default=True,
              help="Groups of blocks a pipeline stage holds (interleaved schedule).")  # fmt: skip
@click.option("--explain", "explained", metavar="NUMBER", multiple=True,
              help="How a number comes about, e.g. memory.activations; memory explains all.")  # fmt: skip
@click.option(
    "--verify", is_flag=True, help="Build the model on fake tensors and hold torch's memory tracker against it."
)
@click.option("--html", "page", type=click.Path(path_type=Path, dir_okay=False), help="Draw it on a page of its own.")
@click.option("--tables", type=click.Path(path_type=Path, dir_okay=False),
              help="TOML file of your own rows: devices, models, margins.")  # fmt: skip
@output_options("count-memory")
def memory_command(
    model: str, gpus: str, laid: str | None, micro_batch: int, sequence: int | None, precision: Precision,
    recompute: Recompute, optimizer: OptimizerName, loss_head: LossHead, method: Method, adapter_rank: int | None,
    accumulate: int, virtual_stages: int, explained: Sequence[str], verify: bool, page: Path | None,
    tables: Path | None, output: Output,
) -> None:  # fmt: skip
    """Memory of one device at the peak of a step, part by part.

    `isoflop count memory llama3-8b --gpus 64xH100 --layout fsdp=64 --micro-batch 2 --recompute selective`. Where it
    does not fit, the command ends with 3.
    """
    from isoflop.count import layout as layouts
    from isoflop.count import memory_advice
    from isoflop.count import sequence as sequences
    from isoflop.count.explain import explain
    from isoflop.count.memory_peak import memory
    from isoflop.count.memory_terms import capacity, terms
    from isoflop.specs.cluster import Cluster, Device
    from isoflop.tables import find, named

    asked = units.parse_devices(gpus, name="--gpus")
    cluster = Cluster(device=find("devices", Device, asked.device, extra=tables), count=asked.count)
    found = named.model(model, extra=tables)
    laid_out = layouts.parse(
        laid, devices=cluster.torch_devices, micro_batch=micro_batch, recompute=recompute, accumulation=accumulate,
        sequence=sequences.usual(found.architecture, sequence), virtual_stages=virtual_stages,
    )  # fmt: skip
    layouts.check(found.architecture, laid_out)
    training = Training(
        precision=precision, optimizer=optimizer, loss_head=loss_head, method=method, adapter_rank=adapter_rank
    )
    need = memory(found.architecture, laid_out, training, tables=tables)
    numbers = [*terms(found.architecture, laid_out, training, need, tables=tables), capacity(cluster)]
    told = [term for name in explained for term in explain(numbers, _term_of(name))]
    payload: dict[str, Any] = {
        "model": found.name,
        "devices": f"{cluster.count}x{cluster.device.name}",
        "layout": to_builtins(laid_out),
        "training": to_builtins(training),
        "peak_at": need.moment,
        "memory_bytes_per_device": need.total_bytes,
        "memory_bytes_per_device_lo": need.lo_bytes,
        "memory_bytes_per_device_hi": need.hi_bytes,
        "memory_breakdown_bytes": need.breakdown(),
        "capacity_bytes": cluster.memory_bytes,
        "fits": need.total_bytes <= cluster.memory_bytes,
        "warnings": memory_advice.warnings(need, cluster),
        "notes": [
            *found.notes,
            *sequences.notes(found.architecture, laid_out.sequence),
            *memory_advice.notes(found.architecture),
        ],
    }
    if explained:
        payload["explain"] = [term.payload() for term in told]
    if verify:
        from isoflop.train.verify import check

        payload["verify"] = to_builtins(check(found.architecture, laid_out, training))
    if page is not None:
        from isoflop.report.memory import write

        write(payload, page)

    def render(printer: Printer) -> None:
        for line in (line for term in told for line in term.lines()):
            printer.line(line)
        if not explained:
            _print(printer, payload)

    output.show(payload, render)
    if not payload["fits"]:
        raise CapacityError(
            memory_advice.too_large(found.architecture, laid_out, training, need, cluster, tables=tables)
        )


def _term_of(name: str) -> str:
    """The number that `--json` calls so, as `--explain` does."""
    return {
        "memory_bytes_per_device": "memory.total",
        "memory_bytes_per_device_lo": "memory.lo",
        "memory_bytes_per_device_hi": "memory.hi",
        "capacity_bytes": "memory.capacity",
    }.get(name, name.replace("memory_breakdown_bytes", "memory", 1))


def _print(printer: Printer, payload: dict[str, Any]) -> None:
    """Parts by size beside their share, and the capacity below."""
    need, have = payload["memory_bytes_per_device"], payload["capacity_bytes"]
    verdict = "fits" if payload["fits"] else "DOES NOT FIT"
    size = f"{units.show(need, 'bytes')} a device of {units.show(have, 'bytes')}: {verdict}"
    printer.line(f"{payload['model']} on {payload['devices']}: {size}", style="bold")
    parts = [(name, size) for name, size in payload["memory_breakdown_bytes"].items() if size]
    rows = [[name.replace("_", " "), units.show(size, "bytes"), f"{size / need:.1%}"] for name, size in parts]
    printer.table(f"At its peak ({payload['peak_at']})", ["", "a device", "of all"], rows)
    lo, hi = (units.show(payload[f"memory_bytes_per_device_{end}"], "bytes") for end in ("lo", "hi"))
    printer.line(f"by the measurements that the margin rests on, {lo} to {hi}")
    if verified := payload.get("verify"):
        closed, tracked = (units.show(verified[f"{by}_bytes"], "bytes", digits=4) for by in ("closed", "tracked"))
        printer.line(
            f"--verify: torch's memory tracker finds {tracked} in one step of the model built on fake tensors; the "
            f"closed form without the margin says {closed}, {verified['error']:+.2%}"
        )
    for note in (*payload["warnings"], *payload["notes"]):
        printer.warn(note)
    printer.line("--explain NUMBER shows how one comes about, e.g. --explain memory.activations")
