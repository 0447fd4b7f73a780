"""Which runs to train next: those that leave least unknown at a target budget.

What is unknown has two parts. Variance: the coefficients, given the runs trained and those proposed; from the
Gauss-Newton information of the law (each run tells J J^T / sd^2), averaged over draws of a fit, for where runs help
depends on the law that is sought. Bias: the law bends beyond the runs by so much per e-fold (`uncertainty.Spread`), and
only a run nearer to the target leaves fewer e-folds. Both are taken of log N* and of log loss at the target, each
as a share of what is unknown today, and their sum is brought down within the budget by greedy choice and exchange.

Distance to the target counts e-folds of compute and, at right angles to them, those of D/N from the best one: a dear
run of an odd shape says little about the best run of the target.

Shapes: K draws, P coefficients, C candidates, R runs.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from msgspec import Struct

from isoflop.errors import InfeasibleError, InputError
from isoflop.laws.fitted import Fit
from isoflop.laws.law import Array, Form, best_size, load_form
from isoflop.laws.table import RunTable

DRAWS = 24
STEP = 1e-4  # relative step of numerical derivatives, in coefficients of order one
PRIOR_SD = 3.0  # of each relative coefficient: keeps the information invertible, and says nothing else
SIZES = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the default candidates, over N* at their budget
LEVELS = 8  # budgets of the default candidates, each half of the one above
LEAST_SD = 1e-4
NOWHERE = 10.0  # e-folds beyond the farthest candidate: where one stands without any run


class Candidate(Struct, frozen=True, kw_only=True):
    """A run that could be trained."""

    n_params: float
    n_tokens: float

    @property
    def compute_flop(self) -> float:
        """6 N D."""
        return 6.0 * self.n_params * self.n_tokens


class Unknown(Struct, frozen=True, kw_only=True):
    """Standard deviations at the target: of log N* and log loss, by the coefficients and by what the law may bend."""

    log_n_variance: float
    log_n_bias: float
    log_loss_variance: float
    log_loss_bias: float

    @property
    def log_n(self) -> float:
        """Both parts of log N* together."""
        return float(np.hypot(self.log_n_variance, self.log_n_bias))

    @property
    def log_loss(self) -> float:
        """Both parts of log loss together."""
        return float(np.hypot(self.log_loss_variance, self.log_loss_bias))


class Design(Struct, frozen=True, kw_only=True):
    """What to train next, and what that is expected to do.

    Attributes:
        runs: the runs chosen, the dearest first.
        chosen: their places among the candidates, in the same order.
        before, after: what is unknown at the target without and with them.
    """

    runs: list[Candidate]
    chosen: list[int]
    compute_flop: float
    budget_flop: float
    target_flop: float
    before: Unknown
    after: Unknown


Cost: TypeAlias = Callable[[Sequence[int]], float]
"""FLOP of the candidates at these places, trained together."""


class _Board(NamedTuple):
    """Everything the search looks at: gradients, information of the runs trained, distances to the target."""

    information_KPP: Array
    jacobian_KCP: Array
    of_n_KP: Array
    of_loss_KP: Array
    away_C: Array
    away_now: float
    cost: Cost
    size: int
    trust_C: Array
    tau_n: float
    tau_loss: float


def next_runs(
    fitted: Fit, runs: RunTable | None, *, budget_flop: float, target_flop: float,
    candidates: Sequence[Candidate] | None = None, most: int = 12, cost: Cost | None = None,
) -> Design:  # fmt: skip
    """Choose runs.

    Args:
        fitted: the law of `runs`; its draws say where it may lie, its spread how far it may bend.
        runs: trained already; None where there are none and the law is another's, of which only the shape is taken.
        budget_flop: for all the runs together.
        target_flop: the budget whose N* and loss one wants to know.
        candidates: runs that could be trained; a grid around the optimum where None.
        most: runs, at the most.
        cost: of candidates that share work, such as branches of one trunk; each for itself where None.

    Raises:
        FitError: no candidates are given, and the law has its optimum where no model can be.
        InfeasibleError: no candidate is within the budget.
        InputError: budget or target is not positive, or there is no candidate.
    """
    if not (0 < budget_flop < np.inf and 0 < target_flop < np.inf):
        raise InputError(f"budget {budget_flop:g} and target {target_flop:g} FLOP must be positive and finite")
    offered = grid(fitted, budget_flop=budget_flop) if candidates is None else list(candidates)
    if not offered:
        raise InputError("no candidates to choose from")
    board = _board(fitted, runs, offered, target_flop, cost)
    if (cheapest := min(board.cost([i]) for i in range(board.size))) > budget_flop:
        raise InfeasibleError(f"the cheapest candidate costs {cheapest:.3g} FLOP, the budget is {budget_flop:.3g}")
    chosen = _search(board, budget_flop, most)
    chosen.sort(key=lambda i: -offered[i].compute_flop)
    return Design(
        runs=[offered[i] for i in chosen],
        chosen=chosen,
        compute_flop=board.cost(chosen),
        budget_flop=budget_flop,
        target_flop=target_flop,
        before=_unknown(board, []),
        after=_unknown(board, chosen),
    )


def expected(
    fitted: Fit, runs: RunTable | None, *, chosen: Sequence[Candidate], target_flop: float
) -> tuple[Unknown, Unknown]:
    """What is unknown at the target without and with these runs, however they were chosen; arguments of `next_runs`.

    Raises:
        InputError: the target is not positive, or no run is chosen.
    """
    if not (0 < target_flop < np.inf and chosen):
        raise InputError(f"target {target_flop:g} FLOP must be positive and finite, and runs be chosen")
    board = _board(fitted, runs, chosen, target_flop)
    return _unknown(board, []), _unknown(board, range(len(chosen)))


def grid(fitted: Fit, *, budget_flop: float) -> list[Candidate]:
    """Runs around the optimum of the law, from the whole budget in one run down by halves.

    Raises:
        FitError: the law has its optimum where no model can be.
    """
    found = []
    for level in range(LEVELS):
        flop = budget_flop / 2**level
        centre = fitted.optimum(compute_flop=flop).checked().n_params.value
        found += [Candidate(n_params=centre * size, n_tokens=flop / 6 / (centre * size)) for size in SIZES]
    return found


def _board(
    fitted: Fit, runs: RunTable | None, offered: Sequence[Candidate], target_flop: float, cost: Cost | None = None
) -> _Board:
    form = load_form(fitted.form)
    own = np.array(list(fitted.law.coefficients.values()))
    pool = np.array(fitted.draws) if fitted.draws else own[None]
    draws = pool[np.linspace(0, len(pool) - 1, min(DRAWS, len(pool))).astype(int)]
    n, d = (np.array([getattr(c, part) for c in offered]) for part in ("n_params", "n_tokens"))
    trained_n, trained_d = (np.empty(0), np.empty(0)) if runs is None else (runs.n_params, runs.n_tokens)
    at_runs = np.stack([_log_loss_slopes(form, at, trained_n, trained_d) for at in draws])
    prior = np.eye(draws.shape[1]) / PRIOR_SD**2
    trained = _away(form, own, trained_n, trained_d, target_flop)
    away = _away(form, own, n, d, target_flop)
    return _Board(
        information_KPP=np.einsum("krp,krq,r->kpq", at_runs, at_runs, _trust(trained, fitted)) + prior,
        jacobian_KCP=np.stack([_log_loss_slopes(form, at, n, d) for at in draws]),
        of_n_KP=np.stack([_slopes(at, lambda c: np.log(best_size(form, c, compute_flop=target_flop))) for at in draws]),
        of_loss_KP=np.stack(
            [_slopes(at, lambda c: np.log(form.optimum(c, compute_flop=target_flop)[2])) for at in draws]
        ),
        away_C=away,
        away_now=float(trained.min()) if trained.size else float(away.max()) + NOWHERE,
        cost=cost or (lambda chosen: float((6 * n * d)[list(chosen)].sum())),
        size=len(offered),
        trust_C=_trust(away, fitted),
        tau_n=fitted.spread.log_n_per_efold,
        tau_loss=fitted.spread.loss_per_efold,
    )


def _away(form: Form, at: Array, n_params: Array, n_tokens: Array, target_flop: float) -> Array:
    """e-folds from each run to the target: along compute, and in D/N from the best one of its own compute."""
    flop = 6 * n_params * n_tokens
    best_n = np.array([float(best_size(form, at, compute_flop=float(c))) for c in flop])
    across = 2 * np.log(n_params / best_n)  # D/N moves twice as far as N where C stays
    return np.asarray(np.hypot(np.maximum(np.log(target_flop / flop), 0.0), across))


def _trust(away: Array, fitted: Fit) -> Array:
    """1 / variance of what a run says about the law as it holds at the target: its noise, and the bend between."""
    noise = max(fitted.spread.residual_sd, LEAST_SD)
    return np.asarray(1 / (noise**2 + (fitted.spread.loss_per_efold * away) ** 2))


def _log_loss_slopes(form: Form, at: Array, n_params: Array, n_tokens: Array) -> Array:
    """(R, P) derivatives of log loss by relative changes of the coefficients."""
    return _slopes(at, lambda c: np.log(form.loss(c[..., None, :], n_params=n_params, n_tokens=n_tokens))).T


def _slopes(at: Array, quantity: Callable[[Array], Array]) -> Array:
    """(P, ...) central differences of a quantity by relative changes of each coefficient, all in one call."""
    moved = STEP * np.diag(at)
    up, down = quantity(at + moved), quantity(at - moved)
    slopes = (up - down) / (2 * STEP)
    return np.where(np.isfinite(slopes), slopes, 0.0)


def _parts(board: _Board, chosen: Sequence[int]) -> tuple[Array, Array, float]:
    """Variance of log N* and of log loss under each draw, and e-folds left."""
    J, trust = board.jacobian_KCP[:, list(chosen)], board.trust_C[list(chosen)]
    information = board.information_KPP + np.einsum("kcp,kcq,c->kpq", J, J, trust)
    both = np.stack([board.of_n_KP, board.of_loss_KP], axis=2)
    solved = np.linalg.solve(information, both)
    variance = np.maximum(np.einsum("kpq,kpq->qk", both, solved), 0.0)
    return variance[0], variance[1], min([board.away_now, *board.away_C[list(chosen)].tolist()])


def _unknown(board: _Board, chosen: Sequence[int]) -> Unknown:
    of_n, of_loss, away = _parts(board, chosen)
    # Draws in a flat direction have variances without bound: the median speaks for them.
    return Unknown(
        log_n_variance=float(np.sqrt(np.median(of_n))),
        log_n_bias=board.tau_n * away,
        log_loss_variance=float(np.sqrt(np.median(of_loss))),
        log_loss_bias=board.tau_loss * away,
    )


def _left(board: _Board, now: tuple[Array, Array, float], chosen: Sequence[int]) -> float:
    """What these runs would leave unknown, as a share of what is unknown now: 2 for no runs."""
    of_n, of_loss, away = _parts(board, chosen)
    share_n = (of_n + (board.tau_n * away) ** 2) / (now[0] + (board.tau_n * now[2]) ** 2 + LEAST_SD**2)
    share_loss = (of_loss + (board.tau_loss * away) ** 2) / (now[1] + (board.tau_loss * now[2]) ** 2 + LEAST_SD**2)
    return float(np.mean(share_n + share_loss))


def _search(board: _Board, budget: float, most: int) -> list[int]:
    """The best of three greedy designs, by what a run brings, by that per FLOP, and between, after exchange."""
    now = _parts(board, [])
    designs = [_exchanged(board, now, _greedy(board, now, budget, most, by), budget) for by in (0.0, 0.5, 1.0)]
    return min(designs, key=lambda chosen: _left(board, now, chosen))


def _greedy(board: _Board, now: tuple[Array, Array, float], budget: float, most: int, by_cost: float) -> list[int]:
    chosen: list[int] = []
    left, spent = _left(board, now, []), 0.0
    while len(chosen) < most:
        price = {i: board.cost([*chosen, i]) for i in range(board.size) if i not in chosen}
        options = [i for i, together in price.items() if together <= budget * 1.000001]
        if not options:
            break
        after = np.array([_left(board, now, [*chosen, i]) for i in options])
        more = np.maximum([price[i] - spent for i in options], 1e-9 * budget)
        pick = options[int(np.argmax((left - after) / more**by_cost))]
        left, spent = float(after[options.index(pick)]), price[pick]
        chosen.append(pick)
    return chosen


def _exchanged(board: _Board, now: tuple[Array, Array, float], chosen: list[int], budget: float) -> list[int]:
    """Swap one run for another while that helps."""
    left = _left(board, now, chosen)
    for _ in range(len(chosen)):
        best: tuple[float, list[int]] | None = None
        for place in range(len(chosen)):
            for i in range(board.size):
                swapped = [*chosen[:place], i, *chosen[place + 1 :]]
                if i in chosen or board.cost(swapped) > budget * 1.000001:
                    continue
                after = _left(board, now, swapped)
                if after < left * (1 - 1e-6) and (best is None or after < best[0]):
                    best = (after, swapped)
        if best is None:
            break
        left, chosen = best
    return chosen
