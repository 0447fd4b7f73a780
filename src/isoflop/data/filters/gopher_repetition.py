"""Gopher's repetition rules (Rae et al. 2021, arXiv:2112.11446, table A1).

Shares are of the characters of the document. A line or paragraph counts as a duplicate from its second time on. The
most frequent 2- to 4-gram counts with every time it stands there, joined by spaces; among equals the first. Of 5- to
10-grams those are counted that stood before, without overlap.
"""

import re
from collections import Counter
from collections.abc import Iterable

from isoflop.data.filters._verdict import Verdict
from isoflop.data.filters._words import words

MOST_DUPLICATES = 0.3
"""Share of lines, and of paragraphs."""
MOST_DUPLICATE_CHARS = 0.2
TOP_GRAMS = {2: 0.20, 3: 0.18, 4: 0.16}
DUPLICATE_GRAMS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}

_PARAGRAPH = re.compile(r"\n{2,}")
_LINE = re.compile(r"\n+")


def judge(text: str) -> Verdict:
    """Keep, or drop with the first rule that is broken."""
    reason = _broken(text) if text else "empty"
    return Verdict.drop(reason, text) if reason else Verdict.kept(text)


def _broken(text: str) -> str:
    for unit, parts in (("paragraph", _PARAGRAPH.split(text.strip())), ("line", _LINE.split(text))):
        count, chars = duplicates(parts)
        if count / len(parts) > MOST_DUPLICATES:
            return f"duplicate-{unit}s"
        if chars / len(text) > MOST_DUPLICATE_CHARS:
            return f"duplicate-{unit}-characters"
    every = words(text)
    for n, share in TOP_GRAMS.items():
        if _top(every, n) / len(text) > share:
            return f"top-{n}-gram"
    for n, share in DUPLICATE_GRAMS.items():
        if _repeated(every, n) / len(text) > share:
            return f"duplicate-{n}-grams"
    return ""


def duplicates(parts: Iterable[str]) -> tuple[int, int]:
    """(how many stood there before, their characters)."""
    seen: set[str] = set()
    count = chars = 0
    for part in parts:
        if part in seen:
            count, chars = count + 1, chars + len(part)
        seen.add(part)
    return count, chars


def _top(every: list[str], n: int) -> int:
    """Characters under the most frequent n-gram."""
    grams = Counter(zip(*(every[i:] for i in range(n)), strict=False))
    if not grams:
        return 0
    gram, times = max(grams.items(), key=lambda row: row[1])
    return (sum(map(len, gram)) + n - 1) * times


def _repeated(every: list[str], n: int) -> int:
    """Characters of n-grams that stood there before, read from the left without overlap."""
    seen: set[str] = set()
    chars = at = 0
    while at <= len(every) - n:
        gram = "".join(every[at : at + n])
        if gram in seen:
            chars, at = chars + len(gram), at + n
        else:
            seen.add(gram)
            at += 1
    return chars
