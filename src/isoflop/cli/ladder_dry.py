"""`isoflop ladder --dry-run`: the runs, what they cost, how long they take, what they tell; without torch."""

from pathlib import Path
from typing import Any

from msgspec import to_builtins

from isoflop import units
from isoflop.cli.shell import Printer
from isoflop.count.parameters import parameters
from isoflop.count.text import flop_per_text_token
from isoflop.data.shards import open_shards
from isoflop.errors import InputError
from isoflop.files import read_json
from isoflop.laws.fitted import Fit
from isoflop.plan.ladder_gain import gain
from isoflop.plan.ladder_recipes import Ground, limbs, proof, separate, tuning, usual_rate
from isoflop.plan.ladder_rules import RULES
from isoflop.plan.trunks import Layout, middle
from isoflop.specs.recipe import Recipe
from isoflop.train.ladder import MACHINE, Setup
from isoflop.train.ladder_trunks import epochs


def payload(layout: Layout, fit: Fit, *, law: str, target_flop: float | None, folder: Path) -> dict[str, Any]:
    """All of it as plain data; rates are the published rule's until they are swept."""
    ground, rate = Ground("", 1, 1), usual_rate(layout.plan)
    rungs = [_row(recipe) for recipe in tuning(layout, ground)]
    if layout.plan.design == "grid":
        rungs += [_row(recipe) for recipe in separate(layout, ground, rate)]
    else:
        for limb in limbs(layout, ground, rate):
            rungs.append(_row(limb.trunk))
            rungs += [
                _row(limb.trunk, name=name, steps=point.steps, own=point.cooldown_steps) for name, point in limb.points
            ]
    rungs.append(_row(proof(layout, ground, rate)))
    wall_s, why_not = _wall_s(layout, rungs, folder)
    brings = gain(layout, fit, law=law, target_flop=target_flop)
    return {
        "design": layout.plan.design,
        "plan": to_builtins(layout.plan),
        "rungs": rungs,
        "compute_flop": layout.compute_flop,
        "points_flop": layout.points_flop,
        "separate_flop": layout.separate_flop,
        "saved_fraction": layout.saved_fraction,
        "shares": brings.share,
        "wall_s": wall_s,
        "wall_s_unknown": why_not,
        "target_flop": brings.target_flop,
        "law": law,
        "log_loss_sd": brings.after.log_loss,
        "log_n_sd": brings.after.log_n,
        "smallest_alone_log_loss_sd": brings.smallest_alone.log_loss,
        "smallest_alone_log_n_sd": brings.smallest_alone.log_n,
        "longest_tokens": layout.longest_tokens,
        "vocabulary": layout.vocabulary,
        "context": layout.context,
        "flagged": list(layout.flagged()),
        "text": _text(layout, folder),
        "rules": {name: {"says": says, "source": source} for name, (says, source) in RULES.items()},
    }


def _row(recipe: Recipe, *, name: str = "", steps: int | None = None, own: int | None = None) -> dict[str, Any]:
    """One run; `own` steps of a branch are trained by itself."""
    n_params, total = parameters(recipe.model).total, recipe.steps if steps is None else steps
    per_step = 6.0 * n_params * recipe.batch_tokens
    return {
        "name": name or recipe.name,
        "role": "fit" if name else recipe.role,
        "n_params": n_params,
        "n_tokens": total * recipe.batch_tokens,
        "compute_flop": per_step * total,
        "spent_flop": per_step * (total if own is None else own),
        "model_flop": flop_per_text_token(recipe) * (total if own is None else own) * recipe.batch_tokens,
        "steps": total,
        "batch_tokens": recipe.batch_tokens,
        "learning_rate": recipe.optimizer.learning_rate,
        "beta2": recipe.optimizer.beta2,
        "layers": recipe.model.layers,
        "width": getattr(recipe.model, "width", None),
        "seed": recipe.seed,
    }


def _wall_s(layout: Layout, rungs: list[dict[str, Any]], folder: Path) -> tuple[float | None, str]:
    """Seconds of all runs at the speeds of a middle trunk and of the kept-out run here, or why nothing can be said."""
    path = folder / "ladder" / MACHINE
    if not path.exists():
        return None, "this machine is measured when the ladder begins; FLOP/s of another folder say nothing here"
    setup = read_json(path, Setup)
    tokens_per_s = setup.choice.apart_tokens_per_s if setup.choice.workers > 1 else setup.choice.together_tokens_per_s
    if tokens_per_s is None:
        return None, "its speed was not tried when the ladder began"
    trunk = next(limbs(middle(layout), Ground("", 1, 1), usual_rate(layout.plan))).trunk
    together = alone = tokens_per_s * flop_per_text_token(trunk)
    if setup.alone is not None and setup.alone.tokens_per_s is not None:
        kept_out = proof(layout, Ground("", 1, 1), usual_rate(layout.plan))
        alone = setup.alone.tokens_per_s * flop_per_text_token(kept_out)
    return sum(rung["model_flop"] / (alone if rung["role"] == "held_out" else together) for rung in rungs), ""


def _text(layout: Layout, folder: Path) -> str:
    """How often the text is read, where its tokens lie there already."""
    try:
        header = open_shards(folder / "shards").header
    except InputError:
        return "epochs are counted once the text is in tokens"
    return epochs(layout, unique_tokens=header.splits["train"].n_tokens)


def show(printer: Printer, told: dict[str, Any]) -> None:
    """Print it."""
    rows = [
        [
            rung["name"],
            rung["role"],
            units.show(rung["n_params"], "parameters"),
            units.show(rung["n_tokens"], "tokens"),
            units.show(rung["spent_flop"], "FLOP"),
            f"{rung['layers']} x {rung['width']}",
            str(rung["steps"]),
            str(rung["batch_tokens"]),
            f"{rung['learning_rate']:.3g}",
        ]
        for rung in told["rungs"]
    ]
    printer.table("", ["run", "role", "N", "D", "own work", "shape", "steps", "batch", "rate"], rows)
    shares = ", ".join(f"{name} {share:.0%}" for name, share in told["shares"].items())
    printer.line(f"{len(rows)} runs, {units.show(told['compute_flop'], 'FLOP')} in all: {shares}", style="bold")
    printer.line(
        f"points: {units.show(told['points_flop'], 'FLOP')} against {units.show(told['separate_flop'], 'FLOP')} of "
        f"separate runs; {told['saved_fraction']:.0%} saved"
    )
    wall = told["wall_s"]
    printer.line(f"time: {told['wall_s_unknown'] if wall is None else units.show(wall, 's')}")
    printer.line(
        f"log loss at {units.show(told['target_flop'], 'FLOP')} is then known to {told['log_loss_sd']:.1%} "
        f"({told['smallest_alone_log_loss_sd']:.1%} with the smallest size alone), the best size to a factor of "
        f"e^{told['log_n_sd']:.2g}; {told['law']} stands in for the law"
    )
    for line in filter(None, [told["text"], *told["flagged"]]):
        printer.warn(line)
    printer.facts("rules", [(name, f"{rule['says']} ({rule['source']})") for name, rule in told["rules"].items()])
