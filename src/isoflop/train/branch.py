"""What a sweep trains: recipes, and cooldown branches that begin where another of its runs stands at some step.

    trunk = replace(recipe, n_tokens=..., schedule=Schedule(warmup_fraction=..., cooldown_fraction=0.0))
    sweep([trunk, Branch(name="d20", trunk=trunk, step=800, cooldown_steps=200),
                  Branch(name="d40", trunk=trunk, step=1600, cooldown_steps=400)], ...)

A trunk is named by its recipe, not by its place in a list: rungs may be sorted, filtered or trained in several sweeps,
and a trunk that is not listed itself is trained along. A branch has no key before its trunk has come to its step, as
the key holds the sha256 of the checkpoint that it begins from. On a CPU the branch is then, to the bit, the run of a
recipe with that length and cooldown which was trained in one go (Hägele et al. 2024, arXiv:2405.18392, sec. 3).
"""

from typing import Literal, TypeAlias

from msgspec import Struct, structs

from isoflop.count.text import flop_per_text_token
from isoflop.errors import UsageError
from isoflop.specs.origin import Origin
from isoflop.specs.recipe import Recipe
from isoflop.specs.schedule import CooldownShape
from isoflop.train import continuation
from isoflop.train.schedule import cooling_from, warmup_steps


class Branch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cooldown from a trunk's checkpoint.

    Attributes:
        name: of the run; its folder is called so.
        trunk: the recipe that it branches off, with a stable phase there and a learning rate of its own.
        step: of the trunk, at which the branch begins; the trunk keeps its checkpoint of it.
        cooldown_steps: that the branch takes itself.
        shape, final_fraction: of the cooldown; see `Schedule`.
        evaluations, validation_tokens, role: of the branch; None takes the trunk's. Evaluations are spread over the
            steps from the trunk's beginning.
    """

    name: str
    trunk: Recipe
    step: int
    cooldown_steps: int
    shape: CooldownShape | None = None
    final_fraction: float = 0.0
    evaluations: int | None = None
    validation_tokens: int | None = None
    role: Literal["fit", "held_out"] | None = None

    def __post_init__(self) -> None:
        where = f"branch {self.name!r} of {self.trunk.name!r}"
        if self.cooldown_steps < 1:
            raise UsageError(f"{where}: cooldown_steps is {self.cooldown_steps}; it must be at least 1")
        if not 1 <= self.step <= self.trunk.steps:
            raise UsageError(f"{where}: step {self.step}, and the trunk has steps 1 to {self.trunk.steps}")
        if self.trunk.optimizer.learning_rate is None:
            raise UsageError(
                f"{where}: the trunk's learning rate is left to a rule of the run's length, in which trunk and branch "
                "differ; set optimizer.learning_rate"
            )
        if not self._off.stable:
            schedule, steps = self.trunk.schedule, self.trunk.steps
            first, last = warmup_steps(schedule, steps), cooling_from(schedule, steps)
            stable = f"stable from step {first} to {last} only" if first <= last else "never stable"
            raise UsageError(
                f'{where}: at step {self.step} of a "{schedule.name}" whose rate is {stable}. Branch off there, from a '
                "trunk with schedule.cooldown_fraction = 0"
            )

    @property
    def n_tokens(self) -> int:
        """That its weights have seen at its end, those of the trunk among them."""
        return (self.step + self.cooldown_steps) * self.trunk.batch_tokens

    def recipe(self, *, checkpoint: str | None = None, sha256: str | None = None) -> Recipe:
        """As a recipe.

        Args:
            checkpoint: the trunk's, where it lies; None for a recipe that is only looked at.
            sha256: of its state, once it is there.

        """
        trunk = self._off if checkpoint is None else structs.replace(self._off, checkpoint=checkpoint)
        cooled = continuation.anneal(
            trunk,
            n_tokens=self.cooldown_steps * self.trunk.batch_tokens,
            shape=self.shape,
            final_fraction=self.final_fraction,
        )
        return structs.replace(
            cooled,
            name=self.name,
            origin=Origin(checkpoint=trunk.checkpoint, take="state", sha256=sha256),
            evaluations=self.evaluations or self.trunk.evaluations,
            validation_tokens=self.validation_tokens or self.trunk.validation_tokens,
            role=self.role or self.trunk.role,
            checkpoint=structs.replace(self.trunk.checkpoint, keep_every=None, keep_at=()),
        )

    @property
    def _off(self) -> continuation.Trunk:
        """What it goes on from."""
        return continuation.Trunk(
            checkpoint=f"{self.trunk.name}@{self.step}",
            run=self.trunk.name,
            recipe=self.trunk,
            step=self.step,
            learning_rate=self.trunk.optimizer.learning_rate or 0.0,
        )


Rung: TypeAlias = Recipe | Branch


def own_steps(rung: Rung) -> int:
    """Optimizer steps that it takes itself: of a branch, those of its cooldown."""
    return rung.cooldown_steps if isinstance(rung, Branch) else rung.steps


def own_flop(rung: Rung) -> float:
    """Work of those steps, by `count.flops`."""
    recipe = rung.trunk if isinstance(rung, Branch) else rung
    return flop_per_text_token(recipe) * own_steps(rung) * recipe.batch_tokens
