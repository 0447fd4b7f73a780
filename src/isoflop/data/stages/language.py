"""Marks each document with its language, and drops those in others than the recipe names."""

from msgspec import Struct
from msgspec.structs import replace

from isoflop.data.document import Document, Dropped
from isoflop.data.language import identify
from isoflop.data.stages import Fate, PerDocument
from isoflop.specs.data_recipe import Limits

VERSION = 1
PACKAGES = ("py3langid",)


class Options(Struct, frozen=True, kw_only=True):
    """Languages to keep by their code, all where none is named, and how sure that must be, 0 to 1."""

    keep: tuple[str, ...] = ()
    least: float = 0.0


def start(options: Options, limits: Limits) -> PerDocument:
    """Texts by `isoflop.data.language`."""

    def judge(document: Document) -> Fate:
        found = identify(document.text)
        if options.keep and found.code not in options.keep:
            return Dropped(reason=f"language {found.code}", detail=f"probability {found.probability:.3f}")
        if found.probability < options.least:
            return Dropped(reason="unsure language", detail=f"{found.code}, probability {found.probability:.3f}")
        return replace(document, marks={**document.marks, "language": found.code})

    return judge
