"""`isoflop plan ladder`: which small runs a budget buys, and how much less is unknown with them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from isoflop import units
from isoflop.cli.shell import Output, Printer, output_options
from isoflop.errors import UsageError

if TYPE_CHECKING:
    from isoflop.laws.design import Unknown
    from isoflop.plan.ladder_value import Bought, Value


@click.command("ladder")
@click.option("--budget", required=True, metavar="AMOUNT",
              help="For all runs: FLOP (1e17), or with --gpus dollars ($500) or time (12h).")  # fmt: skip
@click.option(
    "--target", metavar="FLOP", help="The budget one wants to know about, e.g. 1e22; default: 100 times the ladder's."
)
@click.option("--law", help="Stands in until there are runs: a name or law.json; default besiroglu-2024.")
@click.option("--runs", type=click.Path(path_type=Path), help="Runs there are: a folder, runs.jsonl or CSV.")
@click.option("--gpus", metavar="COUNTxDEVICE", help="Devices, one run on each at a time: 8xH100, or your own row.")
@click.option("--price", metavar="USD/H", help="Dollars of one device-hour; default: dated offers of the tables.")
@click.option("--mfu", type=float, help="Share of the dense peak that small runs keep; default: of large ones.")
@click.option("--levels", type=click.IntRange(2, 12), default=4, show_default=True, help="Of the grid.")
@click.option("--sizes", type=click.IntRange(3, 12), default=5, show_default=True, help="Models of a level.")
@click.option("--most", type=click.IntRange(1, 30), default=12, show_default=True, help="Runs of the designed ladder.")
@click.option("--layers", type=click.IntRange(min=1), help="Depth of every model; default: by the budget.")
@click.option("--vocabulary", type=click.IntRange(min=2), help="Of every model; default: by the budget.")
@click.option("--context", type=click.IntRange(min=1), help="Of every model; default: by the budget.")
@click.option("--tables", type=click.Path(path_type=Path, dir_okay=False), help="Your own rows.")
@click.option("--shards", default="shards", show_default=True, help="Folder of the tokens, for --out.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Write the better ladder's recipes here.")
@output_options("plan.ladder")
def ladder_command(
    budget: str, target: str | None, law: str | None, runs: Path | None, gpus: str | None, price: str | None,
    mfu: float | None, levels: int, sizes: int, most: int, layers: int | None, vocabulary: int | None,
    context: int | None, tables: Path | None, shards: str, out: Path | None, output: Output,
) -> None:  # fmt: skip
    """The rungs a budget buys, what they cost, and how much less is unknown at the target with them.

    `isoflop plan ladder --budget 1e17`, or `--budget 12h --gpus 8xH100`. The isoFLOP grid of `isoflop
    ladder` stands beside runs that `isoflop law next` would choose.
    """
    from msgspec.structs import replace

    from isoflop.laws import source
    from isoflop.laws.cautions import FAR
    from isoflop.laws.fit import fit
    from isoflop.laws.table import table
    from isoflop.plan import ladder_value
    from isoflop.plan.question import ask

    if law is not None and runs is not None:
        raise UsageError("--law and --runs are given: with runs of your own the law is fitted to them; keep one")
    read = None if runs is None else table(runs)
    name = law or "besiroglu-2024" if read is None else str(runs)
    fitted = source.load(name) if read is None else fit(read, draws=200)
    asked = _budget(budget, with_devices=gpus is not None)
    question = None
    if gpus is not None:
        question = ask(
            units.parse_devices(gpus, name="--gpus"), asked, mfu=mfu, tables=tables,
            usd_per_device_hour=None if price is None else units.parse(price, "USD", name="--price"),
        )  # fmt: skip
    grid = ladder_value.family(1e14)
    grid = replace(grid, levels=levels, sizes=sizes)
    flop = asked.compute_flop if question is None else ladder_value.affordable(question, grid)
    assert flop is not None
    chosen = ladder_value.family(flop, layers=layers, vocabulary=vocabulary, context=context)
    found = ladder_value.value(
        replace(chosen, levels=levels, sizes=sizes), fitted, law=name, budget_flop=flop,
        target_flop=FAR * flop if target is None else units.parse(target, "FLOP", name="--target"),
        runs=read, question=question, most=most,
        shards=shards,
    )  # fmt: skip
    written = _write(found, out) if out is not None else []
    output.show(_payload(found, flop, written), lambda printer: _print(printer, found, flop, written))


def _budget(text: str, *, with_devices: bool) -> Any:
    """FLOP, dollars or a time, by its unit."""
    from isoflop.specs.plan import Budget

    for dimension, field in (("USD", "cost_usd"), ("s", "wall_s")):
        try:
            value = units.parse(text, dimension, name="--budget")  # type: ignore[arg-type]
        except UsageError:
            continue
        if dimension == "USD" and not any(mark in text.upper() for mark in ("$", "USD", "DOLLAR")):
            continue
        if not with_devices:
            raise UsageError(f"--budget {text!r}: dollars and time need devices; give --gpus, or a budget in FLOP")
        return Budget(**{field: value})
    return Budget(compute_flop=units.parse(text, "FLOP", name="--budget"))


def _write(found: "Value", out: Path) -> list[str]:
    """One recipe a file, numbered in the order of cost."""
    from isoflop.files import write_atomic
    from isoflop.specs.recipe_file import written

    best = next(each for each in found.ladders if each.name == found.best)
    paths = [out / f"{i:02d}-{recipe.name}.toml" for i, recipe in enumerate(best.recipes, 1)]
    for path, recipe in zip(paths, best.recipes, strict=True):
        write_atomic(path, written(recipe))
    return [str(path) for path in paths]


def _unknown(unknown: "Unknown | None") -> dict[str, float] | None:
    if unknown is None:
        return None
    return {
        "log_n_sd": unknown.log_n, "log_n_variance_sd": unknown.log_n_variance, "log_n_bias_sd": unknown.log_n_bias,
        "log_loss_sd": unknown.log_loss, "log_loss_variance_sd": unknown.log_loss_variance,
        "log_loss_bias_sd": unknown.log_loss_bias,
    }  # fmt: skip


def _payload(found: "Value", flop: float, written: list[str]) -> dict[str, Any]:
    return {
        "budget_flop": flop,
        "target_flop": found.target_flop,
        "law": found.law,
        "before": {
            "unknown": _unknown(found.before),
            **found.n_params_before.flat("n_params"),
            **(found.loss_before.flat("loss_nats") if found.loss_before else {"loss_nats": None}),
        },
        "best": found.best,
        "ladders": [_plain(each) for each in found.ladders],
        "written": written,
        "warnings": found.warnings,
    }


def _plain(each: "Bought") -> dict[str, Any]:
    from isoflop.plan.ladder import total_flop

    return {
        "name": each.name,
        "proved": each.proved,
        "compute_flop": each.compute_flop,
        "model_flop": each.model_flop,
        "wall_s": each.wall_s,
        "device_hours": each.device_hours,
        "cost_usd": each.cost_usd,
        "unknown": _unknown(each.after),
        **each.n_params.flat("n_params"),
        **each.loss_nats.flat("loss_nats"),
        "runs": [
            {"name": r.name, "role": r.role, "n_tokens": r.n_tokens, "width": r.model.width, "layers": r.model.layers,
             "compute_flop": total_flop([r])}
            for r in each.recipes
        ],
    }  # fmt: skip


def _print(printer: Printer, found: "Value", flop: float, written: list[str]) -> None:
    spent, target = (units.show(value, "FLOP") for value in (flop, found.target_flop))
    printer.line(f"{spent} of small runs, to know more at {target}: {found.best}", style="bold")
    columns = ["", "runs", "dearest", "N* at the target", "loss", "by chance", "by the law's bend", "time", "cost"]
    before = found.n_params_before
    between = f"{units.show(before.lo, 'parameters')} to {units.show(before.hi, 'parameters')}"
    first = ["now" if found.before else "published laws", "-", "-", between, *_parts(found.before), "-", "-"]
    printer.table("", columns, [_shorter(first, found), *(_row(each) for each in found.ladders)])
    for each in found.ladders:
        kept = "its proof is kept out of the first fit" if each.proved else "no run is kept out as a proof"
        printer.line(f"{each.name} ({kept}): {', '.join(recipe.name for recipe in each.recipes)}")
    for text in found.warnings:
        printer.warn(text)
    for path in written:
        printer.line(path)


def _shorter(first: list[str], found: "Value") -> list[str]:
    loss = "-" if found.loss_before is None else f"{found.loss_before.lo:.3f} to {found.loss_before.hi:.3f}"
    return [*first[:4], loss, *first[4:]]


def _parts(unknown: "Unknown | None") -> list[str]:
    """N* by a factor and the loss in per cent, one standard deviation each."""
    from math import exp

    if unknown is None:
        return ["-", "-"]
    pairs = (
        (unknown.log_n_variance, unknown.log_loss_variance),
        (unknown.log_n_bias, unknown.log_loss_bias),
    )
    return [f"x{exp(min(n, 20)):.3g}, {100 * loss:.2g} %" for n, loss in pairs]


def _row(each: "Bought") -> list[str]:
    from isoflop.plan.ladder import total_flop

    n, loss = each.n_params, each.loss_nats
    return [
        each.name,
        str(len(each.recipes)),
        units.show(max(total_flop([recipe]) for recipe in each.recipes), "FLOP"),
        f"{units.show(n.lo, 'parameters')} to {units.show(n.hi, 'parameters')}",
        f"{loss.lo:.3f} to {loss.hi:.3f}",
        *_parts(each.after),
        "-" if each.wall_s is None else units.show(each.wall_s, "s"),
        "-" if each.cost_usd is None else units.show(each.cost_usd, "USD"),
    ]
