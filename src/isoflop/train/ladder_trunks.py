"""The steps of a ladder of trunks and branches: rates, points, noise, law; `train.ladder` forecasts and proves it.

ladder.json   what was asked for, so that two ladders do not meet in one folder
rates.json    the line through the best learning rates, and all that were tried
runs.jsonl    every run, those that are no points of a law among them; `role` tells
law.json, forecast.json, machine.json   as of every ladder
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from msgspec import Struct

from isoflop import stamp, units
from isoflop.errors import FitError, UsageError
from isoflop.files import read_json, write_json
from isoflop.laws.fit import fit
from isoflop.laws.fitted import Fit
from isoflop.laws.noise import Noise, misfit, pooled, weights
from isoflop.laws.rates import NOISE, RateLine, Tried, rate_line
from isoflop.laws.table import RunTable, of_runs
from isoflop.plan.ladder_recipes import Ground, Rate, beyond, limbs, separate, tuning
from isoflop.plan.trunks import Layout
from isoflop.specs.ladder_plan import LadderPlan
from isoflop.specs.run import Run
from isoflop.train.branch import Branch, Rung
from isoflop.train.executors import USUAL
from isoflop.train.ladder import LAW, Climb, Setup
from isoflop.train.sweep import SweepEvent, sweep

LADDER, RATES = "ladder.json", "rates.json"
MORE_RATES = 3  # a size, at most
FIRST_DRAWS = 20  # of the fit that only tells how far the law misses its points

Resume: TypeAlias = Literal["auto", "must", "never"]
Listening: TypeAlias = Callable[[SweepEvent], None]


class Where(NamedTuple):
    """Who trains: an executor by its name, its settings, and how many workers; None takes what was measured best."""

    executor: str = USUAL
    settings: Mapping[str, str] = {}
    workers: int | None = None


class Ascent(Struct, frozen=True, kw_only=True):
    """All that a ladder of trunks found.

    Attributes:
        climb: runs, law, forecast.
        rates: None where they were not tried.
        misfit_sd: of log loss, what the law misses its points by beyond their noise.
        compute_flop: 6 N D of all that was trained.
        separate_flop: of the points alone, had each been a run of its own.
        points_flop: what they cost.
        flagged: a sentence for each point that is too short for the rules.
    """

    climb: Climb
    layout: Layout
    rates: RateLine | None
    noise: Noise | None
    misfit_sd: float
    compute_flop: float
    separate_flop: float
    points_flop: float
    flagged: list[str]

    @property
    def saved_fraction(self) -> float:
        """Share of the compute of separate runs that the points did not cost."""
        return 1 - self.points_flop / self.separate_flop


def claim(folder: Path, plan: LadderPlan, *, resume: Resume) -> None:
    """Take a folder for this ladder, or go on with the same one in it.

    Raises:
        UsageError: another ladder lies there, or one shall lie there and none does, or the other way about.
    """
    path = folder / LADDER
    if not path.exists():
        if resume == "must":
            raise UsageError(f"{folder}: no ladder to go on with. Leave --resume must out to begin one")
        write_json(path, plan)
        return
    if resume == "never":
        raise UsageError(f"{folder}: a ladder lies here already. Choose another --runs-dir, or let it go on")
    before = read_json(path, LadderPlan)
    for name in plan.__struct_fields__:
        if (ours := getattr(plan, name)) != (theirs := getattr(before, name)):
            raise UsageError(
                f"{folder}: holds another ladder, whose {name} is {theirs}, and here it is {ours}. Choose another "
                "--runs-dir, or ask for the same as before"
            )


def find_rates(
    layout: Layout, ground: Ground, *, folder: Path, made: Setup, where: Where, on_event: Listening
) -> tuple[list[Run], RateLine | None]:
    """Try the rates, more of them where the best is the last one tried, and fit their line; `rates.json`.

    Raises:
        FitError: at some size fewer than three rates ended well.
    """
    recipes = tuning(layout, ground)
    if not recipes:
        return [], None
    while True:
        runs = swept(recipes, folder=folder, made=made, where=where, on_event=on_event)
        tried = [
            Tried(n_params=run.n_params, learning_rate=run.learning_rate or 0.0, loss_nats=_loss(run)) for run in runs
        ]
        line = rate_line(tried, noise=NOISE)
        most = (layout.plan.swept_rates + MORE_RATES) * len(line.best)
        further = beyond(layout, ground, line) if len(recipes) < most else []
        if not further:
            break
        recipes += further
    write_json(folder / RATES, line)
    return runs, line


def train_points(
    layout: Layout, ground: Ground, rate: Rate, *, folder: Path, made: Setup, where: Where, on_event: Listening
) -> list[Run]:
    """Trunks and branches, or, of a grid, runs of their own."""
    rungs: list[Rung] = []
    if layout.plan.design == "grid":
        rungs += separate(layout, ground, rate)
    else:
        for limb in limbs(layout, ground, rate):
            branches = [
                Branch(
                    name=name, trunk=limb.trunk, step=point.branches_at, cooldown_steps=point.cooldown_steps, role="fit"
                )
                for name, point in limb.points
            ]
            rungs += [limb.trunk, *branches]
    return swept(rungs, folder=folder, made=made, where=where, on_event=on_event)


def fit_law(runs: Sequence[Run], *, folder: Path) -> tuple[Fit, Noise | None, float]:
    """Fit the law to the points, repeats weighed by what they tell apart from each other; `law.json`.

    Raises:
        FitError: too few of them finished; the message names those that did not.
    """
    table = of_runs(runs, counts="total", source=str(folder))
    inputs = {run.id: run.key or "" for run in runs}
    try:
        noise = pooled(table) if table.size else None
        first = fit(table, weights=weights(table, None, misfit_sd=1.0), draws=FIRST_DRAWS)
        seen, residuals = _seen(table, first)
        wrong = misfit(seen, residuals, noise, coefficients=len(first.law.coefficients))
        law = fit(table, weights=weights(table, noise, misfit_sd=wrong), cluster="point", stamp=stamp.make(inputs))
    except FitError as error:
        lost = "; ".join(f"{run.id}: {run.status} {run.note}" for run in runs if run.status != "finished")
        raise FitError(f"{error}{f' Not finished: {lost}' if lost else ''}") from error
    write_json(folder / LAW, law)
    return law, noise, wrong


def _seen(table: RunTable, law: Fit) -> tuple[RunTable, np.ndarray]:
    """The runs that a fit has seen, with its residuals."""
    seen = table.only(np.array([label in law.residuals for label in table.labels]))
    return seen, np.array([law.residuals[label] for label in seen.labels])


def ascent(climb: Climb, layout: Layout, *, rates: RateLine | None, noise: Noise | None, misfit_sd: float) -> Ascent:
    """Everything in one value, its compute counted from the runs."""
    points = [run for run in climb.runs if run.role in ("fit", "trunk")]
    return Ascent(
        climb=climb,
        layout=layout,
        rates=rates,
        noise=noise,
        misfit_sd=misfit_sd,
        compute_flop=sum(spent(run) for run in climb.runs),
        separate_flop=sum(run.flop for run in points if run.role == "fit") or 1.0,
        points_flop=sum(spent(run) for run in points),
        flagged=list(layout.flagged()),
    )


def spent(run: Run) -> float:
    """6 N D of the run's own steps."""
    return run.flop if run.spent_flop is None else run.spent_flop


def epochs(layout: Layout, *, unique_tokens: float) -> str:
    """What to say where the text is shorter than the longest run; "" where it is not."""
    times = layout.longest_tokens / unique_tokens
    if times <= 1:
        return ""
    return (
        f"the longest run takes {units.show(layout.longest_tokens, 'tokens')} tokens, {times:.1f} times the "
        f"{units.show(unique_tokens, 'tokens')} there are: the text is read again"
        + (". Beyond 4 times repeated tokens are worth less than new ones (arXiv:2305.16264)" if times > 4 else "")
    )


def swept(rungs: Sequence[Rung], *, folder: Path, made: Setup, where: Where, on_event: Listening) -> list[Run]:
    """Train runs where it was asked for, by as many workers as this machine does best if nobody said how many."""
    return sweep(
        rungs,
        runs_dir=folder,
        workers=where.workers or made.choice.workers,
        threads=made.choice.threads,
        peak_flop_per_s=made.peak_flop_per_s,
        on_event=on_event,
        executor=where.executor,
        settings=where.settings,
    )


def _loss(run: Run) -> float | None:
    return run.loss_nats if run.status == "finished" else None
