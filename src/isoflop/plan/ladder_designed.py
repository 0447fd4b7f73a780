"""A ladder of the branches that leave least unknown at the target, for a share of what the full grid costs.

`laws.design` chooses; a trunk is paid once, by the longest branch chosen off it. The kept-out run stays the full
ladder's, so that designs can be compared on one proof.
"""

from collections.abc import Sequence

from isoflop.errors import InfeasibleError
from isoflop.laws.design import Candidate, next_runs
from isoflop.laws.fitted import Fit
from isoflop.plan.trunks import Layout, Size, chosen

LEAST = 7  # points: one more than a law of five coefficients needs


def designed(layout: Layout, fit: Fit, *, target_flop: float | None = None) -> Layout:
    """The layout with the points chosen.

    Args:
        fit: stands in for the law that is sought.
        target_flop: None takes the kept-out run's compute.

    Raises:
        InfeasibleError: the share pays for fewer points than a law needs.
    """
    places = [(i, j) for i, size in enumerate(layout.sizes) for j in range(len(size.points))]
    offered = [_candidate(layout.sizes[i], j) for i, j in places]
    budget = layout.plan.designed_share * layout.separate_flop

    def cost(picked: Sequence[int]) -> float:
        return branched_flop(layout, [places[k] for k in picked])

    design = next_runs(
        fit, None, budget_flop=budget, target_flop=target_flop or layout.proof.separate_flop(),
        candidates=offered, most=len(offered), cost=cost,
    )  # fmt: skip
    found = chosen(layout, [places[k] for k in design.chosen])
    if len(design.chosen) < LEAST or len(found.sizes) < 2:
        raise InfeasibleError(
            f"designed_share {layout.plan.designed_share:g} pays for {len(design.chosen)} points of {len(found.sizes)} "
            f"sizes; a law needs {LEAST} of 2: raise it"
        )
    return found


def branched_flop(layout: Layout, picked: Sequence[tuple[int, int]]) -> float:
    """6 N D of these points as branches, every seed of theirs, each trunk paid once."""
    return chosen(layout, picked).points_flop


def _candidate(size: Size, j: int) -> Candidate:
    return Candidate(n_params=size.n_params, n_tokens=size.tokens(size.points[j]))
