"""All the visible text of a page, menus included: needs no package, for pages without furniture and for comparison."""

import re
from html.parser import HTMLParser

from msgspec import Struct
from msgspec.structs import replace

from isoflop.data.document import Document, Dropped
from isoflop.data.page import DAMAGED, NO_TEXT, TOO_MANY, decode
from isoflop.data.stages import Fate, PerDocument
from isoflop.specs.data_recipe import Limits

VERSION = 1
_UNSEEN = frozenset({"script", "style", "template", "noscript", "head", "svg"})
_INLINE = frozenset({
    "a", "abbr", "b", "bdi", "cite", "code", "em", "i", "kbd", "mark", "q", "s", "samp", "small", "span", "strong",
    "sub", "sup", "time", "u", "var", "wbr",
})  # fmt: skip


class Options(Struct, frozen=True, kw_only=True):
    """Nothing to set."""


class _TooManyError(Exception):
    pass


class _Visible(HTMLParser):
    """Gathers text as it streams by; keeps no tree, so no depth of nesting hurts it."""

    def __init__(self, nodes: int) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.left = nodes
        self.hidden = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.left -= 1
        if self.left < 0:
            raise _TooManyError
        if not self.hidden and tag in _UNSEEN:
            self.hidden = tag
        self.handle_endtag("" if self.hidden else tag)

    def handle_endtag(self, tag: str) -> None:
        if tag and tag == self.hidden:
            self.hidden = ""
        elif tag and tag not in _INLINE:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(" ".join(data.split("\n")))


def start(options: Options, limits: Limits) -> PerDocument:
    """Text as it is stays; a page becomes its text."""

    def extract(document: Document) -> Fate:
        if document.text or not document.page:
            return document
        html = decode(document.page, charset=document.charset or None)
        if html is None:
            return Dropped(reason=DAMAGED)
        parser = _Visible(limits.nodes)
        try:
            parser.feed(html)
            parser.close()
        except _TooManyError:
            return Dropped(reason=TOO_MANY)
        text = re.sub(r"[ \t]*\n\s*", "\n", re.sub(r"[ \t]+", " ", "".join(parser.parts))).strip()
        return replace(document, text=text, page=b"", charset="") if text else Dropped(reason=NO_TEXT)

    return extract
