"""Which small runs to train for a law: an isoFLOP grid around the expected optimum, and one dearer rung as its proof.

Levels grow evenly in log compute. At each level the sizes step evenly in log N around sqrt(C / (6 r)), with r the
tokens per parameter expected at the optimum, so that every parabola has its minimum inside. The proof is 4 times the
compute of the dearest level, at the same r.

All models are of one family: equal depth, a width in steps of 8, hidden 8/3 of it. N is then not hit to a per cent (the
tokens make up for it, so that 6 N D is), but loss is a smooth function of N. Hitting N exactly by turning depth, width
and hidden size at once scatters the losses of models this small by several times their noise.
"""

import math
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from isoflop import units
from isoflop.count.parameters import parameters
from isoflop.errors import InfeasibleError, UsageError
from isoflop.laws.hyperparameters import horizon, learning_rate
from isoflop.specs.architecture import Decoder
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.recipe import Recipe
from isoflop.specs.schedule import Schedule

LEAST_STEPS = 100  # of a rung: below that warmup and cooldown are all there is
SWEPT_TOKENS = 450e3  # length of the runs that the learning rate's constant was swept on (LOG.md)
# Swept at 512 tokens a step: a memory of 100 steps beats 1,000 by 0.03 nats, a cooldown of 0.4 beats 0.2 by 0.04.
BETA2 = 0.99
SCHEDULE = Schedule(warmup_fraction=0.1, cooldown_fraction=0.4)


class Ladder(Struct, frozen=True, kw_only=True):
    """An isoFLOP grid and its proof.

    Attributes:
        cheapest_flop: compute of the first level, 6 N D.
        levels: number of levels.
        ratio: compute of a level over that of the one before.
        sizes: models per level.
        step: ratio of neighbouring sizes.
        layers: depth of every model.
        tokens_per_param: D / N at the middle of each level.
        held_out: compute of the proof over that of the dearest level.
        vocabulary, context: of every model.
        batch_tokens: of every step of every run. One size for all keeps the loss smooth in N and D, and a small one
            lets short runs take enough steps: 133k parameters reach 3.96 nats on 450k tokens with 512, 4.04 with 1,024.
    """

    cheapest_flop: float
    levels: int = 4
    ratio: float = 2.2
    sizes: int = 5
    step: float = 1.55
    layers: int = 3
    tokens_per_param: float = 10.0
    held_out: float = 4.0
    vocabulary: int = 1024
    context: int = 128
    batch_tokens: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        if self.levels < 2 or self.sizes < 3:
            raise UsageError(f"ladder: {self.levels} levels of {self.sizes} sizes; a law needs 2 levels of 3 at least")
        if self.batch_tokens % self.context or self.batch_tokens < 1:
            raise UsageError(
                f"ladder: a batch of {self.batch_tokens} tokens is not a multiple of the context {self.context}"
            )
        if (
            min(self.step, self.ratio) <= 1
            or self.tokens_per_param <= 0
            or self.held_out < 1
            or self.cheapest_flop <= 0
        ):
            raise UsageError(
                "ladder: step and ratio must exceed 1, held_out be at least 1, FLOP and tokens be positive"
            )

    @property
    def level_flop(self) -> list[float]:
        """Compute of one rung of each level."""
        return [self.cheapest_flop * self.ratio**i for i in range(self.levels)]

    @property
    def held_out_flop(self) -> float:
        """Compute of the proof."""
        return self.level_flop[-1] * self.held_out

    @property
    def compute_flop(self) -> float:
        """All rungs and the proof together."""
        return self.sizes * sum(self.level_flop) + self.held_out_flop


def of_budget(budget_flop: float, ladder: Ladder) -> Ladder:
    """The same ladder, moved so that all of it costs `budget_flop`.

    Raises:
        InfeasibleError: the shortest rung would have too few steps; the message says what is the smallest budget.
    """
    moved = _moved(ladder, budget_flop / ladder.compute_flop)
    if _fits(moved):
        return moved
    factor = budget_flop / ladder.compute_flop
    while not _fits(_moved(ladder, factor)):
        factor *= 1.1
    least = _moved(ladder, factor).compute_flop
    raise InfeasibleError(
        f"{units.show(budget_flop, 'FLOP')} is too small for {ladder.levels} levels of {ladder.sizes} sizes with "
        f"a vocabulary of {ladder.vocabulary}: it needs at least {units.show(least, 'FLOP')}"
    )


def rungs(ladder: Ladder, *, shards: str, threads: int, proof_threads: int) -> list[Recipe]:
    """The recipes of all rungs, cheapest level and smallest model first, the proof last.

    Args:
        shards: folder of the tokens.
        threads: of each rung's process.
        proof_threads: of the proof's, which is trained alone.

    Raises:
        InfeasibleError: a rung would have too few steps.
    """
    recipes = [
        _rung(ladder, flop, model, shards=shards, threads=threads)
        for flop in ladder.level_flop
        for model in _models(ladder, flop)
    ]
    model = _nearest(ladder, _middle(ladder, ladder.held_out_flop))
    return [*recipes, _rung(ladder, ladder.held_out_flop, model, shards=shards, threads=proof_threads, proof=True)]


def rung(ladder: Ladder, flop: float, *, n_params: float, shards: str) -> Recipe:
    """A single run of the family: the model nearest to `n_params`, on so many tokens that 6 N D is `flop`.

    Raises:
        InfeasibleError: it would have too few steps.
    """
    return _rung(ladder, flop, _nearest(ladder, n_params), shards=shards, threads=1)


def total_flop(recipes: Sequence[Recipe]) -> float:
    """6 N D of all recipes."""
    return sum(6.0 * parameters(r.model).total * r.steps * r.batch_tokens for r in recipes)


def _middle(ladder: Ladder, flop: float) -> float:
    return math.sqrt(flop / (6 * ladder.tokens_per_param))


def _models(ladder: Ladder, flop: float) -> list[Decoder]:
    """The models of one level, all different: where two wanted sizes have one nearest, the larger moves up."""
    half = (ladder.sizes - 1) / 2
    chosen: list[Decoder] = []
    for i in range(ladder.sizes):
        above = chosen[-1].width if chosen else 0
        chosen.append(_nearest(ladder, _middle(ladder, flop) * ladder.step ** (i - half), above=above))
    return chosen


def _rung(ladder: Ladder, flop: float, model: Decoder, *, shards: str, threads: int, proof: bool = False) -> Recipe:
    n_params = parameters(model).total
    n_tokens = flop / (6 * n_params)
    steps = round(n_tokens / ladder.batch_tokens)
    if steps < LEAST_STEPS:
        raise InfeasibleError(
            f"rung of {units.show(flop, 'FLOP')} and {units.show(n_params, 'parameters')} parameters: {steps} steps, "
            f"of which {LEAST_STEPS} are the least. Raise the budget or shorten the context"
        )
    tokens = steps * ladder.batch_tokens
    rate = learning_rate(n_params=n_params) * horizon(n_tokens=tokens, reference_tokens=SWEPT_TOKENS)
    name = f"n{units.show(n_params, 'parameters', digits=2)}-d{units.show(tokens, 'tokens', digits=2)}"
    return Recipe(
        name=f"proof-{name}" if proof else name,
        shards=shards,
        model=model,
        n_tokens=tokens,
        batch_tokens=ladder.batch_tokens,
        optimizer=Optimizer(learning_rate=rate, beta2=BETA2),
        schedule=SCHEDULE,
        seed=ladder.seed,
        threads=threads,
        role="held_out" if proof else "fit",
    )


def _nearest(ladder: Ladder, wanted: float, *, above: int = 0) -> Decoder:
    """The member of the family wider than `above` whose N is nearest to `wanted`, on a log scale."""
    members = (_member(ladder, width) for width in range(max(16, above + 8), 4096, 8))
    smaller = larger = next(members)
    for larger in members:
        if parameters(larger).total >= wanted:
            break
        smaller = larger
    return min((smaller, larger), key=lambda model: abs(math.log(parameters(model).total / wanted)))


def _member(ladder: Ladder, width: int) -> Decoder:
    heads = next(h for h in range(max(2, width // 32), 0, -1) if width % (2 * h) == 0)
    return Decoder(
        layers=ladder.layers,
        width=width,
        heads=heads,
        kv_heads=heads,
        head_size=width // heads,
        hidden=8 * round(width / 3),
        vocabulary=ladder.vocabulary,
        context=ladder.context,
        tied=True,
    )


def _moved(ladder: Ladder, factor: float) -> Ladder:
    return replace(ladder, cheapest_flop=ladder.cheapest_flop * factor)


def _fits(ladder: Ladder) -> bool:
    try:
        rungs(ladder, shards="", threads=1, proof_threads=1)
    except (InfeasibleError, UsageError):
        return False
    return True
