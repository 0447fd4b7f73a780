"""Mixtures by rule: how much of each domain, from nothing but its size. What a law of mixtures has to beat.

Shapes: D domains; sizes in tokens; a mixture is (D,) shares of the training tokens that sum to one.
"""

from typing import NamedTuple

import numpy as np

from isoflop.errors import InfeasibleError, UsageError
from isoflop.laws.law import Array

TEMPERATURE = 1 / 0.3
"""Conneau et al. 2020 (XLM-R, arXiv:1911.02116) and Xue et al. 2021 (mT5, arXiv:2010.11934): shares as size^0.3."""
UNIMAX_EPOCHS = 1.0
"""Chung et al. 2023 (arXiv:2304.09151): the cap that umT5 was trained with."""
MOST_EPOCHS = 4.0
"""Muennighoff et al. 2023 (arXiv:2305.16264): up to about four passes over a text are worth nearly as much as new
text."""


class Rule(NamedTuple):
    """A mixture with where it is from."""

    name: str
    shares: Array
    source: str


def natural(sizes: Array) -> Array:
    """Every token as often as every other."""
    _check(sizes)
    return np.asarray(sizes / np.sum(sizes), dtype=float)


def uniform(sizes: Array) -> Array:
    """As much of each domain as of every other, however small it is."""
    _check(sizes)
    return np.full(len(sizes), 1 / len(sizes))


def temperature(sizes: Array, *, degree: float = TEMPERATURE) -> Array:
    """Shares as size^(1 / degree): 1 is natural, infinity uniform.

    Raises:
        UsageError: the temperature is below 1 or not a number.
    """
    _check(sizes)
    if not degree >= 1:
        raise UsageError(f"temperature {degree:g}: must be at least 1, which leaves the natural shares")
    logs = np.log(sizes) / degree
    return natural(np.exp(logs - logs.max()))


def unimax(sizes: Array, *, n_tokens: float, epochs: float = UNIMAX_EPOCHS) -> Array:
    """As even as it goes with no domain read more than `epochs` times in a run of `n_tokens`.

    From the smallest domain up, each gets an even part of what is left, or all that its epochs give, and leaves the
    rest to the larger ones. Where the run is longer than all epochs of all, shares are natural.

    Raises:
        UsageError: tokens or epochs are not positive.

    Source: Chung et al. 2023 (UniMax, arXiv:2304.09151), algorithm 1.
    """
    _check(sizes)
    if not (n_tokens > 0 and epochs > 0):
        raise UsageError(f"UniMax of {n_tokens:g} tokens and {epochs:g} epochs: both must be positive")
    given, left = np.zeros(len(sizes)), float(n_tokens)
    for place, domain in enumerate(np.argsort(sizes, kind="stable")):
        given[domain] = min(left / (len(sizes) - place), sizes[domain] * epochs)
        left -= given[domain]
    return natural(given)


def rules(sizes: Array, *, n_tokens: float) -> list[Rule]:
    """What the chosen mixture is held against, in a run of so many tokens."""
    return [
        Rule("natural", natural(sizes), "shares as sizes"),
        Rule("uniform", uniform(sizes), "equal shares"),
        Rule("temperature", temperature(sizes), f"T = {TEMPERATURE:.2f}: arXiv:1911.02116, arXiv:2010.11934"),
        Rule("unimax", unimax(sizes, n_tokens=n_tokens), f"{UNIMAX_EPOCHS:g} epoch at most: arXiv:2304.09151"),
    ]


def most_shares(sizes: Array, *, n_tokens: float, epochs: float = MOST_EPOCHS) -> Array:
    """(D,) the largest share of each domain that reads it no more than `epochs` times in a run of `n_tokens`.

    Raises:
        InfeasibleError: all domains together do not fill the run.
        UsageError: tokens or epochs are not positive.
    """
    _check(sizes)
    if not (n_tokens > 0 and epochs > 0):
        raise UsageError(f"{epochs:g} epochs of {n_tokens:g} tokens: both must be positive")
    most = np.minimum(1.0, epochs * np.asarray(sizes, dtype=float) / n_tokens)
    if most.sum() < 1:
        raise InfeasibleError(
            f"a run of {n_tokens:.3g} tokens reads the {np.sum(sizes):.3g} there are {n_tokens / np.sum(sizes):.3g} "
            f"times; none is to be read more than {epochs:g} times. Give more text, raise --epochs, or lower --budget "
            "or --tokens"
        )
    return np.asarray(most)


def epochs_read(shares: Array, sizes: Array, *, n_tokens: float) -> Array:
    """(D,) passes over each domain in a run of `n_tokens`."""
    return np.asarray(shares * n_tokens / np.asarray(sizes, dtype=float))


def worth(epochs: Array, *, decay: float) -> Array:
    """What a token is worth on the mean of so many passes, beside a fresh one; 1 up to one pass.

    Args:
        decay: R_D* of the data-constrained law.

    Source: Muennighoff et al. 2023 (arXiv:2305.16264), eq. 5.
    """
    passes = np.maximum(np.asarray(epochs, dtype=float), 1.0)
    return np.asarray((1 + decay * -np.expm1(-(passes - 1) / decay)) / passes)


def _check(sizes: Array) -> None:
    if len(sizes) < 2:
        raise UsageError(f"{len(sizes)} domain: a mixture has two at least")
    if not (np.isfinite(sizes) & (np.asarray(sizes) > 0)).all():
        raise UsageError("every domain must have a positive number of tokens")
