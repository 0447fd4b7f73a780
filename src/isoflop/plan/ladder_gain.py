"""What a laid-out ladder is expected to tell about a target budget, before anything is trained."""

from msgspec import Struct

from isoflop.laws.cautions import FAR
from isoflop.laws.design import Candidate, Unknown, expected
from isoflop.laws.fitted import Fit
from isoflop.plan.trunks import Layout


class Gain(Struct, frozen=True, kw_only=True):
    """Unknown at the target with the first size alone, and with all points.

    Attributes:
        target_flop: the budget one wants to know about.
        law: that stands in for the one that is sought.
        share: of the ladder's compute that goes into points, rates and the proof.
    """

    target_flop: float
    law: str
    smallest_alone: Unknown
    after: Unknown
    share: dict[str, float]


def gain(layout: Layout, fit: Fit, *, law: str, target_flop: float | None = None) -> Gain:
    """What the points bring.

    Args:
        fit: stands in for the ladder's own law: its noise, and how far laws bend.
        target_flop: None takes as far as intervals are trusted, `cautions.FAR` times the dearest point.

    Raises:
        InputError: the target is not positive.
    """
    points = [
        [Candidate(n_params=size.n_params, n_tokens=size.tokens(point)) for point in size.points]
        for size in layout.sizes
    ]
    every = [point for size in points for point in size]
    target = target_flop or FAR * max(point.compute_flop for point in every)
    _, smallest = expected(fit, None, chosen=points[0], target_flop=target)
    _, after = expected(fit, None, chosen=every, target_flop=target)
    parts = {"points": layout.points_flop, "rates": layout.swept_flop, "proof": layout.proof.separate_flop()}
    return Gain(
        target_flop=target,
        law=law,
        smallest_alone=smallest,
        after=after,
        share={name: flop / layout.compute_flop for name, flop in parts.items()},
    )
