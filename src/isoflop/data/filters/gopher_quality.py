"""Gopher's quality rules (Rae et al. 2021, arXiv:2112.11446, appendix A.1.1, table A1 of MassiveText).

Keeps 50 to 100,000 words of 3 to 10 characters on average, at most .1 hash signs or ellipses a word, at most 90 % of
lines that begin with a bullet and 30 % that end in an ellipsis, at least 80 % of words with a letter in them, and at
least two of eight stop words. Length and average are over words that are not mere punctuation; shares are over all.
"""

from isoflop.data.filters._verdict import Verdict
from isoflop.data.filters._words import is_symbol, words

LEAST_WORDS, MOST_WORDS = 50, 100_000
SHORTEST_MEAN, LONGEST_MEAN = 3, 10
MOST_SYMBOLS_PER_WORD = 0.1
MOST_BULLET_LINES = 0.9
MOST_ELLIPSIS_LINES = 0.3
LEAST_ALPHABETIC = 0.8
LEAST_STOP_WORDS = 2
STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})


def judge(text: str) -> Verdict:
    """Keep, or drop with the first rule that is broken."""
    reason = _broken(text)
    return Verdict.drop(reason, text) if reason else Verdict.kept(text)


def _broken(text: str) -> str:
    every = words(text)
    lengths = [len(word) for word in every if not is_symbol(word)]
    if len(lengths) < LEAST_WORDS:
        return "too-few-words"
    if len(lengths) > MOST_WORDS:
        return "too-many-words"
    mean = sum(lengths) / len(lengths)
    if mean < SHORTEST_MEAN:
        return "words-too-short"
    if mean > LONGEST_MEAN:
        return "words-too-long"
    return _symbols(text, len(every)) or _lines(text.splitlines()) or _language(every)


def _symbols(text: str, count: int) -> str:
    if text.count("#") / count > MOST_SYMBOLS_PER_WORD:
        return "too-many-hashes"
    if (text.count("...") + text.count("…")) / count > MOST_SYMBOLS_PER_WORD:
        return "too-many-ellipses"
    return ""


def _lines(lines: list[str]) -> str:
    if sum(line.lstrip().startswith(("•", "-")) for line in lines) / len(lines) > MOST_BULLET_LINES:
        return "too-many-bullets"
    if sum(line.rstrip().endswith(("...", "…")) for line in lines) / len(lines) > MOST_ELLIPSIS_LINES:
        return "too-many-lines-end-in-ellipsis"
    return ""


def _language(every: list[str]) -> str:
    if sum(word.isalpha() or any(map(str.isalpha, word)) for word in every) / len(every) < LEAST_ALPHABETIC:
        return "too-few-alphabetic-words"
    if len(STOP_WORDS.intersection(every)) < LEAST_STOP_WORDS:
        return "too-few-stop-words"
    return ""
