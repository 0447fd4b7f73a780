"""How far runs of one size and length but different seeds lie apart, and what each of them then counts in a fit.

Repeats share what the law gets wrong at their point and differ by their noise alone. With misfit variance t^2 and noise
variance s^2 the mean of k repeats has the variance t^2 + s^2 / k; each of them therefore counts (t^2 + s^2) /
(k t^2 + s^2): 1 where there is but one or where noise is all, 1 / k where it is nothing.
"""

from collections import Counter

import numpy as np
from msgspec import Struct

from isoflop.laws.law import Array
from isoflop.laws.resample import points
from isoflop.laws.table import RunTable


class Noise(Struct, frozen=True, kw_only=True):
    """Of log loss, pooled over all points that were repeated.

    Attributes:
        sd: standard deviation of one run around the mean of its point.
        freedom: repeats less points.
        n_points: that were repeated.
    """

    sd: float
    freedom: int
    n_points: int


def pooled(runs: RunTable) -> Noise | None:
    """The noise between repeats; None where there are none."""
    names, log_loss = points(runs), np.log(runs.loss_nats)
    squares, freedom, repeated = 0.0, 0, 0
    for name, count in Counter(names).items():
        if count > 1:
            here = log_loss[np.array(names) == name]
            squares += float(((here - here.mean()) ** 2).sum())
            freedom, repeated = freedom + count - 1, repeated + 1
    return Noise(sd=float(np.sqrt(squares / freedom)), freedom=freedom, n_points=repeated) if freedom else None


def misfit(runs: RunTable, residuals: Array, noise: Noise | None, *, coefficients: int) -> float:
    """Standard deviation of the law's own error at a point: what the means of points are off by beyond their noise.

    Args:
        residuals: (runs,) log predicted - log measured.
        coefficients: of the law that they are from.
    """
    names = np.array(points(runs))
    groups = [names == name for name in dict.fromkeys(names)]
    means = np.array([residuals[group].mean() for group in groups])
    counts = np.array([int(group.sum()) for group in groups])
    spread = float(means @ means) / max(len(means) - coefficients, 1)
    noisy = float(np.mean(noise.sd**2 / counts)) if noise else 0.0
    return float(np.sqrt(max(spread - noisy, 0.0)))


def weights(runs: RunTable, noise: Noise | None, *, misfit_sd: float) -> Array:
    """(runs,) what each counts."""
    names = points(runs)
    count = Counter(names)
    k = np.array([count[name] for name in names], dtype=float)
    s2, t2 = (noise.sd**2 if noise else 0.0), misfit_sd**2
    return (t2 + s2) / (k * t2 + s2) if s2 + t2 > 0 else 1 / k
