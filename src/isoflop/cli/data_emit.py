"""`isoflop data emit`: a recipe's phases as a Slurm job array."""

from pathlib import Path
from typing import Any

import click

from isoflop.cli.shell import Output, Printer, output_options


@click.command("emit")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--array", "members", metavar="N", type=click.IntRange(1), required=True,
              help="Members of the array, each a process of its own on one machine.")  # fmt: skip
@click.option("--corpus", type=click.Path(path_type=Path), default=Path("corpus"), show_default=True,
              help="Folder that the members write, as `data run --out`.")  # fmt: skip
@click.option("--partition", help="Of the cluster; default: its own.")
@click.option("--cpus", type=click.IntRange(1), help="Processors of a member, one worker each.")
@click.option("--time", "wall", metavar="TIME", help="Limit of a member, e.g. '8 hours'; default: the cluster's.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Write the script here; default: print it."
)
@output_options("data.emit")
def emit_command(
    recipe: Path, members: int, corpus: Path, partition: str | None, cpus: int | None, wall: str | None,
    out: Path | None, output: Output,
) -> None:  # fmt: skip
    """A script that takes RECIPE through its stages on many machines of a Slurm cluster.

    The bytes are those of `isoflop data run` on one machine. `isoflop data emit recipe.toml --array 32 --corpus
    /scratch/corpus --out job`, then `bash job/data.sbatch` queues every phase; started again, it goes on.
    """
    from isoflop import units
    from isoflop.data import phases, slurm
    from isoflop.files import write_atomic
    from isoflop.specs import data_recipe

    wall_s = None if wall is None else units.parse(wall, "s", name="--time")
    wish = slurm.Wish(members=members, partition=partition, cpus=cpus, wall_s=wall_s)
    found = phases.phases(data_recipe.load(recipe))
    text = slurm.script(found, recipe, corpus, wish)
    if out is not None:
        write_atomic(out / slurm.FILE, text)
    payload: dict[str, Any] = {
        "phases": [
            {"phase": number, "name": each.name, "n_members": members if each.members else 1}
            for number, each in enumerate(found, 1)
        ],
        "corpus": str(corpus.resolve()),
        "files": {slurm.FILE: text},
        "written": [str(out / slurm.FILE)] if out else [],
    }

    def render(printer: Printer) -> None:
        if out is None:
            click.echo(text, nl=False)
            return
        rows = [[f"{each['phase']}. {each['name']}", f"{each['n_members']:,}"] for each in payload["phases"]]
        printer.table(f"{out / slurm.FILE}", ["phase", "members"], rows)

    output.show(payload, render)
