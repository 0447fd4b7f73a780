"""Where two loss curves part: from which step on they differ by more than their own noise.

Noise is told from the curves themselves. A line's loss scatters about its neighbours; the second difference
d = x[i-1] - 2 x[i] + x[i+1] of independent scatter with deviation s has deviation sqrt(6) s, while a smooth fall leaves
next to nothing in it. The median of |d| gives s without minding outliers. Two curves on the same batches share their
scatter, so what counts is the scatter of their difference.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

_SIGMAS = 4.0
_IN_A_ROW = 3
_NORMAL_MEDIAN = 0.6745  # of |x| for a standard normal x
_LEAST = 5  # lines, for second differences to have a median


class Parting(Struct, frozen=True, kw_only=True):
    """How two curves lie to each other on the steps that both have.

    Attributes:
        steps: how many those are.
        first_unequal: first step at which they differ at all; None where they are equal to the bit.
        beyond_noise: first of three lines in a row that differ, to one side, by more than four deviations.
        noise_nats: deviation of the difference between two lines by chance.
        mean_nats: second minus first, over the last tenth.
    """

    steps: int
    first_unequal: int | None
    beyond_noise: int | None
    noise_nats: float
    mean_nats: float

    def sentence(self) -> str:
        """For people."""
        if self.first_unequal is None:
            return f"the curves are equal to the bit in all {self.steps} lines"
        last = f"over the last tenth the second is {self.mean_nats:+.4f} nats from the first"
        if self.beyond_noise is None:
            where = f"they differ from step {self.first_unequal} on, never beyond noise"
        else:
            where = f"they differ from step {self.first_unequal} on, beyond noise from step {self.beyond_noise}"
        return f"curves of {self.steps} lines: {where} ({self.noise_nats:.4f} nats); {last}"


def parting(a: Sequence[tuple[int, float]], b: Sequence[tuple[int, float]]) -> Parting | None:
    """Compare two curves of (step, loss); None where they have no step in common."""
    first, second = dict(a), dict(b)
    steps = [step for step in first if step in second]
    if not steps:
        return None
    apart = np.array([second[step] - first[step] for step in steps])
    unequal = np.flatnonzero(apart)
    noise = scatter(apart)
    sides = np.sign(apart) * (np.abs(apart) > _SIGMAS * noise)
    return Parting(
        steps=len(steps),
        first_unequal=steps[int(unequal[0])] if unequal.size else None,
        beyond_noise=next((steps[i] for i in range(len(steps)) if _holds(sides[i : i + _IN_A_ROW])), None),
        noise_nats=noise,
        mean_nats=float(apart[-max(1, len(steps) // 10) :].mean()),
    )


def scatter(values: np.ndarray) -> float:
    """Deviation of independent noise on a smooth curve; 0 for too few values to tell."""
    if len(values) < _LEAST:
        return 0.0
    second = values[:-2] - 2 * values[1:-1] + values[2:]
    return float(np.median(np.abs(second)) / _NORMAL_MEDIAN / np.sqrt(6.0))


def _holds(sides: np.ndarray) -> bool:
    return len(sides) == _IN_A_ROW and abs(float(sides.sum())) == _IN_A_ROW
