"""Drops documents that hold words of lists the user gives: NSFW, toxicity, or anything else unwanted."""

from pathlib import Path

from msgspec import Struct

from isoflop.data.document import Document, Dropped
from isoflop.data.stages import Fate, PerDocument
from isoflop.data.word_list import read
from isoflop.specs.data_recipe import Limits

VERSION = 1
PATHS = ("lists",)


class Options(Struct, frozen=True, kw_only=True):
    """Files of one word or phrase a line. A document goes when it holds more than `most` of them, and when they are
    more than `share` of its words.
    """

    lists: tuple[str, ...]
    most: int = 0
    share: float = 0.0

    def __post_init__(self) -> None:
        if not self.lists:
            raise ValueError("lists is empty; name a file of words")
        if self.most < 0 or not 0 <= self.share < 1:
            raise ValueError(f"most is {self.most}, share {self.share}; at least 0, and share below 1")


def start(options: Options, limits: Limits) -> PerDocument:
    """Texts by `isoflop.data.word_list`.

    Raises:
        InputError: a list cannot be read, or holds no word.
    """
    lists = [read(Path(path), most=options.most, share=options.share) for path in options.lists]

    def judge(document: Document) -> Fate:
        for words in lists:
            if excess := words.excess(document.text):
                found = ", ".join(f"{times} x {phrase}" for phrase, times in excess.most_common(3))
                return Dropped(reason=f"words of {words.name}", detail=found)
        return document

    return judge
