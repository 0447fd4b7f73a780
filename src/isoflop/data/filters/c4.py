"""C4's rules (Raffel et al. 2020, arXiv:1910.10683, section 2.2; order and further rules as in its `clean_page`).

Takes out lines with a word of over 1000 characters, without a sign at the end, of fewer than 3 words, that name
javascript, or speak of cookies and terms of use; marks of citations go from the others. Drops a page with "lorem ipsum"
or a curly bracket in what is left of it, and one of fewer than 5 sentences. Bad words are `word_list`'s part.
"""

import re

from isoflop.data.filters._verdict import Verdict
from isoflop.data.filters._words import sentences

LEAST_SENTENCES = 5
LEAST_WORDS_PER_LINE = 3
LONGEST_WORD = 1000
END_SIGNS = (".", "?", "!", '"', "'")
POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")

_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")


def judge(text: str, *, sign_at_end: bool = True) -> Verdict:
    """Keep the lines that are left, or drop the page.

    Args:
        sign_at_end: whether a line needs one; FineWeb asked C4's other rules only (Penedo et al. 2024, section 3.5).
    """
    kept: list[str] = []
    count = 0
    for line in map(str.strip, text.splitlines()):
        each = line.split()
        line = _CITATION.sub("", line)
        lower = line.lower()
        ends = line.endswith(END_SIGNS) and not line.endswith("...")
        if (sign_at_end and not ends) or len(each) < LEAST_WORDS_PER_LINE or max(map(len, each)) > LONGEST_WORD:
            continue
        if "lorem ipsum" in lower:
            return Verdict.drop("lorem-ipsum", text)
        if "javascript" in lower:
            continue
        if "{" in line:
            return Verdict.drop("curly-bracket", text)
        if any(policy in lower for policy in POLICIES):
            continue
        count += sentences(line)
        kept.append(line)
    if count < LEAST_SENTENCES:
        return Verdict.drop("too-few-sentences", text)
    return Verdict.kept("\n".join(kept).strip())
