"""All that a report draws from: plain values, filled by whoever ran the loop, the same on every machine."""

import math
from typing import Literal, TypeAlias

from msgspec import Struct

from isoflop.errors import InputError
from isoflop.specs.interval import Interval
from isoflop.specs.run import Run
from isoflop.stamp import Stamp

Standing: TypeAlias = Literal["fitted", "held_out", "left_out"]
"""What a run is to the law: seen by the fit, kept out as its proof, or left out (diverged, unfinished, dropped)."""


class Measurement(Struct, frozen=True, kw_only=True):
    """One line of a run's `metrics.jsonl`; other fields of the line are passed over.

    Attributes:
        kind: "train" (the step's batch) or "validation".
        loss_nats: None where it was not a number.
    """

    n_tokens: float
    kind: str
    loss_nats: float | None = None
    step: int | None = None


class FrontierPoint(Struct, frozen=True, kw_only=True):
    """The best that `compute_flop` can buy by the law."""

    compute_flop: float
    loss_nats: Interval
    n_params: Interval
    n_tokens: Interval


class Contour(Struct, frozen=True, kw_only=True):
    """One line of equal loss: (points,) parameters and (points,) tokens."""

    loss_nats: float
    n_params: list[float]
    n_tokens: list[float]


class Backtest(Struct, frozen=True, kw_only=True):
    """One rolling origin: the same procedure on the cheaper runs only, judged on the dearer ones after the fact.

    Attributes:
        max_compute_flop: the largest run that fit saw.
        n_runs: how many it saw.
        n_ahead: how many it was judged on.
        median_error: of |log forecast - log measured|.
        bias: mean of log forecast - log measured; above 0 the forecast was too dark.
    """

    max_compute_flop: float
    n_runs: int
    n_ahead: int
    median_error: float
    bias: float


class Law(Struct, frozen=True, kw_only=True):
    """A fitted law as the report shows it.

    Attributes:
        formula: plain text, e.g. "L(N, D) = E + A / N^alpha + B / D^beta".
        coefficients: by the name they have in `formula`, in the order of the table.
        exponents: by how the fit was done ("L(N, D)", "isoFLOP parabolas") -> the a of N* ~ C^a.
        token_exponents: the same for the b of D* ~ C^b.
        tokens_per_parameter: D*/N* at `compute_flop`.
        counts: which parameters N counts.
        predicted_nats: run id -> the law's loss; its keys among the fit's runs give the residuals.
        fitted: ids of the runs the fit saw.
        outliers: ids of runs further from the law than noise explains.
        max_compute_flop: of the largest run the fit saw, for a law whose runs are not at hand.
        frontier: by rising compute; may reach beyond the runs, the figures mark where.
    """

    name: str
    formula: str
    coefficients: dict[str, Interval]
    fitted: list[str]
    exponents: dict[str, Interval] = {}
    token_exponents: dict[str, Interval] = {}
    tokens_per_parameter: Interval | None = None
    compute_flop: float | None = None
    counts: str = "unknown"
    source: str = ""
    predicted_nats: dict[str, float] = {}
    outliers: list[str] = []
    max_compute_flop: float | None = None
    frontier: list[FrontierPoint] = []
    contours: list[Contour] = []
    backtests: list[Backtest] = []


class ProfilePoint(Struct, frozen=True, kw_only=True):
    """One run of an isoFLOP profile."""

    run_id: str
    n_params: float
    loss_nats: float


class Profile(Struct, frozen=True, kw_only=True):
    """Runs of one compute level and the parabola through them.

    Attributes:
        parabola: (c0, c1, c2) of c0 + c1 x + c2 x**2 with x = ln N; None where too few runs carry one.
        minimum: its lowest point, parameters.
        minimum_nats: the loss there.
        flag: why the minimum is not to be trusted (it lies at the edge of the sizes tried); "" where it is.
    """

    compute_flop: float
    points: list[ProfilePoint]
    parabola: tuple[float, float, float] | None = None
    minimum: Interval | None = None
    minimum_nats: float | None = None
    flag: str = ""


class Forecast(Struct, frozen=True, kw_only=True):
    """A loss said beforehand, and what was measured.

    Attributes:
        made_at: UTC time in ISO 8601 at which the forecast was written.
        measured_nats: None while the run has not been read.
        measured_at: UTC time at which the measurement was written.
    """

    run_id: str
    compute_flop: float
    n_params: float
    n_tokens: float
    forecast_nats: Interval
    made_at: str | None = None
    measured_nats: float | None = None
    measured_at: str | None = None

    @property
    def held(self) -> bool | None:
        """Whether the measurement lies in the interval; None while there is none."""
        if self.measured_nats is None:
            return None
        return self.forecast_nats.lo <= self.measured_nats <= self.forecast_nats.hi


class Plan(Struct, frozen=True, kw_only=True):
    """What one law says the budget should train; a value without an interval is a bare number, unknown is None.

    Attributes:
        law: whose law, as the head of the column.
        extrapolation: compute of the plan over the largest run the law has seen.
    """

    law: str
    n_params: float | Interval
    n_tokens: float | Interval
    loss_nats: float | Interval | None = None
    compute_flop: float | None = None
    extrapolation: float | None = None
    memory_bytes: float | None = None
    wall_s: float | None = None
    device_hours: float | None = None
    cost_usd: float | Interval | None = None
    carbon_kg: float | Interval | None = None
    warnings: list[str] = []


class Stage(Struct, frozen=True, kw_only=True):
    """One step of the loop and how long it took."""

    name: str
    wall_s: float
    note: str = ""


class Sheet(Struct, frozen=True, kw_only=True):
    """A table that one kind of loop has to show beside its runs; numbers sort as numbers."""

    caption: str
    columns: list[str]
    rows: list[list[str | float]]
    note: str = ""


class Content(Struct, frozen=True, kw_only=True):
    """One closed loop.

    Attributes:
        title: the page's headline.
        text_source: what the models learned, e.g. "the standard library of Python 3.11 (10.1 MB)".
        tokenizer: how it was cut, in a few words.
        curves: run id -> its metrics.
        plan_question: the budget the plans answer, e.g. "8xH100 for 7 days".
    """

    title: str
    runs: list[Run]
    text_source: str = ""
    tokenizer: str = ""
    curves: dict[str, list[Measurement]] = {}
    law: Law | None = None
    profiles: list[Profile] = []
    forecasts: list[Forecast] = []
    plan_question: str = ""
    plans: list[Plan] = []
    stages: list[Stage] = []
    sheets: list[Sheet] = []
    warnings: list[str] = []
    stamp: Stamp | None = None

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for run in self.runs:
            if run.id in seen:
                raise InputError(f"report: two runs are called {run.id!r}; every run needs an id of its own")
            seen.add(run.id)

    def standing(self, run: Run) -> Standing:
        """What `run` is to the law; without a law every finished run counts as fitted."""
        if run.status != "finished" or not measured(run):
            return "left_out"
        if run.role == "held_out":
            return "held_out"
        return "fitted" if self.law is None or run.id in self.law.fitted else "left_out"

    @property
    def max_compute_flop(self) -> float | None:
        """The largest run of the fit; beyond it the law extrapolates."""
        own = max((run.flop for run in self.runs if self.standing(run) == "fitted"), default=None)
        return self.law.max_compute_flop if own is None and self.law else own


def measured(run: Run) -> bool:
    """Whether the run has a loss that can be drawn."""
    return run.loss_nats is not None and math.isfinite(run.loss_nats) and run.loss_nats > 0
