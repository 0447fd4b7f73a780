"""`isoflop runs`: what has been trained on this disk."""

import time
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import get_args

import click

from isoflop import units
from isoflop.cli.meter_view import print_meter
from isoflop.cli.runs_diff import diff_runs
from isoflop.cli.runs_export import export_runs
from isoflop.cli.runs_folder import FOLDER
from isoflop.cli.shell import Output, Printer, output_options
from isoflop.specs.architecture import Decoder, EncoderDecoder
from isoflop.specs.run import Status
from isoflop.train import store
from isoflop.train.store import Stored

_SORTS: dict[str, Callable[[Stored], tuple[float, str]]] = {
    "folder": lambda s: (0.0, s.folder or "~"),
    "loss": lambda s: (inf if s.run.loss_nats is None else s.run.loss_nats, s.run.id),
    "work": lambda s: (s.run.flop, s.run.id),
    "age": lambda s: (-s.time, s.run.id),
}
_BARS = "▁▂▃▄▅▆▇█"
_COLUMNS = ["run", "status", "N", "D", "work", "loss", "bits/byte", "tokens/s", "MFU", "age"]


@click.group()
def runs() -> None:
    """The runs on this disk."""


runs.add_command(export_runs)
runs.add_command(diff_runs)


@runs.command("list")
@FOLDER
@click.option("--status", "statuses", multiple=True, type=click.Choice(get_args(Status)), help="Only runs that are so.")
@click.option("--sort", type=click.Choice(list(_SORTS)), default="folder", show_default=True, help="In which order.")
@output_options("runs.list")
def list_runs(runs_dir: Path, statuses: tuple[str, ...], sort: str, output: Output) -> None:
    """All runs, with what they reached."""
    scan = store.scan(runs_dir)
    listed = [stored for stored in scan.stored if not statuses or stored.run.status in statuses]
    listed.sort(key=_SORTS[sort])
    payload = {"runs_dir": str(runs_dir), "runs": listed, "unreadable": scan.unreadable}

    def render(out: Printer) -> None:
        rows = [_row(stored) for stored in listed]
        out.table(f"{len(rows)} runs in {runs_dir}", _COLUMNS, rows)
        for sentence in scan.unreadable:
            out.warn(f"not read: {sentence}")

    output.show(payload, render)


@runs.command("show")
@click.argument("name", metavar="ID")
@FOLDER
@output_options("runs.show")
def show_run(name: str, runs_dir: Path, output: Output) -> None:
    """One run: all that is known of it, and its loss curve. The beginning of an ID will do."""
    stored = store.scan(runs_dir).find(name)
    curve = store.metrics(Path(stored.folder)) if stored.folder else []

    def render(out: Printer) -> None:
        out.facts(stored.run.id, _facts(stored))
        print_meter(out, stored.run)
        losses = [point.loss_nats for point in curve if point.loss_nats is not None]
        if losses:
            out.line(f"loss {losses[0]:.3f} {sparkline(losses, width=60)} {losses[-1]:.3f}   ({len(losses)} points)")

    output.show({"folder": stored.folder, "run": stored.run, "curve": curve}, render)


def sparkline(values: Sequence[float], *, width: int) -> str:
    """A curve in one line of text: means of `width` equal stretches, the lowest as low as it goes."""
    width = min(width, len(values))
    stretches = [values[i * len(values) // width : (i + 1) * len(values) // width] for i in range(width)]
    means = [sum(stretch) / len(stretch) for stretch in stretches]
    low, span = min(means), (max(means) - min(means)) or 1.0
    return "".join(_BARS[round((mean - low) / span * (len(_BARS) - 1))] for mean in means)


def _row(stored: Stored) -> list[str]:
    run = stored.run
    cut_off = run.status == "running" and stored.folder is not None and not store.at_work(Path(stored.folder))
    return [
        run.id,
        "cut off" if cut_off else run.status,
        units.show(run.n_params, "parameters"),
        units.show(run.n_tokens, "tokens"),
        units.show(run.flop, "FLOP"),
        _number(run.loss_nats, ".4f"),
        _number(run.bits_per_byte, ".4f"),
        "" if run.tokens_per_s is None else units.show(run.tokens_per_s, "tokens"),
        _number(run.mfu, ".0%"),
        units.show(max(1.0, time.time() - stored.time), "s", digits=2),
    ]


def _number(value: float | None, spec: str) -> str:
    return "" if value is None else format(value, spec)


def _facts(stored: Stored) -> list[tuple[str, str]]:
    """Everything there is to say, one fact a row; what is not known is left out."""
    run = stored.run
    facts = dict(zip(_COLUMNS[1:], _row(stored)[1:], strict=True))
    facts |= {
        "N counts": run.counts,
        "model FLOP": "" if run.model_flop is None else units.show(run.model_flop, "FLOP"),
        "unique tokens": "" if run.unique_tokens is None else units.show(run.unique_tokens, "tokens"),
        "time": "" if run.wall_s is None else units.show(run.wall_s, "s"),
        "learning rate": _number(run.learning_rate, ".3g"),
        "batch": "" if run.batch_tokens is None else units.show(run.batch_tokens, "tokens", digits=6) + " tokens",
        "steps": _number(run.steps, "d"),
        "seed": _number(run.seed, "d"),
        "role": run.role,
        "device": run.device or "",
        "validation": run.validation or "",
        "tokenizer": (run.tokenizer_sha256 or "")[:16],
        "key": run.key or "",
        "folder": stored.folder or "(only a line of runs.jsonl is left)",
        "note": run.note,
    }
    for name, one in (run.sources or {}).items():
        loss = "" if one.loss_nats is None else f", loss {one.loss_nats:.4f}"
        facts[f"of {name}"] = f"{units.show(one.n_tokens, 'tokens')} tokens, {one.epochs:.2g} times its text{loss}"
    if (before := run.origin) is not None:
        facts["origin"] = (
            f"{before.run} at step {before.step}, its {before.take} ({before.sha256[:16]}); "
            f"{units.show(before.n_tokens, 'tokens')} tokens before, {units.show(run.spent_flop or 0.0, 'FLOP')} since"
        )
    if (shape := run.architecture) is not None:
        layers, grouped = str(shape.layers), ""
        if isinstance(shape, Decoder):
            grouped = f" ({shape.kv_heads} kv)"
        if isinstance(shape, EncoderDecoder):
            layers = f"{shape.layers} + {shape.writing_layers}"
        facts["shape"] = (
            f"{layers} layers x {shape.width}, {shape.heads} heads of {shape.head_size}{grouped}, "
            f"MLP {shape.hidden}, vocabulary {shape.vocabulary}, context {shape.context}"
        )
    if (origin := run.stamp) is not None:
        facts["made"] = f"{origin.time} by isoflop {origin.isoflop} {origin.git or ''} on {origin.machine}"
    return [(name, value) for name, value in facts.items() if value]
