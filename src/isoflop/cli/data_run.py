"""`isoflop data run` and `isoflop data report`: raw files through the stages of a recipe, and what became of them."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from isoflop.cli.shell import Output, Printer, output_options
from isoflop.errors import UsageError

if TYPE_CHECKING:
    from isoflop.data.phases import Part
    from isoflop.data.pipeline import Run


@click.command("run")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write, or to go on in.")
@click.option("--workers", type=click.IntRange(1), help="Processes; default: the processors this one may use.")
@click.option("--engine", default="local", show_default=True, help="Where they run: local, or a cluster of ray.")
@click.option("--phase", metavar="K", help="Do this phase only, as a member of an array does; K/M: there must be M.")
@click.option("--part", metavar="I/N", help="This member's part of the phase, 1/N to N/N.  [default: 1/1]")
@output_options("data.run")
def run_command(
    recipe: Path, out: Path, workers: int | None, engine: str, phase: str | None, part: str | None, output: Output
) -> None:
    """Take raw pages and texts through the stages of RECIPE.

    Reads WARC, HTML, text, JSON Lines and Parquet, and leaves Parquet shards under OUT/text for `isoflop data
    tokenize`. What is dropped lies beside what is kept, with its reason. Stopped or killed, the same command goes on;
    the bytes are the same for any number of workers, e.g. `isoflop data run recipe.toml --out corpus --workers 2`.
    Many machines share the work by phases and parts, e.g. `--phase 1 --part 3/8`; `isoflop data emit` writes the
    script that starts them.
    """
    from isoflop.data import phases, pipeline
    from isoflop.specs import data_recipe

    number, n_phases = _of("--phase", phase) if phase is not None else (None, None)
    i, n_parts = _of("--part", part) if part is not None else (1, 1)
    if part is not None and (number is None or n_parts is None):
        raise UsageError(f"--part {part}: write I/N beside a --phase, e.g. --phase 1 --part 3/8")
    how: dict[str, Any] = {"workers": workers or _cores(), "engine": engine, "on_progress": _announce(output)}
    loaded = data_recipe.load(recipe)
    if number is None:
        _show_run(pipeline.run(loaded, out, **how), out, output)
        return
    made = phases.run(loaded, out, number=number, n_phases=n_phases, part=i, n_parts=n_parts or 1, **how)
    if isinstance(made, phases.Part):
        _show_part(made, out, output.of("data.phase"))
    else:
        _show_run(made, out, output)


def _of(option: str, text: str) -> tuple[int, int | None]:
    """ "3/8" as 3 of 8; "3" as 3 of no matter how many."""
    match = re.fullmatch(r"([0-9]{1,9})(?:/([0-9]{1,9}))?", text)
    if match is None:
        raise UsageError(f"{option} {text}: write for example 3/8, the third of eight")
    return int(match[1]), None if match[2] is None else int(match[2])


def _show_part(part: "Part", out: Path, output: Output) -> None:
    payload = {
        "folder": str(out), "phase": part.number, "n_phases": part.n_phases, "name": part.name, "part": part.part,
        "n_parts": part.n_parts, "n_shards": part.n_shards, "n_worked": part.n_worked,
    }  # fmt: skip
    said = (
        f"phase {part.number}/{part.n_phases} ({part.name}), part {part.part}/{part.n_parts}: {part.n_shards:,} shards"
    )
    output.show(payload, lambda printer: printer.line(said))


def _show_run(made: "Run", out: Path, output: Output) -> None:
    payload = _payload(made, out)
    output.show(payload, lambda printer: _render(printer, payload))
    if output.as_json:
        for warning in made.warnings:
            output.progress(f"! {warning}")


@click.command("report")
@click.argument("folder", type=click.Path(path_type=Path))
@output_options("data.report")
def report_command(folder: Path, output: Output) -> None:
    """What came in, what each stage dropped and why; with --html as a page with charts and samples.

    E.g. `isoflop data report corpus --html corpus.html`.
    """
    from isoflop.data import pipeline

    made = pipeline.load(folder)
    payload = _payload(made, folder)

    def page(_: Any) -> Any:
        from isoflop.report import data_page

        return data_page.page(made, pipeline.times(folder))

    output.show(payload, lambda printer: _render(printer, payload), page=page)


def _cores() -> int:
    """Processors this process may use; systems that cannot say so have them all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _announce(output: Output) -> Any:
    """One line a tenth of a stage."""

    def on_progress(stage: str, done: int, total: int) -> None:
        if done * 10 // total > (done - 1) * 10 // total:
            output.progress(f"{stage}: {done:,} of {total:,} shards")

    return on_progress


def _payload(made: "Run", folder: Path) -> dict[str, Any]:
    first, last = made.stages[0].tally, made.stages[-1].tally
    stages = [
        {
            "name": each.name,
            "folder": each.folder,
            "n_shards": len(each.shards),
            "n_documents_in": each.tally.came.documents,
            "n_bytes_in": each.tally.came.bytes,
            "n_documents": each.tally.kept.documents,
            "n_bytes": each.tally.kept.bytes,
            "dropped": {
                reason: {"n_documents": count.documents, "n_bytes": count.bytes}
                for reason, count in sorted(each.tally.dropped.items())
            },
            "marks": each.tally.marks,
        }
        for each in made.stages
    ]
    return {
        "folder": str(folder),
        "text": str(folder / "text"),
        "n_documents_in": first.came.documents,
        "n_bytes_in": first.came.bytes,
        "n_documents": last.kept.documents,
        "n_bytes": last.kept.bytes,
        "content_sha256": made.key,
        "sources": {
            name: {
                "n_documents_in": passed.came.documents,
                "n_bytes_in": passed.came.bytes,
                "n_documents": last.sources[name].kept.documents if name in last.sources else 0,
                "n_bytes": last.sources[name].kept.bytes if name in last.sources else 0,
            }
            for name, passed in sorted(first.sources.items())
        },
        "stages": stages,
        "warnings": made.warnings,
    }


def _render(printer: Printer, payload: dict[str, Any]) -> None:
    rows = [
        [each["name"], *(f"{each[name]:,}" for name in ("n_documents_in", "n_documents", "n_bytes_in", "n_bytes"))]
        for each in payload["stages"]
    ]
    columns = ["stage", "documents in", "kept", "bytes in", "bytes kept"]
    printer.table(f"{payload['text']}: {payload['n_documents']:,} documents", columns, rows)
    dropped = [
        [each["name"], reason, f"{count['n_documents']:,}", f"{count['n_bytes']:,}"]
        for each in payload["stages"]
        for reason, count in each["dropped"].items()
    ]
    if dropped:
        printer.table("Dropped", ["stage", "reason", "documents", "bytes"], dropped)
    for warning in payload["warnings"]:
        printer.warn(warning)
