"""Drops what breaks a rule of the heuristic filters named in the recipe."""

from msgspec import Struct
from msgspec.structs import replace

from isoflop.data import filters
from isoflop.data.document import Document, Dropped
from isoflop.data.stages import Fate, PerDocument
from isoflop.errors import UnknownNameError
from isoflop.specs.data_recipe import Limits

VERSION = 1


class Options(Struct, frozen=True, kw_only=True):
    """Names of filters, asked in this order."""

    use: tuple[str, ...]


def start(options: Options, limits: Limits) -> PerDocument:
    """Texts by `isoflop.data.filters`; the reason is `filter: rule`.

    Raises:
        UnknownNameError: there is no such filter.
    """
    for name in options.use:
        if name not in filters.names():
            raise UnknownNameError("filter", name, filters.names())

    def judge(document: Document) -> Fate:
        verdict = filters.judge(document.text, options.use)
        return replace(document, text=verdict.text) if verdict.keep else Dropped(reason=verdict.reason)

    return judge
