"""What the meter found of a run, in words: predicted beside measured, and where the time went."""

from isoflop import units
from isoflop.cli.shell import Printer
from isoflop.specs.run import Predicted, Run

_Quantity = tuple[str, units.Dimension, float | None, float | None, float | None, float | None]


def beside(run: Run) -> list[list[str]]:
    """Rows of quantity, predicted, its interval, measured, measured over predicted."""
    said = run.predicted or Predicted()
    quantities: list[_Quantity] = [
        ("memory", "bytes", said.memory_bytes, said.memory_bytes_lo, said.memory_bytes_hi, run.memory_bytes),
        ("tokens/s", "tokens", said.tokens_per_s, said.tokens_per_s_lo, said.tokens_per_s_hi, run.tokens_per_s),
    ]
    return [_row(*quantity) for quantity in quantities if quantity[2] is not None and quantity[5] is not None]


def _row(
    name: str, dimension: units.Dimension, value: float | None, lo: float | None, hi: float | None,
    measured: float | None,
) -> list[str]:  # fmt: skip
    assert value is not None
    assert measured is not None
    between = "" if lo is None or hi is None else f"{units.show(lo, dimension)} to {units.show(hi, dimension)}"
    return [name, units.show(value, dimension), between, units.show(measured, dimension), f"{measured / value:.2f}"]


def print_meter(printer: Printer, run: Run) -> None:
    """Two tables and what was not predicted, as far as the run knows them."""
    if rows := beside(run):
        printer.table("Predicted and measured", ["", "predicted", "interval", "measured", "measured / predicted"], rows)
    for reason in run.predicted.without if run.predicted else ():
        printer.line(f"no prediction of {reason}")
    if run.time_shares and run.wall_s:
        shares = sorted(run.time_shares.items(), key=lambda pair: -pair[1])
        table = [[name, units.show(share * run.wall_s, "s"), f"{share:.1%}"] for name, share in shares]
        printer.table(f"Where {units.show(run.wall_s, 's')} went", ["", "time", "of all"], table)
    if run.expert_load is not None:
        printer.line(f"the busiest expert took {run.expert_load:.2f} times the mean of its block")
