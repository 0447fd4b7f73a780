"""The main text of a web page; a text stays as it is."""

from msgspec import Struct
from msgspec.structs import replace

from isoflop.data.document import Document, Dropped
from isoflop.data.extract import Method
from isoflop.data.extract import extract as main_text
from isoflop.data.stages import Fate, PerDocument
from isoflop.specs.data_recipe import Limits

VERSION = 1
PACKAGES = ("resiliparse", "trafilatura")


class Options(Struct, frozen=True, kw_only=True):
    """How the text is looked for: "fast", "quality", or "auto", which takes the dear way only where it matters."""

    method: Method = "auto"


def start(options: Options, limits: Limits) -> PerDocument:
    """Pages by `isoflop.data.extract`."""

    def extract(document: Document) -> Fate:
        if document.text or not document.page:
            return document
        found = main_text(document.page, method=options.method, charset=document.charset or None, limits=limits)
        if found.dropped is not None:
            return Dropped(reason=found.dropped)
        return replace(document, text=found.text, page=b"", charset="")

    return extract
