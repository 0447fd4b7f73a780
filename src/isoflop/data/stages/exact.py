"""Drops a document whose text has been seen before; the first in the order of the sources stays."""

from msgspec import Struct

from isoflop.data.dedup import Documents
from isoflop.data.document import COPIES
from isoflop.data.stages._clusters import FirstOfEach
from isoflop.specs.data_recipe import Limits

VERSION = 1


class Options(Struct, frozen=True, kw_only=True):
    """Whether texts that differ in white space and case only are the same."""

    loose: bool = False


def start(options: Options, limits: Limits) -> FirstOfEach:
    """Exact deduplication of documents."""
    return FirstOfEach(Documents(loose=options.loose), "exact duplicate", COPIES[0])
