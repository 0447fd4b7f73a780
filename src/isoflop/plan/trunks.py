"""A ladder's sizes and the points of each, before a learning rate is known: what is trained, and what it costs.

A size has one stable trunk. From its checkpoints cooldown branches run, one a point: a trunk to 0.8 of the longest
point and five branches cost 9.5 times 20 N tokens, five cosine runs of the same lengths 15.5 (Hägele et al. 2024,
arXiv:2405.18392). All work is 6 N D.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise

from msgspec import Struct
from msgspec.structs import replace

from isoflop.count.parameters import parameters
from isoflop.errors import InfeasibleError, UsageError
from isoflop.plan import ladder_rules as rules
from isoflop.specs.architecture import Decoder
from isoflop.specs.ladder_plan import LadderPlan

SPAN = 10.0  # of a law's sizes: `laws.lint` warns below
SHARES = (1.0, 0.9, 0.8, 0.7, 0.6)  # of that span, in logs, where the budget pays no more
LEAST_STEP = 1.25
ENOUGH = 0.75  # of the budget, for a wider span to be preferred to a dearer ladder
FINE = 1.02
LARGEST = 1e11  # parameters


class Point(Struct, frozen=True, kw_only=True):
    """One length of one size.

    Attributes:
        ratio: D over `tokens_per_param` times N.
        steps: from the run's beginning.
        cooldown_steps: the last of them.
        flag: why its loss is not to be trusted as a point of the law; "" where it is.
    """

    ratio: float
    steps: int
    cooldown_steps: int
    flag: str = ""

    @property
    def branches_at(self) -> int:
        """The trunk's step at which its cooldown begins."""
        return self.steps - self.cooldown_steps


class Size(Struct, frozen=True, kw_only=True):
    """One model, how it is trained, and its points by rising length."""

    model: Decoder
    n_params: int
    batch_tokens: int
    warmup_steps: int
    beta2: float
    points: tuple[Point, ...]

    @property
    def trunk_steps(self) -> int:
        """As far as the last branch."""
        return max(point.branches_at for point in self.points)

    def flop(self, steps: float) -> float:
        """6 N D of so many steps."""
        return 6.0 * self.n_params * steps * self.batch_tokens

    def branched_flop(self) -> float:
        """Of a trunk and its branches."""
        return self.flop(self.trunk_steps + sum(point.cooldown_steps for point in self.points))

    def separate_flop(self) -> float:
        """Of a run of its own for each point."""
        return self.flop(sum(point.steps for point in self.points))

    def tokens(self, point: Point) -> int:
        """D of a point."""
        return point.steps * self.batch_tokens


class Layout(Struct, frozen=True, kw_only=True, dict=True):
    """All that a ladder trains.

    Attributes:
        sizes: that a law may see, the smallest first.
        proof: the kept-out size; its one point is a run of its own.
    """

    plan: LadderPlan
    vocabulary: int
    context: int
    sizes: tuple[Size, ...]
    proof: Size

    def seeds(self, place: int) -> range:
        """Seeds of the size at this place."""
        first = self.plan.seed
        return range(first, first + (self.plan.seeds if place < self.plan.seeded_sizes else 1))

    @cached_property
    def swept(self) -> tuple[Size, ...]:
        """The sizes at which rates are tried, with the one point of those runs."""
        plan = self.plan
        found = (self.sizes[place] for place in plan.swept if place < len(self.sizes))
        return tuple(replace(size, points=(_point(plan, size, plan.swept_ratio),)) for size in found)

    @property
    def swept_flop(self) -> float:
        """Of the runs that find the rate."""
        return self.plan.swept_rates * sum(size.separate_flop() for size in self.swept)

    @property
    def separate_flop(self) -> float:
        """Of all points as runs of their own, seeds included."""
        return sum(len(self.seeds(i)) * size.separate_flop() for i, size in enumerate(self.sizes))

    @property
    def points_flop(self) -> float:
        """Of all points as this design trains them."""
        if self.plan.design == "grid":
            return self.separate_flop
        return sum(len(self.seeds(i)) * size.branched_flop() for i, size in enumerate(self.sizes))

    @property
    def compute_flop(self) -> float:
        """Of everything."""
        return self.swept_flop + self.points_flop + self.proof.separate_flop()

    @property
    def saved_fraction(self) -> float:
        """Share of the compute of separate runs that the points did not cost."""
        return 1 - self.points_flop / self.separate_flop

    @property
    def longest_tokens(self) -> int:
        """D of the longest run."""
        return max(size.tokens(point) for size in (*self.sizes, self.proof) for point in size.points)

    def flagged(self) -> Iterator[str]:
        """A sentence for each point with a flag."""
        for size in (*self.sizes, self.proof):
            for point in size.points:
                if point.flag:
                    yield f"{size.n_params:,} parameters, {size.tokens(point):,} tokens: {point.flag}"


def laid(plan: LadderPlan) -> Layout:
    """Settle everything that the rules leave to the smallest size.

    Raises:
        InfeasibleError: the smallest model is too small for a vocabulary, or two sizes are one.
        UsageError: the plan does not say how large the smallest is.
    """
    if plan.smallest_params is None:
        raise UsageError("ladder plan: give a budget, or smallest_params")
    step = plan.size_step or SPAN ** (1 / (plan.sizes - 1))
    vocabulary = plan.vocabulary or rules.vocabulary(plan.smallest_params)
    context = plan.context or rules.context(plan.smallest_params)
    sizes: list[Size] = []
    for i in range(plan.sizes):
        before = sizes[-1].model if sizes else None
        wanted = (sizes[0].n_params if sizes else plan.smallest_params) * step**i
        model = rules.model_of(wanted, vocabulary=vocabulary, context=context, layers=plan.layers, after=before)
        sizes.append(_size(plan, model, plan.ratios))
    if any(b.n_params < 1.1 * a.n_params for a, b in pairwise(sizes)):
        raise InfeasibleError(
            f"sizes {', '.join(f'{size.n_params:,}' for size in sizes)}: neighbours are one model in widths of 4; "
            "raise size_step or the budget"
        )
    return Layout(plan=plan, vocabulary=vocabulary, context=context, sizes=tuple(sizes), proof=_proof(plan, sizes))


def of_budget(plan: LadderPlan, budget_flop: float) -> Layout:
    """The ladder whose smallest size makes it cost the budget, or a little less where widths do not allow more.

    Of those that use most of it, where the plan leaves the step between sizes open, the one with the widest span.

    Raises:
        InfeasibleError: the smallest ladder costs more; the message says how much.
    """
    if not 0 < budget_flop < math.inf:
        raise UsageError(f"budget {budget_flop:g}: must be positive and finite")
    widest = SPAN ** (1 / (plan.sizes - 1))
    steps = [plan.size_step] if plan.size_step else [max(LEAST_STEP, widest**share) for share in SHARES]
    least, best = math.inf, None
    for step in steps:
        for found in _by_size(replace(plan, size_step=step), budget_flop):
            cost = found.compute_flop
            least = min(least, cost)
            if cost <= 1.01 * budget_flop and (best is None or cost > best.compute_flop):
                best = found
        if best is not None and best.compute_flop >= ENOUGH * budget_flop:
            return best
    if best is None:
        raise InfeasibleError(
            f"a budget of {budget_flop:.3g} FLOP is too small for {plan.sizes} sizes of {len(plan.ratios)} lengths, "
            f"their rates, seeds and the kept-out run: the smallest costs {_up(least):.3g} FLOP. Fewer sizes, ratios "
            "or seeds cost less (--set sizes=3)"
        )
    return best


def _by_size(plan: LadderPlan, budget_flop: float) -> Iterator[Layout]:
    """Ladders from the smallest size up, until one costs twice the budget."""
    n_params, grown = float(rules.LEAST_PARAMS), 1.5  # work grows as its square
    while n_params < LARGEST:
        try:
            found = laid(replace(plan, smallest_params=n_params))
        except InfeasibleError:
            n_params *= FINE
            continue
        yield found
        if found.compute_flop > 2 * budget_flop:
            return
        n_params *= FINE if found.compute_flop * grown**2 > budget_flop else grown


def _up(flop: float) -> float:
    """Rounded up to three digits, so that the budget named is enough."""
    step = 10.0 ** (math.floor(math.log10(flop)) - 2)
    return math.ceil(flop / step) * step


def chosen(layout: Layout, picked: Sequence[tuple[int, int]]) -> Layout:
    """The layout with these points alone, (place of the size, place of the point); sizes without one fall out."""
    sizes = []
    for place, size in enumerate(layout.sizes):
        points = tuple(size.points[j] for i, j in sorted(picked) if i == place)
        if points:
            sizes.append(replace(size, points=points))
    return replace(layout, sizes=tuple(sizes))


def middle(layout: Layout) -> Layout:
    """The middle size alone: what stands for the ladder where its speed is measured."""
    return replace(layout, sizes=layout.sizes[len(layout.sizes) // 2 :][:1])


def _size(plan: LadderPlan, model: Decoder, ratios: Sequence[float]) -> Size:
    """How this model is trained: batch, warmup and beta2 by the plan's shortest point, whichever points it has.

    The kept-out size follows the same rule as the sizes that foretell it: with a batch of its own length's, eight times
    that of the size below, its loss lay 1 to 2 % higher (LOG.md).
    """
    context = model.context
    total = parameters(model).total
    shortest = plan.ratios[0] * plan.tokens_per_param * total
    batch = plan.batch_tokens or rules.batch_tokens(
        total, context=context, shortest_tokens=shortest, least_steps=plan.least_steps
    )
    if batch % context:
        raise UsageError(f"ladder plan: batch_tokens {batch} is not a multiple of the context {context}")
    warmup = plan.warmup_steps
    if warmup is None:
        warmup = rules.warmup_steps(total, shortest_tokens=shortest, batch_tokens=batch)
    steps = max(1, round(shortest / batch))
    beta2 = plan.optimizer.beta2 or rules.beta2(sequences=batch // context, shortest_steps=steps)
    bare = Size(model=model, n_params=total, batch_tokens=batch, warmup_steps=warmup, beta2=beta2, points=())
    points = tuple(_point(plan, bare, ratio) for ratio in ratios)
    return replace(bare, points=points)


def _point(plan: LadderPlan, size: Size, ratio: float) -> Point:
    """So many steps, the last fifth of them, or 100 where that is more, cooling down."""
    wanted = round(ratio * plan.tokens_per_param * size.n_params / size.batch_tokens)
    cooldown = max(plan.least_cooldown_steps, round(plan.cooldown_fraction * wanted))
    steps = max(wanted, size.warmup_steps + 1 + cooldown)
    flags = []
    if cooldown > round(plan.cooldown_fraction * steps) + 1:
        flags.append(f"a fifth of its steps is fewer than {plan.least_cooldown_steps}, and its cooldown is longer")
    if steps - size.warmup_steps < plan.least_steps:
        flags.append(f"{steps - size.warmup_steps} steps after the warmup, of which {plan.least_steps} are the least")
    return Point(ratio=ratio, steps=steps, cooldown_steps=cooldown, flag="; ".join(flags))


def _proof(plan: LadderPlan, sizes: Sequence[Size]) -> Size:
    """The kept-out size: so many times the compute of the dearest point, at the middle of their D / N."""
    dearest = max(size.flop(point.steps) for size in sizes for point in size.points)
    work = plan.held_out * dearest
    n_params = math.sqrt(work / (6 * plan.tokens_per_param * plan.middle_ratio))
    last = sizes[-1].model
    model = rules.model_of(n_params, vocabulary=last.vocabulary, context=last.context, layers=plan.layers, after=last)
    total = parameters(model).total
    batch = _size(plan, model, ()).batch_tokens
    steps = math.ceil(work / (6 * total * batch))
    return _size(plan, model, (steps * batch / (plan.tokens_per_param * total),))
