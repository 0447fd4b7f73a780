"""Softmax regression and its calibration, by L-BFGS on convex losses.

Source: Nocedal and Wright 2006, algorithms 7.4 and 7.5 (L-BFGS); Platt 1999 (smoothed targets of a calibration); Guo et
al. 2017 (arXiv:1706.04599; one scale and an offset a label).
"""

from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from isoflop.data.quality_features import Array, Sparse

Labels = npt.NDArray[np.int64]
Loss = Callable[[Array], tuple[float, Array]]
_MEMORY = 6
_STEPS = 200
# Gradient against the first one. Looser for the many weights: calibration follows, and early stopping is a penalty too.
_ENOUGH_WEIGHTS, _ENOUGH = 1e-3, 1e-6


def softmax(logits: Array) -> Array:
    """(rows, labels) probabilities."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    found: Array = shifted / shifted.sum(1, keepdims=True)
    return found


def softmax_regression(
    features: Sparse, target: Labels, importance: Array, *, n_labels: int, n_buckets: int, penalty: float
) -> tuple[npt.NDArray[np.float32], Array]:
    """Minimise the weighted cross-entropy plus penalty / 2 * |weights|**2.

    Args:
        target: (rows,) label of each row.
        importance: (rows,) weight of each row, in all 1.

    Returns:
        (labels, buckets) weights and (labels,) bias.
    """
    wanted = np.eye(n_labels)[target]
    # A bucket that no row has keeps its weight of 0, so only the others are variables.
    used, place = np.unique(features.buckets, return_inverse=True)
    dense = Sparse(features.rows, place, features.values, features.n_rows)
    split = n_labels * len(used)

    def loss(theta: Array) -> tuple[float, Array]:
        weights, bias = theta[:split].reshape(n_labels, len(used)), theta[split:]
        entropy, errors = _cross_entropy(dense.scores(weights) + bias, wanted, importance)
        back = dense.back(errors, n_buckets=len(used)) + penalty * weights
        return entropy + penalty / 2 * float(weights.ravel() @ weights.ravel()), np.append(back.ravel(), errors.sum(0))

    theta = minimise(loss, np.zeros(split + n_labels), enough=_ENOUGH_WEIGHTS)
    found = np.zeros((n_labels, n_buckets), np.float32)
    found[:, used] = theta[:split].reshape(n_labels, len(used))
    return found, theta[split:]


def calibration(scores: Array, lengths: Array, target: Labels) -> tuple[float, float, Array]:
    """Scale, growth and offsets so that `calibrated` probabilities say how often a label is right.

    The mean score of many passages is surer than that of one, hence the growth with the logarithm of their number.

    Targets are smoothed as Platt's are, so that documents told apart without an error do not ask for an infinite scale:
    a label seen n times is taken for sure to (n + 1) / (n + labels).
    """
    n_labels = scores.shape[1]
    sure = (np.bincount(target, minlength=n_labels) + 1) / (np.bincount(target, minlength=n_labels) + n_labels)
    wanted = np.repeat(((1 - sure[target]) / (n_labels - 1))[:, None], n_labels, axis=1)
    wanted[np.arange(len(target)), target] = sure[target]
    # On one scale with the offsets: scores of a penalised fit can be a thousandth of a logit apart.
    spread = float(np.std(scores - scores.mean(1, keepdims=True))) or 1.0
    each = np.full(len(target), 1 / len(target))
    grown = scores * np.log(lengths)[:, None]

    def loss(theta: Array) -> tuple[float, Array]:
        logits = (theta[0] * scores + theta[1] * grown) / spread + theta[2:]
        entropy, errors = _cross_entropy(logits, wanted, each)
        slopes = [(errors * scores).sum() / spread, (errors * grown).sum() / spread]
        return entropy, np.append(slopes, errors.sum(0))

    theta = minimise(loss, np.append([spread, 0], np.zeros(n_labels)))
    return float(theta[0]) / spread, float(theta[1]) / spread, theta[2:]


def calibrated(scores: Array, lengths: Array, *, scale: float, growth: float, offsets: Array) -> Array:
    """(documents, labels) logits: (scale + growth * log(passages)) * score + offset. A scale never falls below 0."""
    scales = np.maximum(scale + growth * np.log(lengths), 0)[:, None]
    logits: Array = scales * scores + offsets
    return logits


def minimise(loss: Loss, start: Array, *, enough: float = _ENOUGH) -> Array:
    """Minimum of a smooth convex function that gives its value and gradient; `enough` is the share of slope left."""
    at = start
    value, slope = loss(at)
    floor = enough * max(float(np.abs(slope).max()), 1e-8)
    past: deque[tuple[Array, Array, float]] = deque(maxlen=_MEMORY)
    for _ in range(_STEPS):
        if float(np.abs(slope).max()) <= floor:
            break
        direction = _direction(slope, past)
        found = _search(loss, at, value, slope, direction)
        if found is None:
            break
        step, value, new_slope = found
        change = new_slope - slope
        if (curvature := float(step @ change)) > 0:
            past.append((step, change, curvature))
        at, slope = at + step, new_slope
    return at


def _direction(slope: Array, past: deque[tuple[Array, Array, float]]) -> Array:
    """The two loops of L-BFGS; without a past, steepest descent with a step of length 1."""
    if not past:
        found: Array = -slope / np.linalg.norm(slope)
        return found
    direction = -slope
    shares = []
    for step, change, curvature in reversed(past):
        shares.append(float(step @ direction) / curvature)
        direction = direction - shares[-1] * change
    step, change, curvature = past[-1]
    direction = direction * (curvature / float(change @ change))
    for (step, change, curvature), share in zip(past, reversed(shares), strict=True):
        direction = direction + (share - float(change @ direction) / curvature) * step
    return direction


def _search(loss: Loss, at: Array, value: float, slope: Array, direction: Array) -> tuple[Array, float, Array] | None:
    """The first of 1, 1/2, 1/4, ... of the direction that descends enough (Armijo); None at the floor of rounding."""
    down = float(slope @ direction)
    for halvings in range(30):
        step = direction * 0.5**halvings
        new_value, new_slope = loss(at + step)
        if new_value <= value + 1e-4 * 0.5**halvings * down:
            return step, new_value, new_slope
    return None


def _cross_entropy(logits: Array, wanted: Array, importance: Array) -> tuple[float, Array]:
    """Weighted cross-entropy and its gradient in the logits."""
    top = logits.max(1, keepdims=True)
    log_total = top + np.log(np.exp(logits - top).sum(1, keepdims=True))
    entropy = -float(importance @ (wanted * (logits - log_total)).sum(1))
    return entropy, (np.exp(logits - log_total) - wanted) * importance[:, None]
