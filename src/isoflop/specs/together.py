"""What several processes train so far, and what one alone: said where a recipe is planned, and where it is started."""

from isoflop.specs.architecture import Decoder
from isoflop.specs.layout import Layout
from isoflop.specs.recipe import Recipe

_WITHIN = ("pipeline", "context", "expert")
"""Degrees of a layout that nobody carries out here yet."""


def refusal(recipe: Recipe, layout: Layout) -> str:
    """Why several processes cannot train this recipe so, and what to do instead; "" where they can."""
    asked = [f"{name} {getattr(layout, name)}" for name in _WITHIN if getattr(layout, name) > 1]
    if asked:
        return (
            f"layout with {', '.join(asked)}, but several processes train ddp, zero1, zero2, zero3, these two with "
            "replicas, and tensor beside each"
        )
    return _of_layout(recipe, layout) or _of_recipe(recipe)


def _of_layout(recipe: Recipe, layout: Layout) -> str:
    if recipe.optimizer.name == "muon" and layout.sharding in {"zero2", "zero3"}:
        return f'Muon needs whole matrices, and {layout.sharding} leaves shares of them; take sharding "zero1" or "ddp"'
    if layout.tensor == 1:
        return ""
    if recipe.optimizer.name == "muon":
        return f'Muon needs whole matrices, and tensor {layout.tensor} cuts them; take "adamw", or leave tensor out'
    if not isinstance(recipe.model, Decoder) or recipe.model.experts:
        return f"layout with tensor {layout.tensor}, but of models only dense decoders are cut so far"
    if recipe.compile is True:
        return f"compile = true with tensor {layout.tensor} is not supported; leave one of them out"
    cut = {"heads": recipe.model.heads, "kv_heads": recipe.model.kv_heads, "hidden": recipe.model.hidden}
    if odd := [f"{name} {count}" for name, count in cut.items() if count % layout.tensor]:
        return f"layout with tensor {layout.tensor}, which does not divide {', '.join(odd)}"
    return ""


def _of_recipe(recipe: Recipe) -> str:
    how = "on several processes"
    if recipe.optimizer.name not in {"adamw", "muon"}:
        return f'optimizer "{recipe.optimizer.name}" {how} is not supported; take "adamw"'
    if recipe.precision in {"fp16", "fp8"}:
        return f'precision = "{recipe.precision}" {how} is not supported; take "bf16" or "fp32"'
    return ""
