"""FineWeb's own rules (Penedo et al. 2024, arXiv:2406.17557, section 3.6), as its code applied them.

Drops a page with under 12 % of lines that end in a sign, with over 67 % of lines of up to 30 characters, with over 1 %
of its characters in lines that stood before, or with over .3 line feeds a word. The paper prints .1 for the characters
in duplicated lines; the code the corpus was made with says .01, and counts from the second time on: .01 is taken.
"""

from isoflop.data.filters._verdict import Verdict
from isoflop.data.filters._words import TERMINAL, words
from isoflop.data.filters.gopher_repetition import duplicates

LEAST_ENDED_LINES = 0.12
MOST_SHORT_LINES = 0.67
SHORT_LINE_CHARS = 30
MOST_DUPLICATE_CHARS = 0.01
MOST_FEEDS_PER_WORD = 0.3


def judge(text: str) -> Verdict:
    """Keep, or drop with the first rule that is broken."""
    lines = [line for line in text.split("\n") if line.strip()]
    reason = _broken(text, lines) if lines else "empty"
    return Verdict.drop(reason, text) if reason else Verdict.kept(text)


def _broken(text: str, lines: list[str]) -> str:
    if sum(line.endswith(TERMINAL) for line in lines) / len(lines) < LEAST_ENDED_LINES:
        return "lines-without-end-sign"
    if sum(len(line) <= SHORT_LINE_CHARS for line in lines) / len(lines) > MOST_SHORT_LINES:
        return "short-lines"
    if duplicates(lines)[1] / (len(text) - text.count("\n")) > MOST_DUPLICATE_CHARS:
        return "duplicate-line-characters"
    if text.count("\n") / len(words(text)) > MOST_FEEDS_PER_WORD:
        return "list"
    return ""
