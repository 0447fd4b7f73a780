"""`isoflop ladder`: many small runs, their law, a forecast and its proof."""

from pathlib import Path
from typing import Any, cast

import click

from isoflop import units
from isoflop.cli.shell import Output, output_options
from isoflop.errors import UsageError
from isoflop.specs import ladder_file
from isoflop.specs.ladder_plan import LadderPlan

BUDGET = "1e14 FLOP"


@click.command()
@click.option("--text", type=click.Path(path_type=Path), help="File or folder; default: Python's standard library.")
@click.option("--budget", metavar="FLOP", help=f"Work of all runs, the proof included.  [default: {BUDGET}]")
@click.option("--design", type=click.Choice(["trunks", "grid", "designed"]), help="How points are trained.  [default: "
              "trunks]")  # fmt: skip
@click.option("--plan", "plan_file", type=click.Path(path_type=Path), help="ladder.toml: sizes, lengths, seeds, rules.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a key of the plan, e.g. sizes=4.")
@click.option("--law", default="besiroglu-2024", show_default=True, help="Stands in until the ladder has its own.")
@click.option("--target", metavar="FLOP", help="The budget one wants to know about; default: 100 times the dearest.")
@click.option("--executor", type=click.Choice(["local", "ray", "slurm"]), default="local", show_default=True,
              help="Where the runs are trained.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1), help="Runs at once; default: as many as this machine does best.")
@click.option("--executor-set", "placed", multiple=True, metavar="KEY=VALUE", help="A setting of the executor.")
@click.option("--resume", type=click.Choice(["auto", "must", "never"]), default="auto", show_default=True,
              help="Whether a ladder in the folder goes on.")  # fmt: skip
@click.option("--runs-dir", type=click.Path(path_type=Path), default=Path("runs/ladder"), show_default=True,
              help="Folder the ladder is written to.")  # fmt: skip
@click.option(
    "--html", "page_file", type=click.Path(path_type=Path), help="Where the page goes; default: report.html there."
)
@click.option("--dry-run", is_flag=True, help="Show the runs, their cost and what they tell; train nothing.")
@output_options("ladder")
def ladder(
    text: Path | None, budget: str | None, design: str | None, plan_file: Path | None, settings: tuple[str, ...],
    law: str, target: str | None, executor: str, workers: int | None, placed: tuple[str, ...], resume: str,
    runs_dir: Path, page_file: Path | None, dry_run: bool, output: Output,
) -> None:  # fmt: skip
    """Train a ladder of small runs and fit its law.

    Each size has one trunk at a stable rate; cooldown branches off it give many lengths for .61 of the compute. The
    learning rate is swept first, seeds tell the noise, and the largest run is kept out: its loss is forecast, written
    down, and only then is it trained. Stopped anywhere, the same command goes on.
    """
    from isoflop import loop
    from isoflop.cli import ladder_dry, ladder_view
    from isoflop.laws import source
    from isoflop.train.ladder_trunks import Where

    plan = ladder_file.load(plan_file, settings=[*settings, *([f"design={design}"] if design else [])])
    target_flop = None if target is None else units.parse(target, "FLOP", name="--target")
    stand_in = source.load(law)
    layout = loop.laid_out(plan, budget_flop=_budget(budget, plan), law=stand_in, target_flop=target_flop)
    if dry_run:
        output.html = page_file
        told = ladder_dry.payload(layout, stand_in, law=law, target_flop=target_flop, folder=runs_dir)
        output.show(told, lambda printer: ladder_dry.show(printer, told))
        return
    clock, listener = loop.Clock(), ladder_view.listener(output)
    where = Where(executor, settings_of(placed), workers)
    found, shards = loop.ascend(
        layout, runs_dir, text=text, resume=cast(Any, resume), clock=clock, listener=listener, where=where
    )
    page = loop.ladder_page(found, shards, runs_dir, path=page_file or runs_dir / "report.html", clock=clock)
    told = ladder_view.ascent_payload(found, clock.stages) | {"report": str(page)}
    output.show(told, lambda printer: ladder_view.show_ascent(printer, found, clock.stages, page=page))


def _budget(asked: str | None, plan: LadderPlan) -> float | None:
    """In FLOP; None where the plan says how large its smallest model is."""
    if asked is None and plan.smallest_params is not None:
        return None
    return units.parse(asked or BUDGET, "FLOP", name="--budget")


def settings_of(placed: tuple[str, ...]) -> dict[str, str]:
    """Of the executor, by name."""
    found = {}
    for setting in placed:
        key, equals, value = setting.partition("=")
        if not (equals and key):
            raise UsageError(f"--executor-set {setting!r}: write KEY=VALUE")
        found[key] = value
    return found
