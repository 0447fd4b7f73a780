"""Drops documents that hold runs of words of evaluation items, so that no model is trained on what will judge it."""

from pathlib import Path

from msgspec import Struct

from isoflop.data.contamination import N
from isoflop.data.document import Document, Dropped
from isoflop.data.evaluation_items import Items
from isoflop.data.stages import Fate
from isoflop.specs.data_recipe import Limits

VERSION = 2
PATHS = ("sets",)


class Options(Struct, frozen=True, kw_only=True):
    """Evaluation sets: JSON Lines of any columns, all of whose texts count, or anything with texts.

    Attributes:
        n: words of a run, compared without case and punctuation.
        most: so many runs are still no reason to drop a document.
    """

    sets: tuple[str, ...]
    n: int = N
    most: int = 0

    def __post_init__(self) -> None:
        if not self.sets:
            raise ValueError("sets is empty; name a file of evaluation items")
        if self.n < 2 or self.most < 0:
            raise ValueError(f"n is {self.n}, most {self.most}; at least 2 and 0")


class WithoutItems:
    """Looks every run of a text up among those of all items."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.items = Items([Path(path) for path in options.sets], n=options.n)
        short = self.items.n_too_short
        self.warnings = [f"{short:,} evaluation items have fewer than {options.n} words and are not looked for"] * (
            short > 0
        )

    def __call__(self, document: Document) -> Fate:
        found = self.items.found(document.text)
        if found is None or found.n_runs <= self.options.most:
            return document
        detail = f"{found.n_runs} runs of {self.options.n} words, the first of item {found.item}"
        return Dropped(reason=f"contaminated by {found.name}", detail=detail)


def start(options: Options, limits: Limits) -> WithoutItems:
    """Texts by `isoflop.data.evaluation_items`.

    Raises:
        InputError: a set cannot be read, or none of its items is as long as a run.
    """
    return WithoutItems(options)
