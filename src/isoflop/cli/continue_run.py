"""`isoflop continue`: a run that begins from another run's checkpoint."""

from pathlib import Path
from typing import Any, NamedTuple

import click
from msgspec import structs

from isoflop import files, units
from isoflop.cli.shell import Output, output_options
from isoflop.cli.train import folder_name, run_recipe
from isoflop.data.sources import open_sources
from isoflop.errors import InputError, UsageError
from isoflop.specs import recipe_file
from isoflop.specs.recipe import Recipe
from isoflop.specs.run import Run
from isoflop.specs.schedule import CooldownShape
from isoflop.train import continuation, store
from isoflop.train.continuation import Trunk
from isoflop.train.environment import begin_anew
from isoflop.train.place import locate
from isoflop.train.repeats import shares
from isoflop.train.schedule import cooling_from, multiplier, warmup_steps


@click.command("continue")
@click.argument("checkpoint", metavar="CKPT")
@click.option("--tokens", metavar="TOKENS", help="How many more, e.g. 2e6 or 2M; --anneal has a rule for it.")
@click.option("--anneal", is_flag=True, help="A cooldown branch; 20 % of the tokens so far, at least 100 steps.")
@click.option("--shape", type=click.Choice(["1-sqrt", "linear"]), help="Of the cooldown.  [default: 1-sqrt]")
@click.option("--shards", type=click.Path(path_type=Path), help="Other data, in the same tokens.")
@click.option("--replay", type=float, default=0.0, show_default=True,
              help="Beside --shards: share of the tokens that are the old data.")  # fmt: skip
@click.option("--context", type=int, help="Another context; a longer one raises rope_theta, NTK-aware.")
@click.option("--rope-theta", type=float, help="Another base of the rotary positions, instead of that rule.")
@click.option("--rewarm", is_flag=True, help="Its weights and a schedule of their own, stable or not.")
@click.option("--peak-share", type=float, default=1.0, show_default=True, help="Of the old peak, to re-warm to.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a key of the recipe made.")
@click.option("--runs-dir", type=click.Path(path_type=Path), default=Path("runs"), show_default=True,
              help="Folder of runs.")  # fmt: skip
@click.option("--name", help="Folder in --runs-dir; default: from the run, the step and what is done.")
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
@output_options("continue")
def continue_run(
    checkpoint: str, tokens: str | None, anneal: bool, shape: CooldownShape | None, shards: Path | None,
    replay: float, context: int | None, rope_theta: float | None, rewarm: bool, peak_share: float,
    settings: tuple[str, ...], runs_dir: Path, name: str | None, dry_run: bool, output: Output,
) -> None:  # fmt: skip
    """Go on from a checkpoint: more, a cooldown, other data.

    CKPT is a checkpoint's folder, RUN@STEP, or a run's folder for its newest. `isoflop continue runs/tiny@800 --anneal`
    is to the bit the run that one recipe of that length would have trained. `--tokens 2e6` alone goes on at the stable
    rate. With other data, a longer context or a decayed rate, the weights begin a schedule of their own, which rises
    from the last rate to the peak over 1 % of the steps (at least 50, at most a tenth) and decays again. `--anneal
    --shards shards/best --replay 0.3` cools down on other data, mixed with the old.
    """
    trunk = read_trunk(checkpoint, runs_dir)
    begin_anew(trunk.recipe.threads)  # before anything large is imported
    n_tokens = None if tokens is None else int(units.parse(tokens, "tokens", name="--tokens"))
    asked = Asked(n_tokens, anneal, shape, shards, replay, context, rope_theta, rewarm, peak_share)
    made, what = asked.recipe(trunk)
    name = folder_name(name or f"{Path(trunk.run).name}-{trunk.step}-{what}")
    recipe = recipe_file.changed(structs.replace(made, name=name), settings)
    story = described(trunk, recipe, runs_dir / name)
    if dry_run:
        from isoflop.train.origin import resolved

        resolved(recipe, folder=runs_dir / name, sources=open_sources(recipe.sources))
        output.show(story, lambda printer: printer.line(sentence(story)))
        return
    output.progress(sentence(story))
    run_recipe(recipe, runs_dir / name, output)


class Asked(NamedTuple):
    """What the options say."""

    n_tokens: int | None
    anneal: bool
    shape: CooldownShape | None
    shards: Path | None
    replay: float
    context: int | None
    rope_theta: float | None
    rewarm: bool
    peak_share: float

    @property
    def anew(self) -> bool:
        """Whether something is asked for that only the weights can give."""
        others = (None if self.anneal else self.shards, self.context, self.rope_theta)
        return self.rewarm or self.peak_share != 1 or any(one is not None for one in others)

    def recipe(self, trunk: Trunk) -> tuple[Recipe, str]:
        """The recipe that gives it, and a word for it.

        Raises:
            UsageError: options that do not go together, or that this checkpoint cannot follow.
        """
        if self.anneal and self.anew:
            raise UsageError(
                "--anneal is a branch of the same run; it goes with --tokens, --shape, --shards, --replay and --set "
                "alone"
            )
        shards = None if self.shards is None else str(self.shards)
        if self.anneal:
            made = continuation.anneal(
                trunk, n_tokens=self.n_tokens, shape=self.shape, shards=shards, replay=self.replay
            )
            return made, "anneal"
        if self.shape is not None:
            raise UsageError("--shape is of a cooldown; it goes with --anneal")
        if self.n_tokens is None:
            raise UsageError("say how many more tokens: --tokens 2e6; or --anneal, which has a rule")
        if trunk.stable and not self.anew and not self.replay:
            return continuation.more(trunk, n_tokens=self.n_tokens), "more"
        made = continuation.anew(
            trunk,
            n_tokens=self.n_tokens,
            peak_share=self.peak_share,
            shards=shards,
            replay=self.replay,
            context=self.context,
            rope_theta=self.rope_theta,
        )
        return made, "data" if self.shards else f"context-{self.context}" if self.context else "rewarmed"


def read_trunk(checkpoint: str, runs_dir: Path) -> Trunk:
    """What lies there, as far as files tell without torch; the tensors are held against their hashes when taken up.

    Raises:
        InputError: no such checkpoint, or no recipe and run beside it.
    """
    try:
        folder, home = locate(checkpoint)
    except InputError:
        if not (runs_dir / checkpoint.partition("@")[0]).is_dir():
            raise
        folder, home = locate(str(runs_dir / checkpoint))
    run = files.read_json(home / store.RUN, Run)
    if run.learning_rate is None:
        raise InputError(f"{home / store.RUN}: no learning rate in it; it is no run of ours")
    return Trunk(
        checkpoint=str(folder),
        run=run.id,
        recipe=recipe_file.load(home / store.RECIPE),
        step=int(folder.name.removeprefix("step-")),
        learning_rate=run.learning_rate,
    )


def described(trunk: Trunk, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """What is taken, how far it goes and how the rate goes, before anything is trained."""
    assert recipe.origin is not None
    counted = recipe.origin.take == "state"
    own_steps = recipe.steps - (trunk.step if counted else 0)
    peak = recipe.optimizer.learning_rate or trunk.learning_rate
    warm, cool = warmup_steps(recipe.schedule, recipe.steps), cooling_from(recipe.schedule, recipe.steps)
    first = trunk.step if counted else 0
    return {
        "checkpoint": recipe.origin.checkpoint,
        "take": recipe.origin.take,
        "from_run": trunk.run,
        "from_step": trunk.step,
        "folder": str(folder),
        "shards": recipe.shards or None,
        "shares": shares(recipe.within(recipe.phases[-1]).sources),
        "n_tokens": own_steps * recipe.batch_tokens,
        "steps": own_steps,
        "schedule": recipe.schedule.name,
        "warmup_steps": 0 if counted else warm,
        "cooldown_steps": recipe.steps - max(cool, first),
        "last_learning_rate": trunk.rate * trunk.learning_rate,
        "first_learning_rate": peak * multiplier(recipe.schedule, step=first, steps=recipe.steps),
        "peak_learning_rate": peak,
        "final_learning_rate": peak * multiplier(recipe.schedule, step=recipe.steps - 1, steps=recipe.steps),
        "context": recipe.phases[-1].model.context,
        "rope_theta": getattr(recipe.phases[-1].model, "rope_theta", None),
    }


def sentence(story: dict[str, Any]) -> str:
    """The same in words."""
    taken = "all its state, the data order goes on" if story["take"] == "state" else "its weights, the rest anew"
    rise = f"rises over {story['warmup_steps']} steps to {story['peak_learning_rate']:.3g}, then "
    fall = f"falls over {story['cooldown_steps']} to {story['final_learning_rate']:.3g}"
    flat = f"stays at {story['peak_learning_rate']:.3g}"
    course = (rise if story["warmup_steps"] else "") + (fall if story["cooldown_steps"] else flat)
    theta = "" if story["rope_theta"] is None else f", rope_theta {story['rope_theta']:.6g}"
    return (
        f"{story['folder']}: from {story['from_run']} at step {story['from_step']}, {taken}; {story['steps']} steps, "
        f"{units.show(story['n_tokens'], 'tokens')} tokens of {story['shards'] or story['shares']}. Rate: was "
        f"{story['last_learning_rate']:.3g}, begins at {story['first_learning_rate']:.3g}, {course}. Context "
        f"{story['context']}{theta}"
    )
