"""Drops texts that are too short or too long to learn from."""

from msgspec import Struct

from isoflop.data.document import Document, Dropped
from isoflop.data.stages import Fate, PerDocument
from isoflop.specs.data_recipe import Limits

VERSION = 1


class Options(Struct, frozen=True, kw_only=True):
    """Characters that a text must and may have; `most` of 0 sets no bound."""

    least: int = 200
    most: int = 0

    def __post_init__(self) -> None:
        if self.least < 0 or self.most < 0 or 0 < self.most < self.least:
            raise ValueError(f"least is {self.least} and most {self.most}; no text is that long")


def start(options: Options, limits: Limits) -> PerDocument:
    """Judges by the text without white space at its ends."""

    def judge(document: Document) -> Fate:
        n_chars = len(document.text.strip())
        if n_chars < options.least:
            return Dropped(reason="too short" if n_chars else "no text", detail=f"{n_chars:,} characters")
        if options.most and n_chars > options.most:
            return Dropped(reason="too long", detail=f"{n_chars:,} characters")
        return document

    return judge
