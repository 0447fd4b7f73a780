"""What the kinds share: a span with its content, text read alike whatever its signs, and the words before a place."""

import re
from typing import Final

from msgspec import Struct

_SPACES = "\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u3000\t"
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2212\ufe58\ufe63\uff0d"
_DIGITS = {first + i: str(i) for first in (0x0660, 0x06F0, 0x0966, 0xFF10) for i in range(10)}
_WIDE = {0xFF21 + i: chr(0x41 + i) for i in range(26)} | {0xFF41 + i: chr(0x61 + i) for i in range(26)}
_SIGNS = {0xFF20: "@", 0xFE6B: "@", 0xFF0E: ".", 0xFF0B: "+", 0xFF08: "(", 0xFF09: ")", 0xFF1A: ":", 0x00B7: "."}
# One character for one, so places in the text stay what they are.
_PLAIN: Final = (
    {ord(c): " " for c in _SPACES} | {ord(c): "-" for c in _DASHES} | _DIGITS | _WIDE | _SIGNS
)  # fmt: skip


class Span(Struct, frozen=True):
    """Where something was found, and what it says without its spelling: the content that names its placeholder."""

    start: int
    end: int
    content: str


def plain(text: str) -> str:
    """The text with foreign digits, wide letters, and the many spaces and dashes as ASCII; as long as before."""
    return text if text.isascii() else text.translate(_PLAIN)


def before(text: str, at: int, *, chars: int = 32) -> str:
    """What stands on the same line before a place, in lower case, at most `chars` of it."""
    return text[max(text.rfind("\n", max(0, at - chars), at) + 1, at - chars, 0) : at].lower()


def digits(text: str) -> str:
    """Its ASCII digits."""
    return re.sub(r"[^0-9]", "", text)
