"""Heuristic filters: rules with published thresholds that keep or drop a document.

A filter is a file here, its name its registration, with one function `judge(text) -> Verdict`. Rules are asked in the
order the authors ask them; the first that is broken is the reason. Where paper and reference code differ the file says
which was taken. `_words` splits words and sentences for all of them.
"""

from collections.abc import Iterable

from isoflop.data.filters._verdict import Verdict
from isoflop.registry import load, members

__all__ = ["Verdict", "judge", "names"]


def names() -> list[str]:
    """Names of the filters there are."""
    return sorted(members(__name__))


def judge(text: str, filters: Iterable[str]) -> Verdict:
    """Ask several filters in turn, each about the text the one before it left.

    Returns:
        The text all of them keep, or the first verdict that drops it, its reason as `filter: reason`.

    Raises:
        UnknownNameError: there is no such filter.
    """
    for name in filters:
        verdict: Verdict = load("filter", name, __name__).judge(text)
        if not verdict.keep:
            return Verdict.drop(f"{name}: {verdict.reason}", text)
        text = verdict.text
    return Verdict.kept(text)
