"""Personal data in text: found, and replaced by placeholders that hang on nothing but what they stand for.

A kind is a file here; its name is its registration. It offers `RANK` (of two that overlap the lower one wins) and
`spans(text)`, which yields what it finds as `_span.Span`. Every kind looks from a cheap mark outwards over a bounded
number of characters, so the time is linear in the text, whatever the text.

What is nobody's address is left alone on purpose: loopback, 0.0.0.0 and netmasks, `git@host`, version and section
numbers. The rules are for text as people write it, so what stands around a number decides where its digits cannot.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain

from msgspec import Struct

from isoflop.data.pii._span import Span, plain
from isoflop.errors import UsageError
from isoflop.registry import load, members

DEFAULT_KEY = "isoflop"
"""Known to everyone: whoever holds the text's likely addresses can try them. Give a key of your own to publish text."""

BLOCK_CHARS = 1 << 20
# No kind reads further than this from where it begins: the longest mail is 64 + 1 + 253, obfuscated a few times more.
REACH_CHARS = 2048


class Found(Struct, frozen=True):
    """One piece of personal data.

    Attributes:
        line: from 1; a line ends with a line feed.
        start, end: characters within the line, from 0; `line_text[start:end] == text`.
    """

    kind: str
    line: int
    start: int
    end: int
    text: str


def kinds() -> list[str]:
    """Names of what can be found."""
    return sorted(members(__name__))


def find(text: str, *, only: Iterable[str] | None = None) -> list[Found]:
    """All personal data of a text, in order; no two overlap.

    Args:
        only: kinds to look for; all where left out.

    Raises:
        UnknownNameError: there is no such kind.
    """
    return list(find_in([text], only=only))


def replace(text: str, *, key: str = DEFAULT_KEY, only: Iterable[str] | None = None) -> str:
    """The text with placeholders such as `<EMAIL-kcbdmnaofhep>` in the place of what `find` finds.

    The same address (whatever its case, the same number however it is spaced) becomes the same placeholder in every
    document and process: BLAKE2b of kind and content under `key`, 48 bits in letters, so that no placeholder is taken
    for a number.

    Raises:
        UsageError: the key is empty or over 64 bytes.
    """
    secret = key.encode()
    if not 0 < len(secret) <= hashlib.blake2b.MAX_KEY_SIZE:
        raise UsageError(f"a key has 1 to 64 bytes, this one {len(secret)}")
    parts, done = [], 0
    for kind, span in _spans(text, only):
        parts += [text[done : span.start], _placeholder(kind, span.content, secret)]
        done = span.end
    return "".join([*parts, text[done:]])


def find_in(blocks: Iterable[str], *, only: Iterable[str] | None = None) -> Iterator[Found]:
    """`find` over a text that comes in blocks; holds about `BLOCK_CHARS` of it, however long a line is."""
    wanted = list(only) if only is not None else None
    rest, known, line, column = "", 0, 1, 0
    for block, last in _with_last(_filled(blocks)):
        text = rest + block
        safe = len(text) if last else max(len(text) - REACH_CHARS, known)
        starts = [0, *(i + 1 for i in _feeds(text))]
        cut = safe
        for kind, span in _spans(text, wanted):
            if span.start < known:
                continue
            if span.end > safe:
                cut = min(cut, span.start)
                break
            row = bisect_right(starts, span.start) - 1
            shift = column if row == 0 else 0
            begin = span.start - starts[row] + shift
            yield Found(kind, line + row, begin, begin + span.end - span.start, text[span.start : span.end])
        # What stands before a find decides too, so some of what is done is read once more.
        keep = max(0, cut - REACH_CHARS)
        row = bisect_right(starts, keep) - 1
        column = keep - starts[row] + (column if row == 0 else 0)
        line, rest, known = line + row, text[keep:], cut - keep


def _spans(text: str, only: Iterable[str] | None) -> list[tuple[str, Span]]:
    """(kind, span) in order; where two overlap, the kind of lower rank stays."""
    read = plain(text)
    modules = [(name, load("kind of personal data", name, __name__)) for name in (kinds() if only is None else only)]
    modules.sort(key=lambda row: (row[1].RANK, row[0]))
    taken: list[tuple[str, Span]] = []
    for name, module in modules:
        mine = [(name, span) for span in module.spans(read)]
        taken = _merged(taken, mine) if taken else mine
    return taken


def _merged(first: list[tuple[str, Span]], second: list[tuple[str, Span]]) -> list[tuple[str, Span]]:
    """Both lists in order, without those of the second that overlap one of the first."""
    ends = [span.end for _, span in first]
    free = []
    for row in second:
        at = bisect_right(ends, row[1].start)
        if at == len(first) or first[at][1].start >= row[1].end:
            free.append(row)
    return sorted(chain(first, free), key=lambda row: row[1].start)


def _placeholder(kind: str, content: str, secret: bytes) -> str:
    digest = hashlib.blake2b(f"{kind}\0{content}".encode("utf-8", "surrogatepass"), key=secret, digest_size=6).digest()
    letters = "".join(chr(ord("a") + half) for byte in digest for half in divmod(byte, 16))
    return f"<{kind.upper()}-{letters}>"


def _feeds(text: str) -> Iterator[int]:
    at = text.find("\n")
    while at >= 0:
        yield at
        at = text.find("\n", at + 1)


def _filled(blocks: Iterable[str]) -> Iterator[str]:
    """The same text in blocks of `BLOCK_CHARS`, the last one shorter."""
    held: list[str] = []
    size = 0
    for block in blocks:
        for start in range(0, len(block), BLOCK_CHARS):
            piece = block[start : start + BLOCK_CHARS]
            held.append(piece)
            size += len(piece)
            if size >= BLOCK_CHARS:
                whole = "".join(held)
                yield whole[:BLOCK_CHARS]
                held, size = [whole[BLOCK_CHARS:]], size - BLOCK_CHARS
    yield "".join(held)


def _with_last(blocks: Iterable[str]) -> Iterator[tuple[str, bool]]:
    ahead = iter(blocks)
    held = next(ahead)
    for block in ahead:
        yield held, False
        held = block
    yield held, True
