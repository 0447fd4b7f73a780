"""Recipes that go on from a checkpoint: more of the same run, its cooldown, other data, a longer context.

More of the same and a cooldown take the checkpoint's whole state: the run is then, to the bit, the one that a recipe of
that length and schedule would have trained in one go (Hägele et al. 2024, arXiv:2405.18392, sec. 3). Everything else
takes the weights and begins a schedule of its own, by this rule: the rate rises linearly from where the checkpoint left
it to the peak, or a share of it, over 1 % of the steps and decays again (Gupta et al. 2023, arXiv:2308.04014; Ibrahim
et al. 2024, arXiv:2403.08763: how long the rise takes matters little, how high it goes trades the new data against the
old). A checkpoint at its peak has nothing to rise to.

New data may be mixed with the old, which keeps what was learned of those (Ibrahim et al. 2024: 5 % of them against a
weak shift, 25 to 50 against a strong one): a share of the tokens is of the old mixture, its proportions kept.
"""

from pathlib import PurePath

from msgspec import Struct, structs

from isoflop.errors import UsageError
from isoflop.specs.architecture import Decoder, Model
from isoflop.specs.data import Data, Phase, Source, Stage
from isoflop.specs.origin import Origin
from isoflop.specs.recipe import Recipe
from isoflop.specs.schedule import CooldownShape, Schedule
from isoflop.train.schedule import cooling_from, multiplier, warmup_steps

REWARM = 0.01
"""Share of the steps in which the rate rises again (Ibrahim et al. 2024)."""
REWARM_STEPS = 50
"""At least so many, up to a tenth of the run: AdamW's moments begin at zero."""
ANNEAL, ANNEAL_STEPS = 0.2, 100
"""Usual length of a cooldown, as a share of the steps before it, and its least."""


class Trunk(Struct, frozen=True, kw_only=True):
    """What a recipe goes on from.

    Attributes:
        checkpoint: as the recipe shall name it.
        run: id of the run.
        recipe: that run's.
        step: of the checkpoint.
        learning_rate: that run's peak.
    """

    checkpoint: str
    run: str
    recipe: Recipe
    step: int
    learning_rate: float

    @property
    def rate(self) -> float:
        """The learning rate of its last step, as a share of its peak."""
        return multiplier(self.recipe.schedule, step=self.step - 1, steps=self.recipe.steps)

    @property
    def phase(self) -> Phase:
        """The phase of its recipe that its last step was in."""
        return [phase for phase in self.recipe.phases if phase.begins < self.step][-1]

    @property
    def stable(self) -> bool:
        """Whether its schedule may go on for as long as one likes: past the warmup, before any decay."""
        schedule, steps = self.recipe.schedule, self.recipe.steps
        return warmup_steps(schedule, steps) <= self.step <= cooling_from(schedule, steps)


def more(trunk: Trunk, *, n_tokens: int) -> Recipe:
    """So many more tokens of the same run, with no cooldown; `anneal` what comes of it.

    Raises:
        UsageError: its rate is no longer stable, or there is not one step in the tokens.
    """
    if not trunk.stable:
        raise UsageError(_unstable(trunk))
    return _with_state(trunk, steps=_steps(trunk.recipe, n_tokens), cooldown=0)


def anneal(
    trunk: Trunk,
    *,
    n_tokens: int | None = None,
    shape: CooldownShape | None = None,
    final_fraction: float = 0.0,
    shards: str | None = None,
    replay: float = 0.0,
) -> Recipe:
    """A cooldown branch: the rate goes to `final_fraction` of itself, the data order goes on.

    Args:
        n_tokens: of the cooldown; None takes 20 % of the trunk's at that point, at least 100 steps.
        shape: None takes 1 - sqrt.
        shards: other data to cool down on, such as the best there are; the trunk's own go on beside them.
        replay: share of the tokens that are the trunk's own, where there are others.

    Raises:
        UsageError: the trunk's rate is no longer stable there, or a share that is none.
    """
    if not trunk.stable:
        raise UsageError(_unstable(trunk))
    usual = max(ANNEAL_STEPS, round(ANNEAL * trunk.step))
    steps = usual if n_tokens is None else _steps(trunk.recipe, n_tokens)
    recipe = _with_state(trunk, steps=steps, cooldown=steps, shape=shape, final_fraction=final_fraction)
    if shards is None:
        _check_replay(replay, shards)
        return recipe
    mixed = _mixed(trunk, shards, replay)
    before = tuple(
        structs.replace(source, weight=weight)
        for source, weight in zip(mixed, [*(source.weight for source in recipe.sources), 0.0], strict=True)
    )
    earlier = tuple(s for s in recipe.data.stages if s.at_tokens // recipe.batch_tokens < trunk.step)
    stage = Stage(at_tokens=trunk.step * recipe.batch_tokens, weights={source.name: source.weight for source in mixed})
    return structs.replace(recipe, shards="", data=Data(sources=before, stages=(*earlier, stage)))


def anew(
    trunk: Trunk,
    *,
    n_tokens: int,
    peak_share: float = 1.0,
    shards: str | None = None,
    replay: float = 0.0,
    context: int | None = None,
    rope_theta: float | None = None,
) -> Recipe:
    """A run of its own on the checkpoint's weights, its rate re-warmed and decayed again.

    Args:
        peak_share: of the trunk's peak that the rate rises to.
        shards: other data; None stays with the trunk's and goes on in their order.
        replay: share of the tokens that are the trunk's own, where there are others.
        context: another one; a longer one raises `rope_theta` by `ntk_theta`.
        rope_theta: instead of that rule.

    Raises:
        UsageError: a number that cannot be, or a batch that is no multiple of the context.
    """
    _check_replay(replay, shards)
    if not 0 < peak_share < float("inf"):
        raise UsageError(f"--peak-share {peak_share:g}: a positive share of the trunk's peak")
    recipe = trunk.recipe
    steps = _steps(recipe, n_tokens)
    rise = min(0.1, max(REWARM, REWARM_STEPS / steps))
    schedule = structs.replace(
        recipe.schedule if recipe.schedule.name != "wsd" or recipe.schedule.cooldown else Schedule(),
        warmup_fraction=rise if trunk.rate < peak_share else 0.0,
        warmup_from=trunk.rate / peak_share if trunk.rate < peak_share else 0.0,
    )
    muon = recipe.optimizer.muon_learning_rate
    optimizer = structs.replace(
        recipe.optimizer,
        learning_rate=trunk.learning_rate * peak_share,
        muon_learning_rate=None if muon is None else muon * peak_share,
    )
    last = recipe.within(trunk.phase)
    model = _reaching(last.model, last.model.context if context is None else context, rope_theta)
    folder, data = last.shards, last.data
    if shards is not None:
        mixed = _mixed(trunk, shards, replay)
        folder, data = ("", Data(sources=mixed)) if replay else (shards, Data())
    return structs.replace(
        recipe,
        shards=folder,
        data=data,
        model=model,
        layout=recipe.layout if model.context == recipe.model.context else None,  # it was of that sequence
        n_tokens=steps * recipe.batch_tokens,
        optimizer=optimizer,
        schedule=schedule,
        origin=Origin(checkpoint=trunk.checkpoint, take="weights"),
    )


def _mixed(trunk: Trunk, shards: str, replay: float) -> tuple[Source, ...]:
    """The trunk's sources with that share of the tokens in their old proportions, and behind them the new one."""
    _check_replay(replay, shards)
    recipe = trunk.recipe
    sources, shares = recipe.sources, trunk.phase.parts
    new = PurePath(shards).name.replace(".", "-")
    names = {source.name for source in sources}
    name = next(one for one in (new, *(f"{new}-{i}" for i in range(2, len(names) + 3))) if one not in names)
    old = tuple(
        structs.replace(source, weight=round(replay * share / sum(shares), 9))  # 0.1, not 0.09999999999999999
        for source, share in zip(sources, shares, strict=True)
    )
    return (*old, Source(name=name, shards=shards, weight=round(1 - replay, 9)))


def _check_replay(replay: float, shards: str | None) -> None:
    if not 0 <= replay < 1:
        raise UsageError(f"--replay {replay:g}: a share of the tokens, at least 0 and below 1")
    if replay and shards is None:
        raise UsageError("--replay is of the old data beside new ones; name these with --shards")


def _reaching(model: Model, context: int, rope_theta: float | None) -> Model:
    """The model with this context, and with rotary positions for it."""
    if context == model.context and rope_theta is None:
        return model
    if not isinstance(model, Decoder):
        raise UsageError("--context, --rope-theta: only a decoder's positions can be stretched")
    theta = model.rope_theta if rope_theta is None else rope_theta
    if rope_theta is None and context > model.context:
        theta = ntk_theta(theta, stretch=context / model.context, head_size=model.head_size)
    return structs.replace(model, context=context, rope_theta=theta)


def ntk_theta(theta: float, *, stretch: float, head_size: int) -> float:
    """theta * stretch^(S / (S - 2)): the slowest frequency is stretched just so far, the fastest not at all.

    Source: "NTK-aware" scaling, bloc97 2023, as in Peng et al. 2023 (arXiv:2309.00071), sec. 3.1.

    Raises:
        UsageError: heads of 2 channels have one frequency, and no base moves it.
    """
    if head_size < 4:
        raise UsageError(f"architecture: head_size {head_size} has one rotary frequency, which no rope_theta stretches")
    return float(theta * stretch ** (head_size / (head_size - 2)))


def _with_state(
    trunk: Trunk, *, steps: int, cooldown: int, shape: CooldownShape | None = None, final_fraction: float = 0.0
) -> Recipe:
    """So many more steps with the trunk's state, the last ones cooling down; the schedule before is the trunk's."""
    recipe, total = trunk.recipe, trunk.step + steps
    warmup = warmup_steps(recipe.schedule, recipe.steps) / total
    schedule = structs.replace(
        recipe.schedule,
        warmup_fraction=warmup,
        cooldown_fraction=min(
            cooldown / total, 1 - warmup
        ),  # together 1 where the trunk is all warmup, not an ulp more
        cooldown_shape=shape,
        final_fraction=final_fraction,
    )
    return structs.replace(
        recipe,
        n_tokens=total * recipe.batch_tokens,
        schedule=schedule,
        origin=Origin(checkpoint=trunk.checkpoint, take="state"),
    )


def _steps(recipe: Recipe, n_tokens: int) -> int:
    """Whole steps in so many tokens.

    Raises:
        UsageError: not one.
    """
    if n_tokens < recipe.batch_tokens:
        raise UsageError(f"--tokens {n_tokens}: less than one step of {recipe.batch_tokens} tokens")
    return n_tokens // recipe.batch_tokens


def _unstable(trunk: Trunk) -> str:
    """Why this checkpoint's schedule cannot go on, and what would."""
    schedule, steps = trunk.recipe.schedule, trunk.recipe.steps
    first, last = warmup_steps(schedule, steps), cooling_from(schedule, steps)
    there = f"run {trunk.run} at step {trunk.step}"
    if last < first or schedule.name in ("cosine", "linear"):
        return (
            f'{there}: its schedule "{schedule.name}" has no stable part to go on from or to branch off. Train a trunk '
            'with schedule.name = "wsd" and cooldown_fraction = 0, or re-warm it: --rewarm'
        )
    return (
        f"{there}: its rate is stable from step {first} to {last} only. Take a checkpoint in between, or re-warm: "
        "--rewarm"
    )
