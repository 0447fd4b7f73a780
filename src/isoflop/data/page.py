"""What a page may be before anything parses it, and its text: bytes, letters and nodes, never seconds.

So the same pages are dropped on every machine under any load, and memory has a bound: no tree over about
`Limits.nodes` is built, none deeper than MAX_DEPTH is walked.
"""

import codecs
import re
from collections import Counter

from isoflop.specs.data_recipe import Limits

MAX_DEPTH = 250  # libxml2, below trafilatura, leaves out in silence what stands deeper than 256.
MAX_DAMAGED = 1e-3  # Share of letters that may be lost to bytes that are not UTF-8.

TOO_LARGE = "page too long"
TOO_MANY = "page with too many nodes"
TOO_DEEP = f"page nested more than {MAX_DEPTH} deep"
NOT_TEXT = "not text: holds zero bytes"
DAMAGED = "not in UTF-8 or the character set declared"
NO_TEXT = "no text found"

_DECLARED = re.compile(rb"""charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{2,40})""", re.IGNORECASE)
_DECLARED_BYTES = 1024  # Where the standard of HTML has a parser look for a declaration.
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f]")
# A formatting element left open is opened again in every block that follows: n of them and n blocks make n^2 nodes.
_TAG = re.compile(rb"<(/?)([a-z][a-z0-9]*)[^>]{0,200}", re.IGNORECASE)
_FORMATTING = frozenset(b"a b big code em font i nobr s small strike strong tt u".split())
_SAME = 3  # Of equal ones, attributes included, the standard keeps three ("Noah's Ark clause", HTML 13.2.4.3).


def oversized(page: bytes, limits: Limits) -> str | None:
    """The reason why `page` must not be parsed, or None."""
    if len(page) > limits.document_bytes:
        return TOO_LARGE
    tags = page.count(b"<")
    # n tags, half of them formatting and half blocks, make n^2 / 4 nodes at most.
    if tags > limits.nodes or (tags**2 / 4 > limits.nodes and nodes_at_most(page) > limits.nodes):
        return TOO_MANY
    return None


def nodes_at_most(page: bytes) -> int:
    """A bound on the elements of `page`'s tree, those included that a parser opens again by itself."""
    opened: dict[bytes, list[bytes]] = {name: [] for name in _FORMATTING}
    same: Counter[bytes] = Counter()
    active = nodes = 0
    for tag in _TAG.finditer(page):
        nodes += 1
        name = tag[2].lower()
        if name not in _FORMATTING:
            nodes += active
        elif not tag[1]:
            if same[tag[0]] < _SAME:
                same[tag[0]] += 1
                opened[name].append(tag[0])
                active += 1
        elif opened[name]:
            same[opened[name].pop()] -= 1
            active -= 1
    return nodes


def decode(page: bytes, *, charset: str | None = None) -> str | None:
    """`page` as text, or None where it is in no character set that it declares.

    A byte order mark speaks first, then UTF-8 if the bytes are valid in it, whatever is declared: text in another
    set is hardly ever valid UTF-8 by chance, and declarations are often wrong. Then the declared set, strictly. A page
    that declares none or UTF-8 may lose MAX_DAMAGED of its letters.

    Args:
        page: the page's bytes.
        charset: what the server said, if anything; it goes before what the page says.
    """
    if page.startswith(codecs.BOM_UTF8):
        return _strictly(page, "utf-8-sig")
    if page.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _strictly(page, "utf-16")
    text = _strictly(page, "utf-8")
    if text is not None:
        return text
    declared = _DECLARED.search(page[:_DECLARED_BYTES])
    name = _codec(charset or (declared[1].decode("ascii") if declared else ""))
    if name != "utf-8":
        text = _strictly(page, name)
        return None if text is None or _control_share(text) > MAX_DAMAGED else text
    text = page.decode("utf-8", "replace")
    return text if text.count("\ufffd") <= MAX_DAMAGED * len(text) else None


def is_text(text: str) -> bool:
    """Whether `text` is free of zero bytes, which an archive, a picture or undeclared UTF-16 is full of."""
    return "\x00" not in text


def _control_share(text: str) -> float:
    return len(_CONTROL.findall(text)) / max(1, len(text))


def _strictly(page: bytes, name: str) -> str | None:
    try:
        return page.decode(name)
    except (UnicodeDecodeError, LookupError):
        return None


def _codec(label: str) -> str:
    """The codec that browsers take for a label; UTF-8 for labels they do not know, and for none."""
    label = label.strip().lower()
    if label in ("iso-8859-1", "latin1", "latin-1", "ascii", "us-ascii", "iso8859-1"):
        return "cp1252"
    try:
        name = codecs.lookup(label).name
    except LookupError:
        return "utf-8"
    return name if name in _WEB_CODECS else "utf-8"


# Those of the standard that Python has (encoding.spec.whatwg.org, section 4.2). UTF-16 without its mark is not among
# them, and Python's own, as punycode, are no character set of any page.
_WEB_CODECS = frozenset([
    "cp866", "iso8859-2", "iso8859-3", "iso8859-4", "iso8859-5", "iso8859-6", "iso8859-7", "iso8859-8", "iso8859-10",
    "iso8859-13", "iso8859-14", "iso8859-15", "iso8859-16", "koi8-r", "koi8-u", "mac-roman", "mac-cyrillic", "cp874",
    "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "gbk", "gb2312",
    "gb18030", "big5", "big5hkscs", "euc_jp", "iso2022_jp", "shift_jis", "cp932", "euc_kr", "cp949",
])  # fmt: skip
