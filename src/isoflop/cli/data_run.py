"""`isoflop data run` and `isoflop data report`: raw files through the stages of a recipe, and what became of them."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from isoflop.cli.shell import Output, Printer, output_options

if TYPE_CHECKING:
    from isoflop.data.pipeline import Run


@click.command("run")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write, or to go on in.")
@click.option("--workers", type=click.IntRange(1), help="Processes; default: the processors this one may use.")
@click.option("--engine", default="local", show_default=True, help="Where they run: local, or a cluster of ray.")
@output_options("data.run")
def run_command(recipe: Path, out: Path, workers: int | None, engine: str, output: Output) -> None:
    """Take raw pages and texts through the stages of RECIPE.

    Reads WARC, HTML, text, JSON Lines and Parquet, and leaves Parquet shards under OUT/text for `isoflop data
    tokenize`. What is dropped lies beside what is kept, with its reason. Stopped or killed, the same command goes on;
    the bytes are the same for any number of workers, e.g. `isoflop data run recipe.toml --out corpus --workers 2`.
    """
    from isoflop.data import pipeline
    from isoflop.specs import data_recipe

    made = pipeline.run(
        data_recipe.load(recipe),
        out,
        workers=workers or _cores(),
        engine=engine,
        on_progress=_announce(output),
    )
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
