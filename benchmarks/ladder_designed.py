"""Does a designed part of a ladder forecast as well as all of it? Finished ladders, nothing is trained.

    python benchmarks/ladder_designed.py runs/ladder runs/ten/* [--share 0.5] [--out designed.txt]

Of each ladder's own points `plan.ladder_designed` chooses those that leave least unknown at the kept-out run, within a
share of the compute: once of the full grid, every point as a run of its own, and once of the branches that the ladder
trained. A published law stands in for the one that is sought, so that no loss of the ladder has a say in the choice.
The law is then fitted to all points and to those chosen, every seed of theirs, and each forecasts the kept-out run.

Printed for each ladder and fit: points, compute over the grid's and over the branches', the forecast with its 90 %
interval, the error, the interval's width, whether it holds the measured loss; with several ladders medians and counts.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from math import log
from pathlib import Path
from statistics import median

from msgspec import Struct
from msgspec.structs import replace

from isoflop.errors import InputError, IsoflopError
from isoflop.files import read_json, read_lines, write_atomic
from isoflop.laws.source import load
from isoflop.plan.ladder_designed import designed
from isoflop.plan.trunks import Layout, laid
from isoflop.specs.interval import Interval
from isoflop.specs.ladder_plan import LadderPlan
from isoflop.specs.run import Run
from isoflop.train.ladder_trunks import fit_law

STAND_IN = "besiroglu-2024"
FITS = ("all", "half of the grid", "half of the branches")


class Row(Struct, frozen=True, kw_only=True):
    """One fit of one ladder; `of_grid` and `of_branches` are its compute over theirs."""

    ladder: str
    fit: str
    points: int
    of_grid: float
    of_branches: float
    forecast: Interval
    measured: float

    @property
    def error(self) -> float:
        """Of log loss."""
        return log(self.forecast.value / self.measured)

    @property
    def width(self) -> float:
        """Of the interval, in log loss."""
        return log(self.forecast.hi / self.forecast.lo)

    @property
    def held(self) -> bool:
        """Whether the interval holds the measured loss."""
        return self.forecast.lo <= self.measured <= self.forecast.hi

    def __str__(self) -> str:
        """A line of the table."""
        said = self.forecast
        return (
            f"{self.ladder:<34} {self.fit:<21} {self.points:>3} {self.of_grid:6.3f} {self.of_branches:6.3f} "
            f"{said.value:8.4f} {said.lo:7.4f} {said.hi:7.4f} {self.measured:8.4f} {self.error:+7.2%} {self.width:6.1%}"
            f"  {'held' if self.held else 'MISS'}"
        )


HEAD = (
    f"{'ladder':<34} {'points':<21} {'':>3} {'grid':>6} {'branch':>6} forecast      lo      hi measured   error  width"
)


def main() -> None:
    """Compare them, one ladder after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ladders", type=Path, nargs="+", help="folders of `isoflop ladder`, or that hold its ladder/")
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rows: list[Row] = []
    print(HEAD)
    for folder in asked.ladders:
        if folder.is_file():
            continue  # what lies beside ladders where a shell lists them
        for row in compared(folder, share=asked.share):
            rows.append(row)
            print(row, flush=True)
    print(told := summary(rows))
    if asked.out:
        write_atomic(asked.out, "\n".join([HEAD, *map(str, rows), told, ""]))


def compared(folder: Path, *, share: float) -> Iterator[Row]:
    """One ladder's fits, all points first.

    Raises:
        InputError: no finished ladder lies there.
    """
    place = folder if (folder / "ladder.json").exists() else folder / "ladder"
    layout = laid(read_json(place / "ladder.json", LadderPlan))
    runs = read_lines(place / "runs.jsonl", Run)
    kept_out = next((run for run in runs if run.role == "held_out" and run.loss_nats), None)
    if kept_out is None or layout.plan.design == "designed":
        raise InputError(f"{place}: a ladder of all its points with a measured kept-out run is needed")
    of_branches = share * layout.points_flop / layout.separate_flop
    for name, part in zip(FITS, (None, share, of_branches), strict=True):
        chosen = layout if part is None else _designed(layout, part)
        yield _row(folder.name, name, layout, chosen, runs, kept_out)


def _designed(layout: Layout, share: float) -> Layout:
    return designed(replace(layout, plan=replace(layout.plan, designed_share=share)), load(STAND_IN))


def _row(ladder: str, name: str, layout: Layout, chosen: Layout, runs: list[Run], kept_out: Run) -> Row:
    wanted = {(size.n_params, size.tokens(point)) for size in chosen.sizes for point in size.points}
    points = [run for run in runs if run.role == "fit" and (run.n_params, run.n_tokens) in wanted]
    with tempfile.TemporaryDirectory() as folder:
        law, _, _ = fit_law(points, folder=Path(folder))
    spent = _spent(layout, wanted)
    return Row(
        ladder=ladder,
        fit=name,
        points=len(wanted),
        of_grid=spent / layout.separate_flop,
        of_branches=spent / layout.points_flop,
        forecast=law.predict(n_params=kept_out.n_params, n_tokens=kept_out.n_tokens, level=0.9),
        measured=float(kept_out.loss_nats or 0.0),
    )


def _spent(layout: Layout, wanted: set[tuple[int, int]]) -> float:
    """Of these points with every seed of theirs; seeds go by a size's place among all sizes."""
    total = 0.0
    for place, size in enumerate(layout.sizes):
        points = tuple(point for point in size.points if (size.n_params, size.tokens(point)) in wanted)
        if points:
            own = replace(size, points=points)
            one = own.separate_flop() if layout.plan.design == "grid" else own.branched_flop()
            total += len(layout.seeds(place)) * one
    return total


def summary(rows: list[Row]) -> str:
    """Medians over ladders, fit by fit."""
    lines = ["", f"medians of {len(rows) // len(FITS)} ladders (error without sign):"]
    for name in FITS:
        these = [row for row in rows if row.fit == name]
        lines.append(
            f"{name:<21} compute {median(r.of_grid for r in these):.3f} of the grid, "
            f"{median(r.of_branches for r in these):.3f} of the branches; error "
            f"{median(abs(r.error) for r in these):.2%}, width {median(r.width for r in these):.1%}, held "
            f"{sum(r.held for r in these)} of {len(these)}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        main()
    except IsoflopError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
