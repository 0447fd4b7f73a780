"""Drops near duplicates, found by MinHash over runs of words; the first of each cluster in the order of the sources
stays.
"""

from msgspec import Struct

from isoflop.data.dedup_minhash import BANDS, ROWS, RUN_WORDS, MinHash
from isoflop.data.document import COPIES
from isoflop.data.stages._clusters import FirstOfEach
from isoflop.specs.data_recipe import Limits

VERSION = 1
PACKAGES = ("rensa",)


class Options(Struct, frozen=True, kw_only=True):
    """Documents of Jaccard similarity s meet with probability 1 - (1 - s**rows)**bands, over runs of `run_words`."""

    bands: int = BANDS
    rows: int = ROWS
    run_words: int = RUN_WORDS
    seed: int = 1

    def __post_init__(self) -> None:
        if min(self.bands, self.rows, self.run_words) < 1:
            raise ValueError("bands, rows and run_words are at least 1, for example 14, 8 and 5")


def start(options: Options, limits: Limits) -> FirstOfEach:
    """Near deduplication of documents.

    Raises:
        ModuleNotFoundError: rensa is not installed (the extra `web`).
    """
    keys = MinHash(bands=options.bands, rows=options.rows, run_words=options.run_words, seed=options.seed)
    return FirstOfEach(keys, "near duplicate", COPIES[1])
