"""How a run computes: what it may ask for, and what that came to on its machine."""

from typing import Literal, TypeAlias

from msgspec import Struct

Computed: TypeAlias = Literal["fp32", "bf16", "fp16", "fp8"]
"""In what products are computed; weights, their gradients and moments are fp32 in all four."""

Asked: TypeAlias = Literal["fp32", "bf16", "fp16", "fp8", "auto"]
"""What a recipe may say; "auto" is settled once a run, by size."""


class Engine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run's steps are computed with. A checkpoint keeps it, so that a run goes on as it began.

    Attributes:
        precision: of matrix products.
        compiled: blocks through torch.compile.
        rows: sequences whose activations exist at once; a larger batch is summed from parts of so many.
        reasons: why, a sentence for each thing that was chosen here and not by the recipe.
    """

    precision: Computed
    compiled: bool
    rows: int
    reasons: tuple[str, ...] = ()

    def said(self) -> str:
        """In one line."""
        how = f"{self.precision}, {'compiled' if self.compiled else 'not compiled'}, {self.rows} sequences at once"
        return "; ".join((how, *self.reasons))
