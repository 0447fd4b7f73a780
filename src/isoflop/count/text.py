"""Work for one token of text in a run, whatever its objective makes of the text.

An encoder-decoder's encoder passes over what it reads and its decoder over what it writes, which together are more or
less than the text; and a head that says some tokens only does its work on those.
"""

from isoflop.count.flops import FlopCount, flops_per_token
from isoflop.count.parameters import parameters
from isoflop.specs.objective import Row
from isoflop.specs.recipe import Recipe


def flop_per_text_token(recipe: Recipe) -> float:
    """Operations of training, forward and backward: products and attention as `count.flops` counts them."""
    row = recipe.row
    count = _count(recipe, row)
    passing = row.inputs + row.outputs
    if row.outputs:  # all that is written is said
        return count.total * passing / row.text
    silent = 1 - row.said / row.inputs
    return count.total - 3.0 * count.head_forward * silent


def model_flop(recipe: Recipe, *, begins: int = 0, ends: int | None = None) -> float:
    """Work of the steps from one on to another, all of them if none are said; each with its phase's context."""
    phases, last = recipe.phases, recipe.steps if ends is None else ends
    stops = [*(phase.begins for phase in phases[1:]), recipe.steps]
    return (
        sum(
            flop_per_text_token(recipe.within(phase)) * (max(0, min(last, stop) - max(begins, phase.begins)))
            for phase, stop in zip(phases, stops, strict=True)
        )
        * recipe.batch_tokens
    )


def law_flop_per_text_token(recipe: Recipe) -> float:
    """The laws' 6 N; of an encoder-decoder, whose tokens pass one of its stacks only, the work of its products."""
    row = recipe.row
    if not row.outputs:
        return 6.0 * parameters(recipe.model).active  # all of them, but in a mixture of experts
    return 3.0 * _count(recipe, row).matmul_forward * (row.inputs + row.outputs) / row.text


def _count(recipe: Recipe, row: Row) -> FlopCount:
    return flops_per_token(recipe.model, sequence=row.inputs, target=row.outputs or None)
