"""Which mixtures to train, so that a law of mixtures knows the whole of the space that a choice may fall into.

Of many random mixtures, some around the natural proportions, some around equal ones and all between, runs are taken by
turns: the one furthest from those taken so far (a maximin design: Johnson, Moore and Ylvisaker 1990), and the one that
leaves all others nearest to some run. The first alone finds the rim, where the law must not be guessed; the second the
interior, where the choice most often lies. Distance is difference in log(1 + p / 0.02), the law's own axes.

Shapes: R runs, C candidates, D domains.
"""

import numpy as np

from isoflop.errors import InfeasibleError
from isoflop.laws.law import Array
from isoflop.laws.mixture import bounded

CANDIDATES = 4000
FEW = 1000  # of them, to tell which run leaves the others nearest
EPSILON = 0.02
LEAST_SHARE = 0.01
DIGITS = 4  # a share is so many decimals, and what a recipe says is what the law is fitted to


def least_shares(natural: Array, most: Array) -> Array:
    """(D,) the smallest share of any run: a hundredth, or half of what it is by nature or at most where that is less.

    Below some share the loss hangs on log(1 + p / eps) no more, and a domain that is absent from a run says nothing of
    how the first tokens of it help.
    """
    return np.minimum(LEAST_SHARE, np.minimum(natural, most) / 2)


def designed(natural: Array, *, runs: int, most: Array, seed: int) -> Array:
    """(R, D) mixtures, the natural one first; rounded to four decimals.

    Args:
        natural: (D,) the natural proportions.
        most: (D,) largest share of each domain.

    Raises:
        InfeasibleError: `most` adds up to less than one.
    """
    if most.sum() < 1:
        raise InfeasibleError(f"the shares allowed add up to {most.sum():.3g}; no mixture is within them")
    least = least_shares(natural, most)
    random = np.random.default_rng(seed)
    pool = np.concatenate([natural[None], bounded(_candidates(natural, random), least, most)])
    pool = rounded(bounded(pool, least, most))
    axes = np.log1p(pool / EPSILON)
    some = axes[1 : 1 + FEW]
    apart = np.sqrt(np.sum((some[:, None] - axes[None, : 1 + FEW]) ** 2, axis=2))
    picked, nearest = [0], np.sqrt(np.sum((axes - axes[0]) ** 2, axis=1))
    while len(picked) < runs:
        if len(picked) % 2:
            found = int(nearest.argmax())
        else:
            found = int(np.minimum(nearest[1 : 1 + FEW, None], apart).mean(axis=0).argmin())
        picked.append(found)
        nearest = np.minimum(nearest, np.sqrt(np.sum((axes - axes[found]) ** 2, axis=1)))
    return pool[picked]


def _candidates(natural: Array, random: np.random.Generator) -> Array:
    """Dirichlet draws, their centre anywhere from natural to equal and their concentration over a factor of ten."""
    n = natural.size
    centre = natural ** random.random(CANDIDATES)[:, None]
    centre /= centre.sum(axis=1, keepdims=True)
    together = n * np.exp(random.uniform(np.log(0.3), np.log(3.0), CANDIDATES))
    drawn = random.gamma(np.maximum(centre * together[:, None], 0.05))
    return np.asarray(drawn / drawn.sum(axis=1, keepdims=True))


def rounded(mixtures: Array) -> Array:
    """Shares of so many decimals that sum to one exactly; what is left over goes where most was cut off."""
    whole = 10**DIGITS
    parts = np.floor(mixtures * whole)
    lacking = np.rint(whole - parts.sum(axis=1)).astype(int)
    order = np.argsort(parts - mixtures * whole, axis=1, kind="stable")
    for row, count in enumerate(lacking):
        parts[row, order[row, :count]] += 1
    return np.asarray(parts / whole)
