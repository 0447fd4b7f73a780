"""A mixture by law, put to the proof: train proxies, fit, choose, say the losses of the check, and only then train it.

runs.jsonl       every run
table.csv        shares and losses of the proxies, as `isoflop data mix --runs` reads them
advice.json      the choice and how far to trust it
forecast.json    what the law says of the check, with the hash of the table it came from, and what was measured
mixture.toml     the chosen mixture as a recipe takes it

The order is the point: when `forecast.json` is written no run of the check has begun, and for the same table and target
it is never written again.
"""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import NormalDist, fmean
from typing import Literal, TypeAlias

import numpy as np
import tomli_w
from msgspec import Struct
from msgspec.structs import replace

from isoflop import stamp
from isoflop.errors import FitError
from isoflop.files import read_json, sha256_value, write_atomic, write_json
from isoflop.laws.law import Array
from isoflop.laws.mixture import MixtureLaw
from isoflop.laws.mixture_advice import Advice, Noise
from isoflop.laws.mixture_table import LOSS, SHARE, MixtureTable
from isoflop.laws.mixture_trust import new_runs, noise_of_repeats
from isoflop.laws.uncertainty import student_quantile
from isoflop.plan.ladder_recipes import Ground
from isoflop.plan.mixture_design import rounded
from isoflop.plan.mixture_plan import CHOSEN, MixturePlan, Trial
from isoflop.specs.interval import Interval
from isoflop.specs.run import Run
from isoflop.stamp import Stamp
from isoflop.train import store
from isoflop.train.ladder import Setup
from isoflop.train.ladder_trunks import Listening, Where, swept

TABLE, ADVICE, FORECAST, MIXTURE = "table.csv", "advice.json", "forecast.json", "mixture.toml"
CLEAR = 0.95  # probability that two runs of one mixture differ by less

Verdict: TypeAlias = Literal["better", "as good", "worse"]


class Said(Struct, frozen=True, kw_only=True):
    """The weighted loss of one mixture of the check, said beforehand, and what came of it.

    Attributes:
        runs: ids, a run a seed; shared with another mixture that comes to the same.
        by_run: what each of them measured.
        measured_nats: mean over those that finished; None until one has.
        losses: the same by domain.
    """

    mixture: str
    source: str
    shares: dict[str, float]
    loss_nats: Interval
    runs: list[str] = []
    by_run: list[float] = []
    measured_nats: float | None = None
    losses: dict[str, float] = {}

    @property
    def held(self) -> bool | None:
        """Whether the measured loss lies in the interval of one run; None until measured."""
        if self.measured_nats is None:
            return None
        return self.loss_nats.lo <= self.measured_nats <= self.loss_nats.hi


class MixForecast(Struct, frozen=True, kw_only=True):
    """What the law says of the check.

    Attributes:
        written: UTC.
        blind: no finished run of the check lay in the folder when this was written.
        law_sha256: of the table, the target and the choice.
        measured: UTC; None until then.
    """

    written: str
    blind: bool
    law_sha256: str
    checks: list[Said]
    measured: str | None = None
    stamp: Stamp
    schema: Literal["isoflop/mix-forecast@1"] = "isoflop/mix-forecast@1"


class Mix(Struct, frozen=True, kw_only=True):
    """All that was found."""

    plan: MixturePlan
    runs: list[Run]
    table: MixtureTable
    law: MixtureLaw
    advice: Advice
    forecast: MixForecast

    @property
    def chosen(self) -> Said:
        """Of the check."""
        return self.forecast.checks[0]

    @property
    def noise(self) -> Noise:
        """Between seeds, by the repeats of the proxies and of the check together."""
        weights = np.array([self.advice.target.get(name, 0.0) for name in self.table.targets])
        groups = [row.tobytes().hex() for row in self.table.shares_RD]
        losses = (self.table.losses_RT @ weights).tolist()
        for each in {tuple(each.runs): each for each in self.forecast.checks}.values():
            groups += [each.mixture] * len(each.by_run)
            losses += each.by_run
        found = noise_of_repeats(groups, losses)
        return self.advice.noise if found is None else Noise(sd=found[0], freedom=found[1])

    def verdict(self, other: Said) -> Verdict | None:
        """What the choice is beside another mixture, as measured; None where either was not."""
        ours, theirs = self.chosen.measured_nats, other.measured_nats
        if ours is None or theirs is None:
            return None
        if self.chosen.runs == other.runs:
            return "as good"
        ahead = theirs - ours
        return "as good" if abs(ahead) <= self.clear_nats(other) else "better" if ahead > 0 else "worse"

    def clear_nats(self, other: Said) -> float:
        """Below this a difference between the choice and another mixture is noise."""
        noise, reach = self.noise, NormalDist().inv_cdf((1 + CLEAR) / 2)
        if noise.freedom:
            reach = student_quantile((1 + CLEAR) / 2, freedom=float(noise.freedom))
        runs = 1 / max(len(self.chosen.by_run), 1) + 1 / max(len(other.by_run), 1)
        return reach * noise.sd * math.sqrt(runs) * (self.chosen.measured_nats or self.chosen.loss_nats.value)


def train_proxies(
    plan: MixturePlan,
    folders: Mapping[str, str],
    ground: Ground,
    *,
    folder: Path,
    made: Setup,
    where: Where,
    on_event: Listening,
) -> list[Run]:
    """The runs of the law, in the order of the plan."""
    return _sweep(plan, plan.trials, folders, ground, folder=folder, made=made, where=where, on_event=on_event)


def table_of(plan: MixturePlan, runs: Sequence[Run], *, folder: Path) -> MixtureTable:
    """Shares and losses of the proxies that finished; `table.csv`.

    Raises:
        FitError: none did.
    """
    dropped = [f"{run.id}: {run.status} {run.note}".strip() for run in runs if not _finished(run)]
    kept = [(trial, run) for trial, run in zip(plan.trials, runs, strict=True) if _finished(run)]
    if not kept:
        raise FitError(f"no proxy finished: {'; '.join(dropped[:3])}")
    table = MixtureTable(
        domains=plan.domains,
        targets=plan.domains,
        shares_RD=np.array([trial.shares for trial, _ in kept]),
        losses_RT=np.array([_losses(run, plan.domains) for _, run in kept]),
        labels=tuple(run.id for _, run in kept),
        dropped=tuple(dropped),
        source=str(folder),
        sha256=sha256_value([(run.key, _losses(run, plan.domains)) for _, run in kept]),
    )
    write_atomic(folder / TABLE, _csv(table, seeds=[trial.seed for trial, _ in kept]))
    return table


def _csv(table: MixtureTable, *, seeds: Sequence[int]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    shares, losses = [f"{SHARE}{name}" for name in table.domains], [f"{LOSS}{name}" for name in table.targets]
    writer.writerow(["run", "seed", *shares, *losses])
    for label, seed, share, loss in zip(table.labels, seeds, table.shares_RD, table.losses_RT, strict=True):
        writer.writerow([label, seed, *map(float, share), *map(float, loss)])
    return out.getvalue()


def forecast(plan: MixturePlan, table: MixtureTable, law: MixtureLaw, advice: Advice, *, folder: Path) -> MixForecast:
    """Say the losses of the check beforehand and write them down; those of the same law are kept as first written."""
    chosen = rounded(advice.shares[None])[0]
    law_sha256 = sha256_value([table.sha256, sorted(advice.target.items()), [float(share) for share in chosen]])
    path = folder / FORECAST
    if path.exists() and (earlier := read_json(path, MixForecast)).law_sha256 == law_sha256:
        return earlier
    sources = {CHOSEN: "by the law"} | {rule.name: rule.source for rule in plan.rules}
    checks = plan.checks(chosen)
    shares = np.array([trials[0].shares for trials in checks.values()])
    said = MixForecast(
        written=stamp.now(),
        blind=not _any_ended(plan, {trial.name for trials in checks.values() for trial in trials}, folder),
        law_sha256=law_sha256,
        checks=[
            Said(
                mixture=name,
                source=sources[name],
                shares=dict(zip(plan.domains, map(float, row), strict=True)),
                loss_nats=interval,
            )
            for name, row, interval in zip(checks, shares, new_runs(law, advice.target, shares), strict=True)
        ],
        stamp=stamp.make({TABLE: table.sha256}),
    )
    write_json(path, said)
    write_json(folder / ADVICE, advice)
    return said


def _any_ended(plan: MixturePlan, names: set[str], folder: Path) -> bool:
    """Whether a run of one of these names, of the plan's size and length, has finished here."""
    size = (plan.n_params, plan.run_tokens)
    return any(
        run.status == "finished" and run.id.rpartition("-")[0] in names and (run.n_params, run.n_tokens) == size
        for run in store.runs(folder)
    )


def prove(
    plan: MixturePlan,
    said: MixForecast,
    target: Mapping[str, float],
    folders: Mapping[str, str],
    ground: Ground,
    *,
    folder: Path,
    made: Setup,
    where: Where,
    on_event: Listening,
) -> tuple[list[Run], MixForecast]:
    """Train the check and put its losses beside the forecast."""
    checks = plan.checks(np.array(list(said.checks[0].shares.values())))
    trials = list({trial.name: trial for each in checks.values() for trial in each}.values())
    runs = _sweep(plan, trials, folders, ground, folder=folder, made=made, where=where, on_event=on_event)
    by_name = {trial.name: run for trial, run in zip(trials, runs, strict=True)}
    measured = [
        _measured(each, [by_name[trial.name] for trial in checks[each.mixture]], target, plan.domains)
        for each in said.checks
    ]
    said = replace(said, checks=measured, measured=said.measured or stamp.now())
    write_json(folder / FORECAST, said)
    return runs, said


def _measured(said: Said, runs: Sequence[Run], target: Mapping[str, float], domains: Sequence[str]) -> Said:
    kept = [run for run in runs if _finished(run)]
    if not kept:
        return replace(said, runs=[run.id for run in runs])
    by_run = [dict(zip(domains, _losses(run, domains), strict=True)) for run in kept]
    counted = [sum(weight * losses[name] for name, weight in target.items()) for losses in by_run]
    return replace(
        said,
        runs=[run.id for run in kept],
        by_run=counted,
        losses={name: fmean(losses[name] for losses in by_run) for name in domains},
        measured_nats=fmean(counted),
    )


def write_mixture(plan: MixturePlan, shares: Array, folders: Mapping[str, str], *, folder: Path) -> Path:
    """The table `[data]` of a recipe with these shares; `mixture.toml`."""
    path = folder / MIXTURE
    sources = [
        {"name": name, "shards": folders[name], "weight": float(share)}
        for name, share in zip(plan.domains, rounded(shares[None])[0], strict=True)
    ]
    write_atomic(path, tomli_w.dumps({"data": {"sources": sources}}))
    return path


def _sweep(
    plan: MixturePlan,
    trials: Sequence[Trial],
    folders: Mapping[str, str],
    ground: Ground,
    *,
    folder: Path,
    made: Setup,
    where: Where,
    on_event: Callable[..., None],
) -> list[Run]:
    recipes = [plan.recipe(trial, folders, ground) for trial in trials]
    return swept(recipes, folder=folder, made=made, where=where, on_event=on_event)


def _finished(run: Run) -> bool:
    return run.status == "finished" and bool(run.sources)


def _losses(run: Run, domains: Sequence[str]) -> list[float]:
    """By domain, nats per token."""
    read = run.sources or {}
    return [float(loss) for name in domains if (loss := read[name].loss_nats) is not None]
