"""From runs of many mixtures to the mixture to take: the law, the choice, how flat it is, and what is wrong with it."""

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct

from isoflop.errors import InputError, UnknownNameError, UsageError
from isoflop.laws.law import Array
from isoflop.laws.mixture import MixtureLaw, fit_mixture
from isoflop.laws.mixture_table import MixtureTable
from isoflop.laws.mixture_trust import as_good, left_out, new_runs, noise_of_law, noise_of_repeats, rank_correlation
from isoflop.specs.interval import Interval

AVERAGE, NATURAL = "average", "natural"
DRAWS = 100
WEAK = 0.5  # left-one-out errors beyond this share of the scatter between runs: the law has hardly learned


class Noise(Struct, frozen=True, kw_only=True):
    """What the weighted loss of one run scatters by where only the seed differs.

    Attributes:
        sd: of log loss.
        freedom: degrees of freedom of repeats; 0 where nothing was repeated and the law tells noise from shape.
    """

    sd: float
    freedom: int


class Share(Struct, frozen=True, kw_only=True):
    """How much of a domain to take.

    Attributes:
        share: with the interval over resampled runs, each of which chooses its own best mixture.
        flat_lo, flat_hi: among mixtures whose predicted loss is above the best by no more than the noise of one run.
        tried_lo, tried_hi: of the runs, the latter as far as it is allowed; the choice is between them.
    """

    share: Interval
    flat_lo: float
    flat_hi: float
    tried_lo: float
    tried_hi: float


class Advice(Struct, frozen=True, kw_only=True):
    """The mixture to take.

    Attributes:
        target: weight of each loss that counts; they sum to one.
        loss_nats: of one new run of the mixture, weighted; its noise is in the interval.
        losses: by target, the law's mean.
        gain_over_runs: log of the best measured loss of all runs over the predicted one; above 0 the choice is better.
        left_out_error: root mean square of log forecast over measured, each run told from the others.
        left_out_rank: Spearman's correlation of the same; None where it has no meaning.
        scatter: standard deviation of the log loss of the runs.
    """

    n_runs: int
    domains: dict[str, Share]
    target: dict[str, float]
    loss_nats: Interval
    losses: dict[str, float]
    gain_over_runs: float
    noise: Noise
    left_out_error: float
    left_out_rank: float | None
    scatter: float
    warnings: list[str]

    @property
    def shares(self) -> Array:
        """(D,) the mixture."""
        return np.array([each.share.value for each in self.domains.values()])


def target_weights(
    asked: Sequence[str], targets: Sequence[str], *, natural: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Weights that sum to one, by target.

    Args:
        asked: "average", "natural" (weights as the domains' sizes), or names, each "name" or "name=weight"; a part of a
            name will do where it is in one name only. Nothing is the average.
        natural: share of each target's domain.

    Raises:
        UnknownNameError: no loss of that name.
        UsageError: not a positive weight, or a name twice.
    """
    if not asked or list(asked) == [AVERAGE]:
        return dict.fromkeys(targets, 1 / len(targets))
    if list(asked) == [NATURAL]:
        if natural is None:
            raise UsageError("--target natural: sizes of the domains are not known; give the weights by name")
        return {name: share for name, share in natural.items() if share > 0}
    found: dict[str, float] = {}
    for each in asked:
        said, _, number = each.rpartition("=") if "=" in each else (each, "", "1")
        name = _meant(said, targets)
        try:
            weight = float(number)
        except ValueError:
            weight = 0.0
        if not 0 < weight < float("inf"):
            raise UsageError(f"--target {each}: write NAME or NAME=WEIGHT with a positive weight")
        if name in found:
            raise UsageError(f"--target {each}: {name} stands twice")
        found[name] = weight
    whole = sum(found.values())
    return {name: weight / whole for name, weight in found.items()}


def _meant(said: str, targets: Sequence[str]) -> str:
    inside = [name for name in targets if said in name]
    if said in targets:
        return said
    if len(inside) != 1:
        raise UnknownNameError("loss", said, inside or targets, every=bool(inside))
    return inside[0]


def advise(
    table: MixtureTable, weights: Mapping[str, float], *, most: Array | None = None, seed: int = 42
) -> tuple[MixtureLaw, Advice]:
    """Fit the law and choose.

    Args:
        weights: of the losses that count, by target.
        most: (D,) share of each domain that is allowed.

    Raises:
        FitError: too few runs.
        InfeasibleError: `most` allows no mixture.
    """
    law = fit_mixture(table.shares_RD, table.losses_RT, domains=table.domains, targets=table.targets, seed=seed)
    best = law.best(weights, most=most, draws=DRAWS, seed=seed)
    chosen = np.array([share.value for share in best.proportions.values()])
    bottom, top = law.tried(most)
    left, noise = left_out(law, weights), _noise(law, weights)
    low, high = as_good(law, weights, chosen, within=noise.sd, most=most, seed=seed)
    said = new_runs(law, weights, chosen)[0]
    scatter = float(np.log(left.measured_R).std(ddof=1))
    domains = {
        name: Share(
            share=best.proportions[name],
            flat_lo=float(low[i]),
            flat_hi=float(high[i]),
            tried_lo=float(bottom[i]),
            tried_hi=float(top[i]),
        )
        for i, name in enumerate(table.domains)
    }
    mean = law.predict(chosen)[0]
    return law, Advice(
        n_runs=len(table.labels),
        domains=domains,
        target=dict(weights),
        loss_nats=said,
        losses={name: float(mean[law.targets.index(name)]) for name in weights},
        gain_over_runs=float(np.log(left.measured_R.min() / said.value)),
        noise=noise,
        left_out_error=left.error,
        left_out_rank=_rank(left.predicted_R, left.measured_R),
        scatter=scatter,
        warnings=list(_cautions(domains, best.at_edge, error=left.error, scatter=scatter, noise=noise)),
    )


def _noise(law: MixtureLaw, weights: Mapping[str, float]) -> Noise:
    """Of repeats, which are the runs of equal shares, or of the law."""
    measured = left_out(law, weights).measured_R
    repeats = noise_of_repeats([row.tobytes().hex() for row in law.proportions_RD], [float(loss) for loss in measured])
    if repeats is None:
        return Noise(sd=noise_of_law(law, weights), freedom=0)
    return Noise(sd=repeats[0], freedom=repeats[1])


def _rank(predicted: Array, measured: Array) -> float | None:
    try:
        return rank_correlation(predicted, measured)
    except InputError:
        return None


def _cautions(
    domains: Mapping[str, Share], at_edge: Sequence[str], *, error: float, scatter: float, noise: Noise
) -> list[str]:
    """A sentence for each thing to be careful about."""
    said = []
    if at_edge:
        tops = ", ".join(f"{name} {domains[name].tried_hi:.3g}" for name in at_edge)
        said.append(f"the choice is at the largest share that was tried or allowed: {tops}; more of it may be better")
    if error > WEAK * scatter:
        said.append(
            f"told from the others, runs are missed by {error:.2%} of their loss where they scatter by {scatter:.2%}: "
            "the law has hardly learned. More runs, or longer ones, tell more"
        )
    if noise.freedom == 0:
        said.append("no mixture was trained twice, so the noise of a run is the law's own estimate")
    if scatter < 2 * noise.sd:
        said.append(f"runs scatter by {scatter:.2%} and their noise is {noise.sd:.2%}: the mixture hardly matters here")
    return said
