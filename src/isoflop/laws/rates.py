"""The learning rate of every size of a ladder, from a few rates tried at a few sizes.

At each size a parabola through the best rate and its neighbours, loss against log rate, has its lowest point at the
best rate; a line log rate = a + b log N through those points gives the rate of the other sizes. Three sizes within a
factor of three say little of b, and the largest rung lies a factor of twenty away: b therefore leans on what larger
sweeps found, by a normal prior at -1/3 with a standard deviation of 0.1, which holds Step Law's -0.41 at tokens in
proportion to N (-0.713 + 0.307; Li et al. 2025, arXiv:2503.04715) and OLMo-core's -1/3.
"""

from collections.abc import Sequence
from math import exp, hypot, log, sqrt
from statistics import NormalDist

import numpy as np
from msgspec import Struct

from isoflop.errors import FitError
from isoflop.specs.interval import Interval

SLOPE, SLOPE_SD = -1 / 3, 0.1
NOISE = 0.008  # of log loss, between five seeds of 21k parameters and 212k tokens; the shortest rungs scatter most
_LEAST_CURVATURE = 0.01  # of log loss, per squared e-fold of rate: a bowl flatter than that has no lowest point


class Tried(Struct, frozen=True, kw_only=True):
    """One run of a sweep of rates; the loss is None where it diverged."""

    n_params: float
    learning_rate: float
    loss_nats: float | None


class BestRate(Struct, frozen=True, kw_only=True):
    """Of one size.

    Attributes:
        edge: the best of the rates tried is the "smallest" or the "largest" of them; "" where others lie on both sides.
        tried: all of this size, by rate.
    """

    n_params: float
    learning_rate: Interval
    edge: str
    tried: list[Tried]


class RateLine(Struct, frozen=True, kw_only=True):
    """log rate = a + b log N.

    Attributes:
        covariance: of a at the sweep's mean log N, and of b.
        centre: that mean.
    """

    a: float
    b: float
    centre: float
    covariance: list[list[float]]
    best: list[BestRate]
    level: float
    warnings: list[str]

    def at(self, n_params: float) -> Interval:
        """The rate of a size."""
        x = log(n_params) - self.centre
        (aa, ab), (_, bb) = self.covariance
        sd = sqrt(max(aa + 2 * x * ab + x * x * bb, 0.0))
        middle = self.a + self.b * log(n_params)
        half = NormalDist().inv_cdf((1 + self.level) / 2) * sd
        return Interval(value=exp(middle), lo=exp(middle - half), hi=exp(middle + half), level=self.level)


def rate_line(tried: Sequence[Tried], *, noise: float = NOISE, level: float = 0.9) -> RateLine:
    """Fit the line.

    Args:
        noise: standard deviation of log loss between seeds.

    Raises:
        FitError: no size has three runs that ended well.
    """
    sizes = sorted({run.n_params for run in tried})
    found = [best_rate([run for run in tried if run.n_params == n], noise=noise, level=level) for n in sizes]
    x = np.log([each.n_params for each, _ in found])
    y = np.log([each.learning_rate.value for each, _ in found])
    sd = np.array([spread for _, spread in found])
    centre = float(x.mean())
    basis = np.stack([np.ones_like(x), x - centre], axis=1)
    information = basis.T @ (basis / sd[:, None] ** 2) + np.diag([0.0, SLOPE_SD**-2])
    covariance = np.linalg.inv(information)
    middle, slope = covariance @ (basis.T @ (y / sd**2) + np.array([0.0, SLOPE * SLOPE_SD**-2]))
    return RateLine(
        a=float(middle - slope * centre),
        b=float(slope),
        centre=centre,
        covariance=covariance.tolist(),
        best=[each for each, _ in found],
        level=level,
        warnings=[_told(each) for each, _ in found if each.edge],
    )


def best_rate(tried: Sequence[Tried], *, noise: float, level: float) -> tuple[BestRate, float]:
    """The best rate of one size, and its standard deviation in logs.

    Raises:
        FitError: fewer than three of its runs ended well.
    """
    runs = sorted(tried, key=lambda run: run.learning_rate)
    u = np.array([log(run.learning_rate) for run in runs if run.loss_nats])
    v = np.array([log(run.loss_nats) for run in runs if run.loss_nats])
    if len(u) < 3:
        raise FitError(
            f"{runs[0].n_params:,.0f} parameters: {len(u)} of {len(runs)} learning rates ended well; a parabola needs 3"
        )
    low = int(v.argmin())
    edge = "smallest" if low == 0 else "largest" if low == len(u) - 1 else ""
    first = min(max(low - 1, 0), len(u) - 3)
    centre, sd = _vertex(u[first : first + 3], v[first : first + 3], noise)
    if edge:  # beyond what was tried there is nothing but a guess: one step of the sweep
        step = float(np.diff(u).mean())
        centre, sd = float(np.clip(centre, u[0] - step, u[-1] + step)), hypot(sd, step)
    half = NormalDist().inv_cdf((1 + level) / 2) * sd
    rate = Interval(value=exp(centre), lo=exp(centre - half), hi=exp(centre + half), level=level)
    return BestRate(n_params=runs[0].n_params, learning_rate=rate, edge=edge, tried=list(runs)), sd


def _vertex(u: np.ndarray, v: np.ndarray, noise: float) -> tuple[float, float]:
    """Lowest point of the parabola through three points, and its standard deviation from the noise of each."""

    def lowest(values: np.ndarray) -> float:
        bend, slope, _ = np.polyfit(u - u[1], values, 2)
        return float(u[1] - slope / (2 * max(bend, _LEAST_CURVATURE)))

    h = 1e-6
    slopes = [(lowest(v + h * np.eye(3)[i]) - lowest(v - h * np.eye(3)[i])) / (2 * h) for i in range(3)]
    spread = noise * float(np.linalg.norm(slopes))
    return lowest(v), min(max(spread, 0.02), float(np.ptp(u)))


def _told(best: BestRate) -> str:
    tried = [run.learning_rate for run in best.tried]
    end = min(tried) if best.edge == "smallest" else max(tried)
    return (
        f"{best.n_params:,.0f} parameters: the best learning rate, {end:.3g}, is the {best.edge} tried; the optimum "
        "may lie beyond. Try more: --set swept_rates=7"
    )
