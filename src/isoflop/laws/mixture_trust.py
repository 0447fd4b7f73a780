"""How far to trust a law of mixtures: the loss of a run not yet trained, and how flat the optimum is.

Left-one-out errors of a Gaussian process have a closed form (Rasmussen and Williams 2006, eq. 5.12): with K the
covariance of the runs and y their log losses, run i misses what the others say of it by [K^-1 y]_i / [K^-1]_ii, with
variance 1 / [K^-1]_ii. Several losses move together from run to run, so the standard deviation of a weighted loss is
that of losses which all err alike, scaled by how large left-one-out errors of the weighted loss really were.

Shapes: R runs, M mixtures asked about, D domains of the mixture, T losses that count.
"""

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from isoflop.errors import InputError
from isoflop.laws.law import Array
from isoflop.laws.mixture import MixtureLaw, around, used_targets
from isoflop.specs.interval import Interval

LEAST_SCALE = 0.5  # errors smaller than half of what the process expects are luck among so few runs
ROUNDS = 4
SPREADS = (1.0, 0.3, 0.1, 0.03)
FEW = 1000  # mixtures looked at around all ends, for each spread


class LeftOut(NamedTuple):
    """What the other runs say of each run's weighted loss.

    Attributes:
        predicted_R, measured_R: nats per token.
        scale: root mean square error over what the process expects if all losses err alike.
    """

    predicted_R: Array
    measured_R: Array
    scale: float

    @property
    def error(self) -> float:
        """Root mean square of log predicted - log measured."""
        return float(np.sqrt(np.mean(np.log(self.predicted_R / self.measured_R) ** 2)))


def left_out(law: MixtureLaw, weights: Mapping[str, float]) -> LeftOut:
    """Every run predicted from the others, the constants of the process held.

    Raises:
        UnknownNameError: a weight for a loss that was not measured.
    """
    used = used_targets(weights, law.targets)
    losses = law.losses_RT[:, list(used)]
    missed, sd = np.empty_like(losses), np.empty_like(losses)
    for i, t in enumerate(used):
        surface = law.surfaces[t]
        inverse_root = np.linalg.inv(surface.root_RR)
        precision = (inverse_root**2).sum(axis=0)
        missed[:, i] = surface.weights_R / precision
        sd[:, i] = surface.amplitude / np.sqrt(precision)
    weight_T = np.array(list(used.values()))
    measured, predicted = losses @ weight_T, (losses * np.exp(-missed)) @ weight_T
    expected = (losses * sd) @ np.abs(weight_T) / measured
    scale = np.sqrt(np.mean((np.log(predicted / measured) / expected) ** 2))
    return LeftOut(predicted, measured, max(float(scale), LEAST_SCALE))


def new_runs(law: MixtureLaw, weights: Mapping[str, float], mixtures: Array, *, level: float = 0.9) -> list[Interval]:
    """The weighted loss of one new run of each mixture, its noise included.

    Raises:
        UnknownNameError: a weight for a loss that was not measured.
    """
    used = used_targets(weights, law.targets)
    both = [law.surfaces[t].log_loss(np.atleast_2d(mixtures)) for t in used]
    weight_T = np.array(list(used.values()))
    losses = np.exp(np.stack([mean for mean, _ in both], axis=1))
    value = losses @ weight_T
    alike = (losses * np.stack([sd for _, sd in both], axis=1)) @ np.abs(weight_T) / value
    reach = NormalDist().inv_cdf((1 + level) / 2) * left_out(law, weights).scale * alike
    bounds = zip(value, value * np.exp(-reach), value * np.exp(reach), strict=True)
    return [Interval(value=float(v), lo=float(lo), hi=float(hi), level=level) for v, lo, hi in bounds]


def noise_of_repeats(groups: Sequence[str], losses: Sequence[float]) -> tuple[float, int] | None:
    """Standard deviation of the log loss between runs that differ in their seed alone, and its degrees of freedom.

    Args:
        groups: a name for each run; repeats share one.

    Returns:
        None where nothing was repeated.
    """
    square, freedom = 0.0, 0
    for group in set(groups):
        logs = np.log([loss for name, loss in zip(groups, losses, strict=True) if name == group])
        square += float(np.sum((logs - logs.mean()) ** 2))
        freedom += len(logs) - 1
    return (float(np.sqrt(square / freedom)), freedom) if freedom else None


def noise_of_law(law: MixtureLaw, weights: Mapping[str, float]) -> float:
    """The same by the process, which tells noise from shape over all runs."""
    used = used_targets(weights, law.targets)
    at = law.losses_RT[:, list(used)].mean(axis=0) * np.abs(list(used.values()))
    sd = np.array([law.surfaces[t].amplitude * np.sqrt(law.surfaces[t].noise) for t in used])
    return left_out(law, weights).scale * float(at @ sd / at.sum())


def as_good(
    law: MixtureLaw,
    weights: Mapping[str, float],
    chosen: Array,
    *,
    within: float,
    most: Array | None = None,
    seed: int = 42,
) -> tuple[Array, Array]:
    """(D,) smallest and largest share of each domain among mixtures whose predicted loss is no worse than `within`.

    Found by searching outwards from the extremes found so far, so the true set is at least this wide.

    Args:
        chosen: (D,) the best mixture.
        within: of log loss, such as the noise of one run.
        most: as for `MixtureLaw.best`.

    Raises:
        InputError: `within` is negative.
    """
    if within < 0:
        raise InputError(f"within {within:g}: must not be negative")
    bottom, top = law.tried(most)
    random = np.random.default_rng(seed)
    limit = float(law.weighed(chosen, weights)[0]) * np.exp(within)
    corners = np.atleast_2d(chosen)
    for _ in range(ROUNDS):
        near = [
            around(corner, spread, bottom, top, random, count=max(80, FEW // len(corners)))
            for corner in corners
            for spread in SPREADS
        ]
        pool = np.concatenate([corners, *near])
        pool = pool[law.weighed(pool, weights) <= limit * (1 + 1e-12)]
        ends = np.concatenate([pool.argmin(axis=0), pool.argmax(axis=0)])
        corners = np.unique(pool[ends], axis=0)
    return corners.min(axis=0), corners.max(axis=0)


def rank_correlation(predicted: Array, measured: Array) -> float:
    """Spearman's, of two (M,) arrays; ties share the mean of their ranks.

    Raises:
        InputError: fewer than three, or all are alike.
    """
    ranks = [_ranks(predicted), _ranks(measured)]
    if len(predicted) < 3 or min(np.ptp(each) for each in ranks) == 0:
        raise InputError("ranks correlate among three mixtures at least, of which not all are alike")
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: Array) -> Array:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count - 1) / 2)[place])
