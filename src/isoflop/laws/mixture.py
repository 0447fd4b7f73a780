"""How the loss of each domain depends on the proportions of the training mixture, and the mixture that serves best.

log loss is a smooth function of log(1 + p / eps): a little of a domain helps much, more of it less and less. It is
learned as a Gaussian process (a linear trend and a Matern 5/2 surface), in which every proportion counts as much as a
ridge fit says that it matters: the loss on patents hangs on patents and barely on chat logs, and 64 runs of 17 domains
can only be learned from once that is known. All is chosen by marginal likelihood on the training runs.

Shapes: R runs, M mixtures asked about, D domains of the mixture, T losses measured.
Data and peers: RegMix (Liu et al. 2024, arXiv:2407.01492); exponential laws of mixtures (Ye et al. 2024, 2403.16952).
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from isoflop.errors import FitError, InfeasibleError, InputError, UnknownNameError
from isoflop.laws.law import Array
from isoflop.specs.interval import Interval

EPSILONS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
SHARPNESS = (0.0, 0.5, 1.0)  # power of the relevance that scales a domain's axis; 0 treats all alike
LENGTHS = (1.0, 2.0, 4.0, 8.0)
TRENDS = (1.0, 10.0)
NOISES = (1e-4, 1e-3, 1e-2, 1e-1)
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
CHOOSING_RUNS = 128  # enough to choose the constants above; the cost of choosing grows as its cube
ROUNDING = 0.02  # published proportions are rounded; a sum further from 1 than this is a mistake
POOL = 4000
LEAST_RUNS = 8


class Surface(NamedTuple):
    """One loss as a function of the mixture.

    Attributes:
        epsilon: share of a domain below which more of it helps in proportion.
        mean_D, scale_D: of log(1 + p / eps), the second with the relevance of each domain in it.
        length, trend, noise: of the Gaussian process, in units of `amplitude`.
        level: mean log loss of the runs.
        amplitude: standard deviation of the surface, log loss.
        weights_R: what each run pulls.
        root_RR: Cholesky factor of the runs' covariance.
    """

    epsilon: float
    mean_D: Array
    scale_D: Array
    length: float
    trend: float
    noise: float
    level: float
    amplitude: float
    points_RD: Array
    weights_R: Array
    root_RR: Array

    def features(self, proportions: Array) -> Array:
        """(M, D) scaled so that distance means difference in loss."""
        return np.asarray((np.log1p(proportions / self.epsilon) - self.mean_D) * self.scale_D)

    def mean(self, proportions: Array) -> Array:
        """(M,) mean of the log loss of one new run."""
        cross = _kernel(self.features(proportions), self.points_RD, self.length, self.trend)
        return np.asarray(self.level + cross @ self.weights_R)

    def log_loss(self, proportions: Array) -> tuple[Array, Array]:
        """(M,) mean and standard deviation of the log loss of one new run, its own noise included."""
        cross = _kernel(self.features(proportions), self.points_RD, self.length, self.trend)
        own = 1.0 + 1.0 + self.trend * np.sum(self.features(proportions) ** 2, axis=1)
        known = np.sum(np.linalg.solve(self.root_RR, cross.T) ** 2, axis=0)
        return self.level + cross @ self.weights_R, self.amplitude * np.sqrt(np.maximum(own - known, 0.0) + self.noise)


class BestMixture(NamedTuple):
    """The mixture that minimises a target, and how well the runs determine it.

    Attributes:
        proportions: by domain, with intervals over resampled runs.
        losses: predicted at the best mixture, by target.
        objective: the weighted loss there; resampled runs that choose their own best mixture give its interval.
        at_edge: domains at the largest share that any run had or that was allowed: beyond it nothing is known.
    """

    proportions: dict[str, Interval]
    losses: dict[str, Interval]
    objective: Interval
    at_edge: list[str]


class MixtureLaw(NamedTuple):
    """Losses by domain as functions of the mixture.

    Attributes:
        proportions_RD, losses_RT: the runs it was fitted to.
    """

    domains: tuple[str, ...]
    targets: tuple[str, ...]
    surfaces: tuple[Surface, ...]
    proportions_RD: Array
    losses_RT: Array

    def predict(self, proportions: Array) -> Array:
        """(M, T) losses of these mixtures, nats per token."""
        asked = _checked(np.atleast_2d(proportions), self.domains)
        return np.exp(np.stack([surface.mean(asked) for surface in self.surfaces], axis=1))

    def intervals(self, proportions: Array, *, level: float = 0.9) -> tuple[Array, Array]:
        """(M, T) bounds of the loss of one new run of each mixture, by the posterior of the process."""
        asked = _checked(np.atleast_2d(proportions), self.domains)
        both = [surface.log_loss(asked) for surface in self.surfaces]
        mean, sd = (np.stack(part, axis=1) for part in zip(*both, strict=True))
        reach = _normal_quantile((1 + level) / 2)
        return np.exp(mean - reach * sd), np.exp(mean + reach * sd)

    def tried(self, most: Array | None = None) -> tuple[Array, Array]:
        """(D,) least and largest share that the runs had of each domain, the latter no more than `most`.

        Raises:
            InfeasibleError: so little is allowed of all domains that no mixture adds up to one.
        """
        bottom, top = self.proportions_RD.min(axis=0), self.proportions_RD.max(axis=0)
        top = top if most is None else np.minimum(top, most)
        if top.sum() < 1:
            raise InfeasibleError(f"the shares allowed add up to {top.sum():.3g}; no mixture is within them")
        return np.minimum(bottom, top), top

    def weighed(self, mixtures: Array, weights: Mapping[str, float]) -> Array:
        """(M,) weighted losses of these mixtures.

        Raises:
            UnknownNameError: a weight for a loss that was not measured.
        """
        asked = _checked(np.atleast_2d(mixtures), self.domains)
        return _weighed(self, asked, used_targets(weights, self.targets))

    def best(
        self,
        weights: Mapping[str, float],
        *,
        most: Array | None = None,
        draws: int = 100,
        seed: int = 42,
        level: float = 0.9,
    ) -> BestMixture:
        """The mixture with the lowest weighted loss, every domain between the shares that runs had of it.

        Args:
            weights: of the losses to bring down, by target.
            most: (D,) share of each domain that is allowed, such as what a few epochs of it give.
            draws: pair bootstraps of the runs; each chooses its best mixture from a shared pool.

        Raises:
            InfeasibleError: `most` adds up to less than one.
            UnknownNameError: a weight for a loss that was not measured.
        """
        used = used_targets(weights, self.targets)
        bottom, top = self.tried(most)
        random = np.random.default_rng(seed)
        pool = _pool(self.proportions_RD, bottom, top, random)
        chosen = pool[_weighed(self, pool, used).argmin()]
        for spread in (0.3, 0.1, 0.03, 0.01):
            near = around(chosen, spread, bottom, top, random)
            chosen = near[_weighed(self, near, used).argmin()]
        pool = np.concatenate([chosen[None], pool, *(around(chosen, s, bottom, top, random) for s in (0.3, 0.1))])
        resampled = np.stack(list(self._resampled(pool, tuple(used), draws, random)))
        objectives = resampled @ np.array(list(used.values()))
        picks = objectives.argmin(axis=1)
        at = self.predict(chosen)[0]
        return BestMixture(
            proportions={
                name: _interval(float(chosen[i]), pool[picks, i], level) for i, name in enumerate(self.domains)
            },
            losses={self.targets[t]: _interval(float(at[t]), resampled[:, 0, i], level) for i, t in enumerate(used)},
            objective=_interval(
                float(_weighed(self, chosen[None], used)[0]), objectives[np.arange(draws), picks], level
            ),
            at_edge=[name for i, name in enumerate(self.domains) if chosen[i] > 0.98 * top[i] and chosen[i] > 0.01],
        )

    def _resampled(self, pool: Array, used: Sequence[int], draws: int, random: np.random.Generator) -> Iterator[Array]:
        """(M, used targets) losses over the pool as each bootstrap sees them, constants of the process held.

        A run drawn k times is a run with 1 / k of the noise; a run not drawn is left out.
        """
        n = len(self.proportions_RD)
        crosses = {t: self.surfaces[t] for t in used}
        covers = {t: _kernel(s.points_RD, s.points_RD, s.length, s.trend) for t, s in crosses.items()}
        asked = {t: _kernel(s.features(pool), s.points_RD, s.length, s.trend) for t, s in crosses.items()}
        for _ in range(draws):
            counts = np.bincount(random.integers(0, n, n), minlength=n)
            kept = np.flatnonzero(counts)
            losses = []
            for t, surface in crosses.items():
                matrix = covers[t][np.ix_(kept, kept)] + np.diag(surface.noise / counts[kept])
                pulls = np.linalg.solve(matrix, np.log(self.losses_RT[kept, t]) - surface.level)
                losses.append(np.exp(surface.level + asked[t][:, kept] @ pulls))
            yield np.stack(losses, axis=1)


def fit_mixture(
    proportions: Array, losses: Array, *, domains: Sequence[str] = (), targets: Sequence[str] = (), seed: int = 42
) -> MixtureLaw:
    """Learn the loss of each target from runs that differ in their mixture only.

    Args:
        proportions: (R, D) shares of the training mixture, rows that sum to one.
        losses: (R, T) nats per token.
        domains, targets: their names; numbered where empty.

    Raises:
        FitError: too few runs.
        InputError: shapes that do not match, rows that do not sum to one, a loss that is not positive.
    """
    proportions, losses = np.asarray(proportions, dtype=float), np.asarray(losses, dtype=float)
    if proportions.ndim != 2 or losses.ndim != 2 or len(proportions) != len(losses):
        raise InputError(f"proportions {proportions.shape} and losses {losses.shape} do not describe the same runs")
    names = tuple(domains) or tuple(f"domain {i + 1}" for i in range(proportions.shape[1]))
    called = tuple(targets) or tuple(f"loss {i + 1}" for i in range(losses.shape[1]))
    if len(names) != proportions.shape[1] or len(called) != losses.shape[1]:
        raise InputError(f"{len(names)} domains and {len(called)} targets are named; the runs have other numbers")
    if len(losses) < LEAST_RUNS:
        raise FitError(f"a law of mixtures needs at least {LEAST_RUNS} runs; got {len(losses)}")
    if not (np.isfinite(losses) & (losses > 0)).all():
        row, column = np.argwhere(~(np.isfinite(losses) & (losses > 0)))[0]
        raise InputError(f"run {row}, {called[column]}: a loss of {losses[row, column]} is not positive and finite")
    shares = _checked(proportions, names)
    few = np.random.default_rng(seed).permutation(len(losses))[:CHOOSING_RUNS]
    trends = [_trend(shares[few], np.log(losses[few]), epsilon) for epsilon in EPSILONS]
    surfaces = tuple(_surface(shares, np.log(losses[:, t]), few, trends, t) for t in range(losses.shape[1]))
    return MixtureLaw(names, called, surfaces, shares, losses)


def _checked(proportions: Array, domains: Sequence[str]) -> Array:
    """Proportions that sum to exactly one."""
    if proportions.shape[1] != len(domains):
        raise InputError(f"a mixture of {proportions.shape[1]} shares; the law knows {len(domains)} domains")
    sums = proportions.sum(axis=1)
    bad = ~np.isfinite(sums) | (np.abs(sums - 1) > ROUNDING) | (proportions < 0).any(axis=1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(f"mixture {row}: shares must be positive and sum to 1; they sum to {sums[row]:g}")
    return np.asarray(proportions / sums[:, None])


def _trend(shares: Array, log_losses: Array, epsilon: float) -> tuple[float, Array, float, Array]:
    """Ridge regression on log(1 + p / eps), its strength by leave-one-out: how much each domain matters to each loss.

    Returns:
        epsilon, mean of the features, their standard deviation, and relevance (D, T) of mean square one.
    """
    raw = np.log1p(shares / epsilon)
    mean, sd = raw.mean(axis=0), float(raw.std())
    features = (raw - mean) / sd
    values, vectors = np.linalg.eigh(features @ features.T / features.shape[1])
    rotated = vectors.T @ (log_losses - log_losses.mean(axis=0))
    least, slopes = np.full(log_losses.shape[1], np.inf), np.ones((features.shape[1], log_losses.shape[1]))
    for ridge in RIDGES:
        inverse = 1 / (np.maximum(values, 0) + ridge)
        pulls = vectors @ (inverse[:, None] * rotated)
        left_out = np.mean((pulls / (vectors**2 @ inverse)[:, None]) ** 2, axis=0)
        better = left_out < least
        least, slopes = np.where(better, left_out, least), np.where(better, features.T @ pulls, slopes)
    return epsilon, mean, sd, np.abs(slopes) / np.maximum(np.sqrt(np.mean(slopes**2, axis=0)), 1e-300)


def _surface(
    shares: Array, log_loss: Array, few: np.ndarray, trends: Sequence[tuple[float, Array, float, Array]], target: int
) -> Surface:
    """The surface of highest marginal likelihood on a few of the runs, then fitted to all of them."""
    level = float(log_loss.mean())
    best: tuple[float, float, Array, Array, float, float, float] | None = None
    for epsilon, mean, sd, relevance in trends:
        for sharpness in SHARPNESS:
            scale = relevance[:, target] ** sharpness
            scale = scale / np.sqrt(np.sum(scale**2)) / sd
            points = (np.log1p(shares[few] / epsilon) - mean) * scale
            for score, length, trend, noise in _likelihoods(points, log_loss[few] - level):
                if best is None or score < best[0]:
                    best = (score, epsilon, mean, scale, length, trend, noise)
    assert best is not None
    _, epsilon, mean, scale, length, trend, noise = best
    points = (np.log1p(shares / epsilon) - mean) * scale
    root: Array = np.asarray(
        np.linalg.cholesky(_kernel(points, points, length, trend) + noise * np.eye(len(points))), dtype=float
    )
    half = np.linalg.solve(root, log_loss - level)
    amplitude = float(np.sqrt(np.mean(half**2)))
    pulls = np.linalg.solve(root.T, half)
    return Surface(epsilon, mean, scale, length, trend, noise, level, amplitude, points, pulls, root)


def _likelihoods(points: Array, residual: Array) -> Iterator[tuple[float, float, float, float]]:
    """-2 log marginal likelihood (up to a constant, amplitude maximised) with length, trend and noise."""
    n = len(points)
    for length in LENGTHS:
        for trend in TRENDS:
            values, vectors = np.linalg.eigh(_kernel(points, points, length, trend))
            squares = (vectors.T @ residual) ** 2
            for noise in NOISES:
                spectrum = np.maximum(values, 0) + noise
                misfit = max(float(np.sum(squares / spectrum)), 1e-300)
                yield n * np.log(misfit / n) + float(np.log(spectrum).sum()), length, trend, noise


def _kernel(a: Array, b: Array, length: float, trend: float) -> Array:
    """Constant + linear trend + Matern 5/2."""
    inner = a @ b.T
    squared = np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * inner, 0)
    reach = np.sqrt(5 * squared) / length
    return np.asarray(1.0 + trend * inner + (1 + reach + reach**2 / 3) * np.exp(-reach))


def used_targets(weights: Mapping[str, float], targets: Sequence[str]) -> dict[int, float]:
    """Weights that are not nothing, by the place of their target.

    Raises:
        InputError: all are nothing.
        UnknownNameError: a weight for a loss that was not measured.
    """
    for name in weights:
        if name not in targets:
            raise UnknownNameError("loss", name, targets)
    found = {targets.index(name): float(weight) for name, weight in weights.items() if weight}
    if not found:
        raise InputError("give at least one loss a weight")
    return found


def _weighed(law: MixtureLaw, mixtures: Array, used: Mapping[int, float]) -> Array:
    return np.asarray(sum(w * np.exp(law.surfaces[t].mean(mixtures)) for t, w in used.items()))


def _pool(shares: Array, bottom: Array, top: Array, random: np.random.Generator) -> Array:
    """Mixtures to choose from: the runs themselves, and blends of up to four of them."""
    parts = random.dirichlet(np.full(4, 0.7), size=POOL)
    blends = np.einsum("mk,mkd->md", parts, shares[random.integers(0, len(shares), (POOL, 4))])
    return bounded(np.concatenate([shares, blends]), bottom, top)


def around(
    centre: Array, spread: float, bottom: Array, top: Array, random: np.random.Generator, *, count: int = POOL // 2
) -> Array:
    """Mixtures near one: shares scaled at random, some of them towards nothing, and single exchanges."""
    n, half = centre.size, count // 2
    scaled = (centre + 0.02 * spread) * np.exp(spread * 3 * random.standard_normal((half, n)))
    partner = np.eye(n)[random.integers(0, n, half)]
    moved = centre + spread * random.random((half, 1)) * (partner - centre)
    return np.concatenate([centre[None], bounded(np.concatenate([scaled, moved]), bottom, top)])


def bounded(mixtures: Array, bottom: Array, top: Array) -> Array:
    """Mixtures that sum to one within (D,) bounds which allow it.

    What is cut off goes to the others in proportion, what is lacking below comes from what they have to spare.
    """
    shares = mixtures / mixtures.sum(axis=1, keepdims=True)
    for _ in range(20):
        cut = np.clip(shares, bottom, top)
        missing = 1 - cut.sum(axis=1, keepdims=True)
        more = np.where(cut < top, cut + 1e-9, 0.0)
        less = cut - bottom
        room = np.where(missing > 0, more, less)
        shares = cut + missing * room / np.maximum(room.sum(axis=1, keepdims=True), 1e-300)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _interval(value: float, draws: Array, level: float) -> Interval:
    lo, hi = (float(np.quantile(draws, q)) for q in ((1 - level) / 2, (1 + level) / 2))
    return Interval(value=value, lo=min(lo, value), hi=max(hi, value), level=level)


def _normal_quantile(probability: float) -> float:
    return NormalDist().inv_cdf(probability)
