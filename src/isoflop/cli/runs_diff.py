"""`isoflop runs diff A B`: what two runs do not have in common, and where their curves part."""

import tomllib
from pathlib import Path
from typing import Any

import click
from msgspec import structs, to_builtins

from isoflop.cli.runs_export import flattened
from isoflop.cli.runs_folder import FOLDER
from isoflop.cli.shell import Output, Printer, output_options
from isoflop.train import store
from isoflop.train.parting import Parting, parting
from isoflop.train.store import Stored

_RESULTS = (
    "status", "loss_nats", "bits_per_byte", "n_params", "n_tokens", "unique_tokens", "compute_flop", "wall_s",
    "tokens_per_s", "mfu", "memory_bytes",
)  # fmt: skip
Difference = tuple[str, Any, Any]


@click.command("diff")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@FOLDER
@output_options("runs.diff")
def diff_runs(first: str, second: str, runs_dir: Path, output: Output) -> None:
    """Two runs side by side: recipes, data, origin, results, and the step at which their losses part.

    The beginning of an ID will do.
    """
    scan = store.scan(runs_dir)
    pair = scan.find(first), scan.find(second)
    curves = [store.metrics(Path(stored.folder)) if stored.folder else [] for stored in pair]
    parted = parting(*([(p.step, p.loss_nats) for p in curve if p.loss_nats is not None] for curve in curves))
    told = {
        "recipe": _differences(*map(_recipe, pair)),
        "data": _differences(*map(_data, pair)),
        "origin": _differences(*map(_origin, pair)),
        "results": [(name, *(getattr(stored.run, name) for stored in pair)) for name in _RESULTS],
    }
    payload = {
        "runs": [stored.folder or stored.run.id for stored in pair],
        **{part: [dict(zip(("name", "a", "b"), row, strict=True)) for row in rows] for part, rows in told.items()},
        "parting": None if parted is None else to_builtins(parted),
    }
    output.show(payload, lambda printer: _render(printer, pair, told, parted))


def _differences(a: dict[str, Any], b: dict[str, Any]) -> list[Difference]:
    return [(name, a.get(name), b.get(name)) for name in dict.fromkeys((*a, *b)) if a.get(name) != b.get(name)]


def _recipe(stored: Stored) -> dict[str, Any]:
    """As `recipe.toml` of the folder has it; of a run without one, its architecture."""
    path = None if stored.folder is None else Path(stored.folder) / store.RECIPE
    if path is not None and path.exists():
        return flattened(tomllib.loads(path.read_text()))
    return flattened({"model": to_builtins(stored.run.architecture)} if stored.run.architecture else {})


def _data(stored: Stored) -> dict[str, Any]:
    run = stored.run
    shards = run.stamp.inputs.get("shards") if run.stamp else None
    return {"shards": shards, "tokenizer": run.tokenizer_sha256, "validation": run.validation}


def _origin(stored: Stored) -> dict[str, Any]:
    """Versions and machine; when and by which command is different for any two runs."""
    stamp = stored.run.stamp
    known = {} if stamp is None else structs.asdict(stamp)
    kept = {name: known.get(name) for name in ("isoflop", "git", "packages", "machine")}
    return flattened({"device": stored.run.device, **kept})


def _render(
    printer: Printer, pair: tuple[Stored, Stored], told: dict[str, list[Difference]], parted: Parting | None
) -> None:
    names = [stored.run.id for stored in pair]
    for part in ("recipe", "data", "origin"):
        rows = told[part]
        if rows:
            printer.table(f"{part.capitalize()}: what differs", ["", *names], [_cells(row) for row in rows])
        else:
            printer.line(f"{part}: the same")
    shown = [(name, a, b) for name, a, b in told["results"] if a is not None or b is not None]
    printer.table("Results", ["", *names], [_cells(row) for row in shown])
    printer.line("no two lines of their curves are of the same step" if parted is None else parted.sentence())


def _cells(row: Difference) -> list[str]:
    name, *values = row
    return [name, *("" if v is None else f"{v:.6g}" if isinstance(v, float) else str(v)[:60] for v in values)]
