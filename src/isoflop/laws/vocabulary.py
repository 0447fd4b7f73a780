"""The best vocabulary for a model of a size, by a published law.

A larger vocabulary needs fewer tokens for the same text and spends more parameters and work on each. Tao et al. 2024
(arXiv:2407.13623) find the best one in three ways, all of which let the vocabulary's parameters N_v = V d grow more
slowly than those outside it, N_nv, about as N_nv^0.83:

1. isoFLOP: N_v and N_nv of the best runs at each compute, as powers of compute.
2. derivative: dFLOP/dV = 0 for the same text, a power of N_nv from the smallest model's measured best on.
3. loss: L_u(N_nv, N_v, D) = -E + A1/N_nv^alpha1 + A2/N_v^alpha2 + B/D^beta, least at 6 (N_nv + N_v) D = C.

The third answers for any compute, the others for a compute-optimal model.
"""

import math
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from isoflop.errors import UsageError
from isoflop.laws.minimum import least
from isoflop.tables import find

DEFAULT = "tao-2024"


class Power(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """e^log_scale x^power."""

    log_scale: float
    power: float

    def at(self, x: float) -> float:
        """Its value."""
        return math.exp(self.log_scale + self.power * math.log(x))

    def inverse(self, y: float) -> float:
        """Where it is y."""
        return math.exp((math.log(y) - self.log_scale) / self.power)


class Anchor(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A measured best, and the power of N_nv by which N_v grows from there."""

    n_params: float
    vocabulary_params: float
    power: float


class VocabularyLoss(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Coefficients of the unigram-normalised loss, N in millions, D in billions of tokens."""

    E: float
    A1: float
    A2: float
    B: float
    alpha1: float
    alpha2: float
    beta: float


class Fertility(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tokens per character at a vocabulary of V: a ln^2 V + b ln V + c, constant from `most` on."""

    a: float
    b: float
    c: float
    most: float

    def at(self, vocabulary: float) -> float:
        """Its value."""
        x = math.log(min(vocabulary, self.most))
        return self.a * x * x + self.b * x + self.c


class VocabularyLaw(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row of `tables/vocabularies.toml`.

    Attributes:
        size_of_compute, vocabulary_of_compute: N_nv and N_v of a compute-optimal model, parameters by FLOP.
        tokens_per_character: on the authors' text.
        widths: (most N_nv, width) of the authors' models, by rising N_nv.
        n_params: smallest and largest N_nv that the law was fitted to.
        problems: what is known to be wrong with it.
    """

    title: str
    formula: str
    size_of_compute: Power
    vocabulary_of_compute: Power
    anchor: Anchor
    loss: VocabularyLoss
    tokens_per_character: Fertility
    widths: list[tuple[float, int]]
    n_params: tuple[float, float]
    problems: list[str]
    source: str
    aliases: list[str] = []

    def compute_flop(self, *, n_params: float) -> float:
        """Compute at which N_nv is the best size."""
        return self.size_of_compute.inverse(n_params)

    def width(self, *, n_params: float) -> int:
        """Width of the authors' model of this size."""
        return next((width for most, width in self.widths if n_params <= most), self.widths[-1][1])

    def best(self, *, n_params: float, compute_flop: float | None = None) -> "BestVocabulary":
        """N_v by each of the three ways.

        Args:
            n_params: N_nv, parameters outside the vocabulary.
            compute_flop: budget of training; None takes the one at which N_nv is the best size. With one, only the loss
                can answer.

        Raises:
            UsageError: one of them is not positive and finite.
        """
        for name, value in (("n_params", n_params), ("compute_flop", compute_flop)):
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{name} is {value:g}; it must be positive and finite")
        optimal = self.compute_flop(n_params=n_params)
        by_loss = self._by_loss(n_params, compute_flop or optimal)
        if compute_flop is not None:
            return BestVocabulary(None, None, by_loss)
        by_derivative = self.anchor.vocabulary_params * (n_params / self.anchor.n_params) ** self.anchor.power
        return BestVocabulary(self.vocabulary_of_compute.at(optimal), by_derivative, by_loss)

    def _by_loss(self, n_params: float, compute_flop: float) -> float:
        """Where A2 N_v^-alpha2 + B D^-beta is least, D = C / (6 (N_nv + N_v)); L_u's other terms hold no V."""
        law = self.loss

        def value(log_v: np.ndarray) -> np.ndarray:
            v = np.exp(log_v)
            d = compute_flop / 6 / (n_params + v)
            return np.asarray(law.A2 * (v / 1e6) ** -law.alpha2 + law.B * (d / 1e9) ** -law.beta)

        log_v = least(value, lo=np.log([1e-6 * n_params]), hi=np.log([1e3 * n_params]))
        return float(np.exp(log_v[0]))


class BestVocabulary(NamedTuple):
    """N_v, parameters of one vocabulary matrix, by each way; None where it cannot say."""

    by_isoflop: float | None
    by_derivative: float | None
    by_loss: float

    @property
    def said(self) -> dict[str, float]:
        """Those that can, by name."""
        return {name.removeprefix("by_"): value for name, value in self._asdict().items() if value is not None}

    @property
    def middle(self) -> float:
        """Their geometric mean."""
        return math.exp(sum(map(math.log, self.said.values())) / len(self.said))


def load(name: str = DEFAULT) -> VocabularyLaw:
    """The law of this name.

    Raises:
        UnknownNameError: no row is called so.
    """
    return find("vocabularies", VocabularyLaw, name)
