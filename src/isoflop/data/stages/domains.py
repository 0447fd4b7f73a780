"""Marks each document with the likeliest of the categories that a classifier was trained on, and can drop some."""

from pathlib import Path

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from isoflop.data.document import Document, Dropped
from isoflop.data.quality import load
from isoflop.data.stages import Fate, PerDocument
from isoflop.errors import UnknownNameError
from isoflop.specs.data_recipe import Limits

VERSION = 1
PATHS = ("model",)


class Options(Struct, frozen=True, kw_only=True):
    """A folder that `isoflop data classifier train` made.

    Attributes:
        mark: the name under which the category is noted.
        least: below this probability the category is `other`.
        keep: categories that stay, all where none is named; `other` is one.
    """

    model: str
    mark: str = "domain"
    least: float = 0.0
    other: str = "other"
    keep: tuple[str, ...] = ()


def start(options: Options, limits: Limits) -> PerDocument:
    """Texts by `isoflop.data.quality`.

    Raises:
        InputError: no classifier there, or a damaged one.
        UnknownNameError: a category to keep is none of its labels.
    """
    model = load(Path(options.model))
    for name in options.keep:
        if name not in (*model.labels, options.other):
            raise UnknownNameError(f"category of {options.model}", name, [*model.labels, options.other])

    def judge(document: Document) -> Fate:
        (each,) = model.probabilities([document.text])
        likeliest = int(np.argmax(each))
        found = model.labels[likeliest] if each[likeliest] >= options.least else options.other
        if options.keep and found not in options.keep:
            return Dropped(reason=f"{options.mark} {found}", detail=f"probability {each[likeliest]:.3f}")
        return replace(document, marks={**document.marks, options.mark: found})

    return judge
