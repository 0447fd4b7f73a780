"""`isoflop runs export`: runs as one table, for a notebook or for `isoflop law fit`."""

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import click
import msgspec
from msgspec import to_builtins

from isoflop import files
from isoflop.cli.runs_folder import FOLDER
from isoflop.cli.shell import Output, Printer, output_options
from isoflop.errors import InputError, UsageError
from isoflop.specs.run import Status
from isoflop.train import store
from isoflop.train.store import Stored

_ENDINGS = {".csv": "csv", ".jsonl": "jsonl", ".parquet": "parquet"}
Row = dict[str, Any]


@click.command("export")
@click.argument("out", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@FOLDER
@click.option("--format", "kind", type=click.Choice(list(_ENDINGS.values())), help="Default: by the file's ending.")
@click.option("--status", "statuses", multiple=True, type=click.Choice(get_args(Status)), help="Only runs that are so.")
@click.option("--curves", is_flag=True, help="One row for each line of each curve, beside run_id.")
@output_options("runs.export")
def export_runs(
    out: Path, runs_dir: Path, kind: str | None, statuses: tuple[str, ...], curves: bool, output: Output
) -> None:
    """Runs, one a row, to FILE.csv, .jsonl or .parquet; - is standard output.

    A .jsonl holds runs as they are; `isoflop law fit` reads it and the CSV alike. Nested values have dots in the other
    two: architecture.layers.
    """
    kind = kind or _ENDINGS.get(out.suffix.lower(), "")
    if not kind:
        raise UsageError(f"{out}: end it with {', '.join(_ENDINGS)}, or say --format")
    if str(out) == "-" and (output.as_json or kind == "parquet"):
        raise UsageError("standard output takes csv or jsonl, and not --json besides; name a file")
    scan = store.scan(runs_dir)
    chosen = [stored for stored in scan.stored if not statuses or stored.run.status in statuses]
    rows = [row for stored in chosen for row in _points(stored)] if curves else [to_builtins(s.run) for s in chosen]
    if not rows:
        raise InputError(f"{runs_dir}: no {'line of a curve' if curves else 'run'} to export")
    content = _written(rows, kind)
    if str(out) == "-":
        sys.stdout.buffer.write(content)
        return
    files.write_atomic(out, content)
    payload = {"path": str(out), "format": kind, "rows": len(rows), "runs": len(chosen), "unreadable": scan.unreadable}

    def render(printer: Printer) -> None:
        printer.line(f"{out}: {len(rows)} rows of {len(chosen)} runs")
        for sentence in scan.unreadable:
            printer.warn(f"not read: {sentence}")

    output.show(payload, render)


def _points(stored: Stored) -> list[Row]:
    """The whole curve of a run, one row a line."""
    path = None if stored.folder is None else Path(stored.folder) / store.METRICS
    if path is None or not path.exists():
        return []
    return [{"run_id": stored.run.id, **row} for row in files.read_lines(path, dict[str, Any])]


def _written(rows: Sequence[Row], kind: str) -> bytes:
    if kind == "jsonl":
        return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    flat = [flattened(row) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    if kind == "parquet":
        return _parquet(flat, names)
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue().encode()


def _parquet(rows: Sequence[Row], names: Sequence[str]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    sink = io.BytesIO()
    columns = {name: [row.get(name) for row in rows] for name in names}
    parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue()


def flattened(row: Row, at: str = "") -> Row:
    """Tables within a row as columns with dots; a list is one cell of JSON."""
    found: Row = {}
    for name, value in row.items():
        if isinstance(value, dict):
            found |= flattened(value, f"{at}{name}.")
        elif isinstance(value, list | tuple):
            found[f"{at}{name}"] = msgspec.json.encode(value).decode()
        else:
            found[f"{at}{name}"] = value
    return found
