"""What a ladder of trunks and branches is asked to be: a `ladder.toml`, every rule of it open to change."""

from itertools import pairwise
from typing import Literal, TypeAlias

from msgspec import Struct

from isoflop.errors import UsageError
from isoflop.specs.optimizer import Optimizer

Design: TypeAlias = Literal["trunks", "grid", "designed"]
"""trunks: one stable trunk a size, cooldown branches off it. grid: the same points as separate cosine runs. designed:
the branches that leave least unknown, at a share of the grid's compute."""


class LadderPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sizes, points, seeds and rates of a ladder; what is None is settled by a rule of `plan.ladder_rules`.

    Attributes:
        smallest_params: size of the first rung; None takes what the budget pays.
        sizes: number of sizes a law may see.
        size_step: ratio of neighbouring ones; None takes the widest that the budget pays, up to ten times in all.
        tokens_per_param: the D / N that `ratios` are multiples of.
        ratios: points of each size, rising.
        held_out: compute of the kept-out run over the dearest of the others.
        held_out_ratio: its D / N, as one of `ratios`; None takes their middle.
        seeds: runs of each point of the `seeded_sizes` smallest sizes, which tell the noise.
        swept_rates: learning rates tried, more where the best is the last of them; 0 takes the published rule, and
            `optimizer.learning_rate` that number.
        swept_step: ratio of neighbouring ones.
        swept_sizes: where they are tried: the smallest ones, the last of them the middle of the ladder.
        swept_ratio: D / N of those runs, as one of `ratios`.
        layers, vocabulary, context, batch_tokens, warmup_steps: one for all sizes instead of a rule for each.
        cooldown_fraction: of a point's tokens, on a branch.
        least_cooldown_steps, least_steps: below these a branch, or what follows the warmup, is too short.
        designed_share: what "designed" may cost, over the grid of all points.
        validation_tokens: of every evaluation at a run's end.
    """

    design: Design = "trunks"
    smallest_params: float | None = None
    sizes: int = 5
    size_step: float | None = None
    tokens_per_param: float = 20.0
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)
    held_out: float = 4.0
    held_out_ratio: float | None = None
    seed: int = 0
    seeds: int = 3
    seeded_sizes: int = 2
    swept_rates: int = 5
    swept_step: float = 2.0
    swept_sizes: int = 3
    swept_ratio: float = 1.0
    layers: int | None = None
    vocabulary: int | None = None
    context: int | None = None
    batch_tokens: int | None = None
    warmup_steps: int | None = None
    cooldown_fraction: float = 0.2
    least_cooldown_steps: int = 100
    least_steps: int = 500
    designed_share: float = 0.5
    optimizer: Optimizer = Optimizer()
    validation_tokens: int = 262_144
    schema: Literal["isoflop/ladder-plan@1"] = "isoflop/ladder-plan@1"

    def __post_init__(self) -> None:
        least = {
            "sizes": 2, "seeds": 1, "seeded_sizes": 0, "seed": 0, "swept_rates": 0, "swept_sizes": 1, "layers": 1,
            "vocabulary": 257, "context": 8, "batch_tokens": 1, "warmup_steps": 0, "least_cooldown_steps": 1,
            "least_steps": 1, "validation_tokens": 1, "held_out": 1.0,
        }  # fmt: skip
        for name, smallest in least.items():
            if (value := getattr(self, name)) is not None and not smallest <= value < float("inf"):
                raise UsageError(f"ladder plan: {name} is {value}; it must be at least {smallest} and finite")
        positive = ("smallest_params", "tokens_per_param", "held_out_ratio", "swept_ratio")
        for name in positive:
            if (value := getattr(self, name)) is not None and not 0 < value < float("inf"):
                raise UsageError(f"ladder plan: {name} is {value}; it must be positive and finite")
        for name in ("size_step", "swept_step"):
            if (value := getattr(self, name)) is not None and not 1 < value < float("inf"):
                raise UsageError(f"ladder plan: {name} is {value}; it must exceed 1")
        for name in ("cooldown_fraction", "designed_share"):
            if not 0 < getattr(self, name) < 1:
                raise UsageError(f"ladder plan: {name} is {getattr(self, name)}; it is a share between 0 and 1")
        self._check_together()

    def _check_together(self) -> None:
        rising = all(a < b for a, b in pairwise(self.ratios))
        if len(self.ratios) < 2 or not rising or not 0 < self.ratios[0] <= self.ratios[-1] < float("inf"):
            raise UsageError(f"ladder plan: ratios {list(self.ratios)}: two or more positive numbers, rising")
        if 0 < self.swept_rates < 3:
            raise UsageError("ladder plan: swept_rates: a parabola needs 3; 0 takes the published rule")
        for name in ("seeded_sizes", *(("swept_sizes",) if self.swept_rates else ())):
            if getattr(self, name) > self.sizes:
                raise UsageError(f"ladder plan: {name} is {getattr(self, name)}, of the {self.sizes} sizes there are")
        context = self.context
        if context is not None and self.batch_tokens is not None and self.batch_tokens % context:
            raise UsageError(
                f"ladder plan: batch_tokens {self.batch_tokens} is not a multiple of the context {context}"
            )
        points = self.sizes * len(self.ratios)
        if points < 6:
            raise UsageError(f"ladder plan: {points} points; a law of 5 coefficients needs 6: more sizes or ratios")

    @property
    def middle_ratio(self) -> float:
        """Of the kept-out run: as asked, or the geometric middle of the points."""
        return self.held_out_ratio or (self.ratios[0] * self.ratios[-1]) ** 0.5

    @property
    def swept(self) -> tuple[int, ...]:
        """Places of the sizes at which rates are tried: the smallest, and the middle one or the next above."""
        if not self.swept_rates or self.optimizer.learning_rate is not None:
            return ()
        first = tuple(range(self.swept_sizes - 1))
        return (*first, max(self.sizes // 2, self.swept_sizes - 1))
