"""From a written plan to what starts it: a recipe that `isoflop train` accepts, and a script for the launcher."""

from pathlib import Path

from msgspec import Struct

from isoflop.errors import UsageError
from isoflop.plan.emit_jobs import FILES, RECIPE, Target, job, limits, script
from isoflop.plan.emit_recipe import recipe
from isoflop.plan.emit_source import PlanFile
from isoflop.specs import recipe_file
from isoflop.specs.recipe import Recipe


class Emitted(Struct, frozen=True, kw_only=True):
    """Files to write, by name, and what their reader has to be told."""

    option: str
    recipe: Recipe
    files: dict[str, str]
    warnings: list[str]


def emit(
    plan: PlanFile,
    *,
    to: Target,
    option: str | None = None,
    shards: str = "shards",
    name: str | None = None,
    per_node: int = 8,
    precision: str = "bf16",
    plan_name: str = "plan.json",
) -> Emitted:
    """The recipe of an option, and the job script where one is asked for.

    Args:
        option: name; the first where None.
        shards: folder of the tokens.
        name: of the run; the option's where None.
        per_node: devices in one machine.
        plan_name: the plan's file, for the header.

    Raises:
        InfeasibleError: the plan leaves too few steps.
        UnknownNameError: no such option.
        UsageError: a name that is no folder's, devices that fill no whole machines, or no launcher's name for them.
    """
    chosen = plan.option(option)
    run_name = name or chosen.name
    if Path(run_name).name != run_name or not run_name.isprintable():
        raise UsageError(f"--name {run_name!r}: the run's name is one folder's")
    made = recipe(chosen, shards=shards, name=run_name, precision=precision)
    header = [
        f"Option {chosen.name!r} of {plan_name}, written by `isoflop plan emit`; to train: `isoflop train {RECIPE}`.",
        f"Tokens first: isoflop data tokenize --out {shards} --vocabulary {made.model.vocabulary}",
        *limits(made),
    ]
    files = {RECIPE: "".join(f"# {line}\n" for line in header) + "\n" + recipe_file.written(made)}
    if to != "recipe":
        described = job(
            chosen, made, name=run_name, device=plan.device, count=plan.count, per_node=per_node, plan=plan_name
        )
        files[FILES[to]] = script(described, to)
    unfit = [] if chosen.fits else [f"option {chosen.name} does not fit its devices; the plan says how many would do"]
    return Emitted(option=chosen.name, recipe=made, files=files, warnings=[*unfit, *limits(made)[1:-1]])
