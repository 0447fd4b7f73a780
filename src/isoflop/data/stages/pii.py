"""Puts placeholders in the place of personal data; drops nothing."""

from msgspec import Struct
from msgspec.structs import replace

from isoflop.data import pii
from isoflop.data.document import Document
from isoflop.data.stages import PerDocument
from isoflop.errors import UnknownNameError
from isoflop.specs.data_recipe import Limits

VERSION = 1


class Options(Struct, frozen=True, kw_only=True):
    """The key under which addresses become placeholders, and the kinds to look for; all where none is named."""

    key: str = pii.DEFAULT_KEY
    only: tuple[str, ...] = ()


def start(options: Options, limits: Limits) -> PerDocument:
    """Texts by `isoflop.data.pii`.

    Raises:
        UnknownNameError: there is no such kind.
    """
    for kind in options.only:
        if kind not in pii.kinds():
            raise UnknownNameError("kind of personal data", kind, pii.kinds())

    def clean(document: Document) -> Document:
        return replace(document, text=pii.replace(document.text, key=options.key, only=options.only or None))

    return clean
