"""The steps of a ladder: train its rungs, fit the law, write the forecast of the proof, and only then train the proof.

The order is the point. When `forecast.json` is written, the run it speaks of has not begun; it holds the hash of the
law it came from, and it is never written again for the same law.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from isoflop import stamp
from isoflop.count.parameters import parameters
from isoflop.errors import FitError
from isoflop.files import read_json, sha256_value, write_json
from isoflop.laws.fit import fit
from isoflop.laws.fitted import Fit
from isoflop.laws.profiles import Approach2, profiles
from isoflop.laws.table import of_runs
from isoflop.specs.interval import Interval
from isoflop.specs.recipe import Recipe
from isoflop.specs.run import Run
from isoflop.stamp import Stamp
from isoflop.train import store
from isoflop.train.choose import Alone, Choice, choose_threads, choose_workers
from isoflop.train.executors import USUAL
from isoflop.train.meter import Machine
from isoflop.train.survey import measure_machine
from isoflop.train.sweep import SweepEvent, sweep

LAW = "law.json"
FORECAST = "forecast.json"
MACHINE = "machine.json"


class Forecast(Struct, frozen=True, kw_only=True):
    """What the law says of a run that the fit has not seen.

    Attributes:
        written: UTC.
        blind: no finished run of the proof lay in the folder when this was written.
        law_sha256: of the coefficients and draws it came from.
        efolds_beyond: log distance of the run from those fitted.
        run_id, measured_nats, measured: filled in afterwards; None until then.
    """

    n_params: int
    n_tokens: int
    compute_flop: float
    loss_nats: Interval
    law_sha256: str
    efolds_beyond: float
    written: str
    blind: bool
    run_id: str | None = None
    measured_nats: float | None = None
    measured: str | None = None
    stamp: Stamp
    schema: Literal["isoflop/forecast@1"] = "isoflop/forecast@1"

    @property
    def held(self) -> bool | None:
        """Whether the measured loss lies in the interval; None until measured."""
        if self.measured_nats is None:
            return None
        return self.loss_nats.lo <= self.measured_nats <= self.loss_nats.hi


class Setup(Struct, frozen=True, kw_only=True):
    """This machine and how its cores are used, measured once per folder so that a ladder begun goes on the same way.

    Attributes:
        choice: of the rungs.
        alone: of the proof; None where none was asked for.
    """

    machine: Machine
    choice: Choice
    alone: Alone | None = None
    schema: Literal["isoflop/machine@1"] = "isoflop/machine@1"

    @property
    def peak_flop_per_s(self) -> float:
        """Measured fp32 matmul rate of one worker while all are busy."""
        return self.machine.peak(precision="fp32", processes=self.choice.workers, threads=self.choice.threads)

    @property
    def proof_threads(self) -> int:
        """Threads of the proof, which is trained alone: as many as were fastest for it."""
        return self.machine.cores if self.alone is None else self.alone.threads

    @property
    def proof_peak_flop_per_s(self) -> float:
        """Measured fp32 matmul rate of the proof's process."""
        cores, threads = self.machine.cores, self.proof_threads
        if threads == cores:
            return self.machine.peak(precision="fp32", processes=1, threads=cores)
        return threads * self.machine.peak(precision="fp32", processes=cores, threads=1)


class Climb(Struct, frozen=True, kw_only=True):
    """All that a ladder found."""

    runs: list[Run]
    law: Fit
    approach_2: Approach2 | None
    forecast: Forecast
    setup: Setup


def setup(folder: Path, rung: Recipe, *, proof: Recipe | None = None) -> Setup:
    """What was measured in this folder before; what was not is measured now and written down.

    Args:
        rung: one that stands for the ladder, to try the ways of using the cores on.
        proof: a run that will have them all to itself, to try that on.
    """
    path = folder / MACHINE
    if path.exists():
        found = read_json(path, Setup)
    else:
        machine = measure_machine(precisions=("fp32",))
        found = Setup(machine=machine, choice=choose_workers(rung, cores=machine.cores))
        write_json(path, found)
    if proof is not None and found.alone is None:
        cores, gpu = found.machine.cores, bool(found.machine.accelerators) and proof.device != "cpu"
        found = replace(found, alone=Alone(threads=cores) if gpu else choose_threads(proof, cores=cores))
        write_json(path, found)
    return found


def rungs_and_law(
    recipes: Sequence[Recipe], *, folder: Path, made: Setup, on_event: Callable[[SweepEvent], None]
) -> tuple[list[Run], Fit, Approach2 | None]:
    """Train the rungs (not the proof), fit both approaches, and write `law.json`.

    Raises:
        FitError: too few of them finished; the message names those that did not.
    """
    fitted_rungs = [recipe for recipe in recipes if recipe.role == "fit"]
    runs = sweep(
        fitted_rungs,
        runs_dir=folder,
        workers=made.choice.workers,
        threads=made.choice.threads,
        peak_flop_per_s=made.peak_flop_per_s,
        on_event=on_event,
    )
    table = of_runs(runs, counts="total", source=str(folder))
    inputs = {run.id: run.key or "" for run in runs}
    try:
        law = fit(table, stamp=stamp.make(inputs))
    except FitError as error:
        lost = "; ".join(f"{d.where}: {d.reason}" for d in table.dropped)
        raise FitError(f"{error}{f' Left out: {lost}' if lost else ''}") from error
    write_json(folder / LAW, law)
    try:
        second = profiles(table)
    except FitError:
        second = None
    return runs, law, second


def forecast(proof: Recipe, law: Fit, *, folder: Path) -> Forecast:
    """Say the proof's loss beforehand and write it down; the same law's forecast is kept as first written."""
    path = folder / FORECAST
    n_params, n_tokens = parameters(proof.model).total, proof.steps * proof.batch_tokens
    law_sha256 = sha256_value([law.law, law.draws, law.spread])
    if path.exists():
        earlier = read_json(path, Forecast)
        if (earlier.law_sha256, earlier.n_params, earlier.n_tokens) == (law_sha256, n_params, n_tokens):
            return earlier
    said = Forecast(
        n_params=n_params,
        n_tokens=n_tokens,
        compute_flop=6.0 * n_params * n_tokens,
        loss_nats=law.predict(n_params=n_params, n_tokens=n_tokens, level=0.9),
        law_sha256=law_sha256,
        efolds_beyond=law.domain.efolds_beyond(n_params=n_params, n_tokens=n_tokens),
        written=stamp.now(),
        blind=not any(run.role == "held_out" and run.status == "finished" for run in store.runs(folder)),
        stamp=stamp.make({LAW: law_sha256}),
    )
    write_json(path, said)
    return said


def prove(
    proof: Recipe, said: Forecast, *, folder: Path, made: Setup, on_event: Callable[[SweepEvent], None],
    executor: str = USUAL, settings: Mapping[str, str] | None = None,
) -> tuple[Run, Forecast]:  # fmt: skip
    """Train the proof, alone, and put its loss beside the forecast.

    Args:
        executor, settings: where; see `sweep`.
    """
    run = sweep(
        [proof],
        runs_dir=folder,
        workers=1,
        threads=proof.threads,
        peak_flop_per_s=made.proof_peak_flop_per_s,
        on_event=on_event,
        executor=executor,
        settings=settings,
    )[0]
    if run.status == "finished" and said.measured_nats is None:
        said = replace(said, run_id=run.id, measured_nats=run.loss_nats, measured=stamp.now())
        write_json(folder / FORECAST, said)
    return run, said


def conclude(
    folder: Path, *, runs: Sequence[Run], law: Fit, second: Approach2 | None, said: Forecast, made: Setup
) -> Climb:
    """Write all runs, the proof among them, to `runs.jsonl`, and give everything back as one value."""
    store.write_sweep(folder, runs)
    return Climb(runs=list(runs), law=law, approach_2=second, forecast=said, setup=made)
