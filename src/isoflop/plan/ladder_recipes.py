"""The recipes of a ladder, once it is laid out: sweeps of the rate, trunks with their branches, runs of their own.

Names tell what a run is: `tune-n20K-lr0.022`, `trunk-n20K-s1`, `n20K-d400K-s1`, `proof-n480K-d19M`.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from msgspec.structs import replace

from isoflop import units
from isoflop.laws import hyperparameters
from isoflop.laws.rates import RateLine
from isoflop.plan.trunks import Layout, Point, Size
from isoflop.specs.ladder_plan import LadderPlan
from isoflop.specs.recipe import Recipe
from isoflop.specs.role import Role
from isoflop.specs.saving import Saving
from isoflop.specs.schedule import Schedule

Rate: TypeAlias = Callable[[float], float]
"""Peak learning rate of a size, by its parameters."""


class Ground(NamedTuple):
    """What recipes need beside the layout: the tokens, and the threads of a worker and of the proof's process."""

    shards: str
    threads: int
    proof_threads: int


class Limb(NamedTuple):
    """A trunk and the points that branch off it."""

    trunk: Recipe
    points: tuple[tuple[str, Point], ...]


def usual_rate(plan: LadderPlan) -> Rate:
    """As the plan says, or the published rule."""
    fixed = plan.optimizer.learning_rate
    return lambda n_params: fixed or hyperparameters.learning_rate(n_params=n_params)


def tuning(layout: Layout, ground: Ground) -> list[Recipe]:
    """Runs that find the rate: around the published rule, each rate so many times the last."""
    plan = layout.plan
    half = (plan.swept_rates - 1) / 2
    return [
        _tuned(layout, size, usual_rate(plan)(size.n_params) * plan.swept_step ** (i - half), ground)
        for size in layout.swept
        for i in range(plan.swept_rates)
    ]


def beyond(layout: Layout, ground: Ground, line: RateLine) -> list[Recipe]:
    """One rate further at each size whose best is the last one tried."""
    step, found = layout.plan.swept_step, []
    for size, best in zip(layout.swept, line.best, strict=True):
        rates = [run.learning_rate for run in best.tried]
        if best.edge:
            further = min(rates) / step if best.edge == "smallest" else max(rates) * step
            found.append(_tuned(layout, size, further, ground))
    return found


def _tuned(layout: Layout, size: Size, rate: float, ground: Ground) -> Recipe:
    run = _alone(layout.plan, size, size.points[0], rate, ground, seed=layout.plan.seed, role="tuning")
    return replace(run, name=f"tune-n{_n(size)}-lr{rate:.2g}")


def limbs(layout: Layout, ground: Ground, rate: Rate) -> Iterator[Limb]:
    """Every trunk, the seeds of a size one after the other, the smallest size first."""
    for place, size in enumerate(layout.sizes):
        for seed in layout.seeds(place):
            steps = size.trunk_steps
            trunk = _recipe(
                layout.plan, size, steps, rate(size.n_params), ground, seed=seed, role="trunk",
                schedule=Schedule(warmup_fraction=size.warmup_steps / steps, cooldown_fraction=0.0),
            )  # fmt: skip
            at = tuple(point.branches_at for point in size.points)
            trunk = replace(
                trunk, name=f"trunk-n{_n(size)}-s{seed}", evaluations=1, checkpoint=Saving(keep=1, keep_at=at)
            )
            yield Limb(trunk, tuple((f"{_name(size, point)}-s{seed}", point) for point in size.points))


def separate(layout: Layout, ground: Ground, rate: Rate) -> list[Recipe]:
    """Every point as a cosine run of its own."""
    return [
        replace(
            _recipe(
                layout.plan, size, point.steps, rate(size.n_params), ground, seed=seed, role="fit",
                schedule=Schedule(name="cosine", warmup_fraction=size.warmup_steps / point.steps),
            ),
            name=f"{_name(size, point)}-s{seed}",
        )
        for place, size in enumerate(layout.sizes)
        for seed in layout.seeds(place)
        for point in size.points
    ]  # fmt: skip


def proof(layout: Layout, ground: Ground, rate: Rate) -> Recipe:
    """The kept-out run, with the schedule of the points that forecast it."""
    plan, size = layout.plan, layout.proof
    point = size.points[0]
    alone = ground._replace(threads=ground.proof_threads)
    if plan.design == "grid":
        schedule = Schedule(name="cosine", warmup_fraction=size.warmup_steps / point.steps)
        run = _recipe(
            plan, size, point.steps, rate(size.n_params), alone, seed=plan.seed, role="held_out", schedule=schedule
        )
    else:
        run = _alone(plan, size, point, rate(size.n_params), alone, seed=plan.seed, role="held_out")
    return replace(run, name=f"proof-{_name(size, point)}", evaluations=5)


def _alone(plan: LadderPlan, size: Size, point: Point, rate: float, ground: Ground, *, seed: int, role: Role) -> Recipe:
    """A run of its own that equals a branch of that length to the bit."""
    schedule = Schedule(
        warmup_fraction=size.warmup_steps / point.steps, cooldown_fraction=point.cooldown_steps / point.steps
    )
    return _recipe(plan, size, point.steps, rate, ground, seed=seed, role=role, schedule=schedule)


def _recipe(
    plan: LadderPlan, size: Size, steps: int, rate: float, ground: Ground, *, seed: int, role: Role,
    schedule: Schedule,
) -> Recipe:  # fmt: skip
    return Recipe(
        name=f"n{_n(size)}",
        shards=ground.shards,
        model=size.model,
        n_tokens=steps * size.batch_tokens,
        batch_tokens=size.batch_tokens,
        optimizer=replace(plan.optimizer, learning_rate=rate, beta2=size.beta2),
        schedule=schedule,
        seed=seed,
        threads=ground.threads,
        validation_tokens=plan.validation_tokens,
        evaluations=1,
        role=role,
    )


def _name(size: Size, point: Point) -> str:
    return f"n{_n(size)}-d{units.show(size.tokens(point), 'tokens', digits=2)}"


def _n(size: Size) -> str:
    return units.show(size.n_params, "parameters", digits=2)
