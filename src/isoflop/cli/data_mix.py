"""`isoflop data mix`: the mixture of domains by law."""

from pathlib import Path

import click

from isoflop import units
from isoflop.cli.shell import Output, output_options
from isoflop.errors import UsageError


@click.command()
@click.argument("domains", nargs=-1, type=click.Path(path_type=Path))
@click.option("--target", multiple=True, metavar="NAME[=WEIGHT]", help="Losses that count: domains with weights, "
              "average, or natural (by size).  [default: average]")  # fmt: skip
@click.option("--budget", default="1e13 FLOP", show_default=True, metavar="FLOP", help="Work of all runs, the check "
              "included.")  # fmt: skip
@click.option(
    "--proxies",
    type=click.IntRange(1),
    default=32,
    show_default=True,
    metavar="N",
    help="Runs that the law is fitted to.",
)
@click.option("--check-seeds", type=click.IntRange(1), default=1, show_default=True, metavar="N",
              help="Runs of each mixture in the check.")  # fmt: skip
@click.option("--tokens", metavar="TOKENS", help="Length of the run the mixture is for; default: that of a proxy.")
@click.option("--epochs", default=4.0, show_default=True, help="Passes over a domain that are allowed in that run.")
@click.option("--vocabulary", type=int, metavar="N", help="Tokens to learn from text; default: by the models' size.")
@click.option("--tokenizer", type=click.Path(path_type=Path), help="Shards, or a tokenizer.json, whose tokens to take.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of design and runs.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change the proxies' recipe.")
@click.option("--runs", type=click.Path(path_type=Path), multiple=True, metavar="CSV", help="Advise from runs that "
              "exist: one table, or one of shares and one of losses. Trains nothing.")  # fmt: skip
@click.option("--test", type=click.Path(path_type=Path), multiple=True, metavar="CSV", help="With --runs: others "
              "to judge the law by.")  # fmt: skip
@click.option("--executor", type=click.Choice(["local", "ray", "slurm"]), default="local", show_default=True,
              help="Where the runs are trained.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1), help="Runs at once; default: as many as this machine does best.")
@click.option("--executor-set", "placed", multiple=True, metavar="KEY=VALUE", help="A setting of the executor.")
@click.option("--runs-dir", type=click.Path(path_type=Path), default=Path("runs/mix"), show_default=True,
              help="Folder that all is written to.")  # fmt: skip
@click.option("--html", "page_file", type=click.Path(path_type=Path), help="Where the page goes; default: report.html "
              "there, and with --runs none.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show the runs and their cost; train nothing.")
@output_options("data.mix")
def mix(
    domains: tuple[Path, ...], target: tuple[str, ...], budget: str, proxies: int, check_seeds: int,
    tokens: str | None, epochs: float, vocabulary: int | None, tokenizer: Path | None, seed: int,
    settings: tuple[str, ...], runs: tuple[Path, ...], test: tuple[Path, ...], executor: str, workers: int | None,
    placed: tuple[str, ...], runs_dir: Path, page_file: Path | None, dry_run: bool, output: Output,
) -> None:  # fmt: skip
    """Choose proportions of domains by small runs and their law.

    Trains proxies of many mixtures, fits their losses, and proposes the mixture that brings down those that count. What
    it should reach is written down, and only then is it trained, beside natural, uniform, temperature and UniMax
    mixtures. E.g. `isoflop data mix corpus/ --target code=2 --target books`, where corpus/ has a folder or file of
    text, or a folder of shards, for each domain. Stopped anywhere, the same command goes on.
    """
    from isoflop.cli import data_mix_view as view

    if bool(runs) == bool(domains):
        raise UsageError("give domains to train on, or --runs of a table to advise from, and not both")
    if runs:
        view.from_tables(runs, test, target, output=output, page_file=page_file, seed=seed)
        return
    if test:
        raise UsageError("--test judges a law of --runs; runs that are trained here are judged by their check")
    from isoflop import mix_loop
    from isoflop.cli import data_mix_runs as shown
    from isoflop.cli import ladder_view
    from isoflop.cli.ladder import settings_of
    from isoflop.loop import Clock
    from isoflop.train.ladder_trunks import Where

    asked = mix_loop.Asked(
        target=target,
        budget_flop=units.parse(budget, "FLOP", name="--budget"),
        proxies=proxies,
        check_seeds=check_seeds,
        for_tokens=None if tokens is None else units.parse(tokens, "tokens", name="--tokens"),
        epochs=epochs,
        vocabulary=vocabulary,
        tokenizer=tokenizer,
        seed=seed,
        settings=settings,
    )
    if dry_run:
        shown.dry(mix_loop.looked_at(asked, domains, runs_dir), runs_dir, output=output)
        return
    clock, listener = Clock(), ladder_view.listener(output)
    where = Where(executor, settings_of(placed), workers)
    shards = mix_loop.tokens(asked, domains, runs_dir, clock=clock, listener=listener)
    found = mix_loop.choose(asked, shards, runs_dir, clock=clock, listener=listener, where=where)
    shown.show(found, runs_dir, clock.stages, output=output, page_file=page_file)
