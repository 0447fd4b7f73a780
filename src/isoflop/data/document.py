"""A document on its way through the pipeline, and why one does not go on."""

from msgspec import Struct

COPIES = ("exact duplicates", "near duplicates")
"""Marks of a kept document that say how many documents like it came, itself counted in."""


class Document(Struct, frozen=True, kw_only=True):
    """One page or text.

    Attributes:
        id: tells it from all others; by it samples are drawn, so that the same are shown each time.
        source: the name of the source it came from.
        url: where the page was; "" where that is not known.
        page: bytes of a web page as they were served; b"" where the source held text, or once the text is extracted.
        charset: what the server said the page is written in; "" where it said nothing.
        text: the text; "" before extraction.
        marks: what stages found out, such as language or domain; the report counts their values.
    """

    id: str
    source: str = ""
    url: str = ""
    page: bytes = b""
    charset: str = ""
    text: str = ""
    marks: dict[str, str] = {}


class Dropped(Struct, frozen=True, kw_only=True):
    """Why a document does not go on.

    Attributes:
        reason: a few words, the same for all such documents; the report counts them.
        detail: what was found in this one, with numbers.
    """

    reason: str
    detail: str = ""


class Refused(Struct, frozen=True, kw_only=True):
    """A document that a stage dropped, or something in a source that never became one.

    Attributes:
        n_bytes: of the document, or of what was read of it.
    """

    document: Document
    why: Dropped
    n_bytes: int


def size(document: Document) -> int:
    """Bytes of its page and text."""
    return len(document.page) + len(document.text.encode("utf-8", "surrogatepass"))
