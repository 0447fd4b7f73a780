"""Which vocabulary to take: what a published law says of the loss, beside what the user's text says of the cost.

The law weighs what a larger vocabulary teaches against what it costs, on its authors' text. The text itself says how
many tokens a byte takes at each vocabulary V, and so what the same bytes cost a model of N_nv parameters and width d:
6 (N_nv + V d) / (bytes per token) FLOP a byte, attention left aside. The advice follows the law; the cost is its check.
"""

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from isoflop.data.compression import Compression
from isoflop.laws.vocabulary import VocabularyLaw

MULTIPLE = 128  # of rows, so that the head's matrix falls into whole tiles
NEAR = 0.01
_APART = 2.0
_LARGE_SHARE = 1 / 3


class Candidate(Struct, frozen=True, kw_only=True):
    """One vocabulary for the model asked about.

    Attributes:
        share: of all parameters that one vocabulary matrix has.
        bytes_per_token, flop_per_byte: on the user's text; None without one.
        measured: at this very vocabulary, not between two that were.
    """

    vocabulary: int
    vocabulary_params: float
    share: float
    bytes_per_token: float | None = None
    flop_per_byte: float | None = None
    measured: bool = False


class Advice(Struct, frozen=True, kw_only=True):
    """What to take and why.

    Attributes:
        vocabulary: the law's middle, a multiple of 128.
        by_law: vocabulary by each of the law's ways; None in a way that cannot answer.
        cheapest: where a byte costs least on the user's text, and `cheapest_lo`, `cheapest_hi`, within 1 % of it.
        candidates: by rising vocabulary.
        warnings: what to be careful about.
    """

    n_params: float
    width: int
    vocabulary: int
    by_law: dict[str, float]
    candidates: list[Candidate]
    warnings: list[str]
    source: str
    compute_flop: float | None = None
    cheapest: int | None = None
    cheapest_lo: int | None = None
    cheapest_hi: int | None = None


def advise(
    law: VocabularyLaw,
    *,
    n_params: float,
    width: int,
    compression: Compression | None = None,
    compute_flop: float | None = None,
) -> Advice:
    """The vocabulary for a model of `n_params` outside it.

    Args:
        width: of the model; V = N_v / width.
        compression: of the user's text.
        compute_flop: budget of training; None takes the one at which this size is the best.

    Raises:
        UsageError: a number is not positive and finite.
    """
    best = law.best(n_params=n_params, compute_flop=compute_flop)
    by_law = {name: value / width for name, value in best.said.items()}
    taken = max(3 * MULTIPLE, MULTIPLE * round(best.middle / width / MULTIPLE))
    warnings = _cautions(law, n_params=n_params, taken=taken, width=width)
    sizes = {taken, *(point.vocabulary for point in compression.points)} if compression else {taken}
    cost = _Cost(n_params, width, compression) if compression and len(compression.points) > 1 else None
    found = Advice(
        n_params=n_params,
        width=width,
        vocabulary=taken,
        by_law=by_law,
        candidates=[_candidate(size, n_params, width, cost) for size in sorted(sizes)],
        warnings=warnings,
        source=law.source,
        compute_flop=compute_flop,
    )
    if compression is None:
        return found
    warnings += _text_cautions(compression, taken, cost)
    if cost is None:
        return found
    lo, cheapest, hi = cost.cheapest()
    if not 1 / _APART <= cheapest / taken <= _APART:
        more = "more" if cheapest > taken else "fewer"
        warnings.append(
            f"on this text a byte costs least with {cheapest / taken:.2g} times as many tokens: it lends itself to "
            f"{more} than the law's text did, or was too little to say"
        )
    return replace(found, cheapest=cheapest, cheapest_lo=lo, cheapest_hi=hi)


class _Cost:
    """FLOP a byte by vocabulary, tokens a byte being linear in log V between what was measured."""

    def __init__(self, n_params: float, width: int, compression: Compression) -> None:
        self.n_params, self.width = n_params, width
        self.sizes = [point.vocabulary for point in compression.points]
        self._log_v = np.log(self.sizes)
        self._tokens_per_byte = np.array([1 / point.bytes_per_token for point in compression.points])

    def tokens_per_byte(self, vocabulary: np.ndarray | float) -> np.ndarray:
        """Within the sizes measured; their ends beyond."""
        return np.asarray(np.interp(np.log(vocabulary), self._log_v, self._tokens_per_byte))

    def at(self, vocabulary: np.ndarray | float) -> np.ndarray:
        """FLOP a byte."""
        n_params = self.n_params + self.width * np.asarray(vocabulary)
        return np.asarray(6 * n_params * self.tokens_per_byte(vocabulary))

    def cheapest(self) -> tuple[int, int, int]:
        """The least within the sizes measured, between the ends of what costs no more than 1 % above."""
        grid = np.exp(np.linspace(self._log_v[0], self._log_v[-1], 2001))
        cost = self.at(grid)
        near = grid[cost <= (1 + NEAR) * cost.min()]
        return round(float(near[0])), round(float(grid[cost.argmin()])), round(float(near[-1]))


def _candidate(size: int, n_params: float, width: int, cost: _Cost | None) -> Candidate:
    own = float(size * width)
    if cost is None or not cost.sizes[0] <= size <= cost.sizes[-1]:
        return Candidate(vocabulary=size, vocabulary_params=own, share=own / (n_params + own))
    return Candidate(
        vocabulary=size,
        vocabulary_params=own,
        share=own / (n_params + own),
        bytes_per_token=float(1 / cost.tokens_per_byte(size)),
        flop_per_byte=float(cost.at(size)),
        measured=size in cost.sizes,
    )


def _cautions(law: VocabularyLaw, *, n_params: float, taken: int, width: int) -> list[str]:
    found = []
    lo, hi = law.n_params
    if not lo <= n_params <= hi:
        found.append(f"the law was fitted to {lo:.3g} to {hi:.3g} parameters outside the vocabulary: {n_params:.3g} is "
                     f"{'below' if n_params < lo else 'beyond'}, and the answer an extrapolation")  # fmt: skip
    if (share := taken * width / (n_params + taken * width)) > _LARGE_SHARE:
        found.append(
            f"the vocabulary would have {share:.0%} of the parameters; below a third of them is a safer choice"
        )
    usual = law.width(n_params=n_params)
    if not 1 / _APART <= width / usual <= _APART:
        found.append(
            f"the authors' model of this size is {usual} wide, this one {width}: the law knows N_v = V d alone"
        )
    return found


def _text_cautions(compression: Compression, taken: int, cost: _Cost | None) -> list[str]:
    found = []
    if compression.missing:
        sizes = ", ".join(f"{size:,}" for size in compression.missing)
        found.append(f"the text has too few different tokens for {sizes}: give more of it to measure these")
    if not compression.held_out:
        found.append("too few documents to hold some out: compression was measured on text that was learned from")
    if cost is not None and taken > cost.sizes[-1]:
        found.append(f"{taken:,} lies beyond the largest vocabulary measured, {cost.sizes[-1]:,}")
    return found


def ladder(around: float) -> Sequence[int]:
    """Vocabularies to measure for a law's answer: powers of two from an eighth to eight times it, 512 to 256 Ki."""
    middle = round(math.log2(max(around, 1)))
    return [2**k for k in range(max(9, middle - 3), min(18, max(12, middle + 3)) + 1)]
