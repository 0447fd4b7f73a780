"""Which blocks of a page are its main text, judged from the page as a stream of lines with its links left in.

Each line is first judged alone: text, link, notice, or open. An open line, too short to tell, goes with its
neighbours, as in jusText (Pomikálek 2011, "Removing boilerplate and duplicate content from web corpora", section 3.2):
between text it is text, between links a link. A heading goes with what stands under it. What resiliparse's own rules
for elements and class names refuse (menus, sidebars) stays refused, except that they refuse nearly every list: an item
goes with its neighbours too. Nothing here knows the markup of any one site.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from itertools import pairwise

_LINK = re.compile(r"<a href=[^>]*>(.*?)</a>")
_TAG = re.compile(r"</?(?:a|b|blockquote|br|h[1-6]|i|li|ol|p|pre|ul)\b[^>]*>")
_KIND = re.compile(r"<(h[1-6]|p|li|pre)\b")
_ENDS = re.compile(r"[.!?:;。！？।؟][\"'”’»)\]]*$")
_CUT_OFF = re.compile(r"(?:\.\.\.|…)\W*$")
_LAST = slice(-8, None)  # Where the two are looked for: on a line of a million dots they would take hours.
# What sites say about themselves, in lines too short to be an essay about it.
_NOTICE = re.compile(
    r"all rights reserved|^\W*copyright\b|©|powered by|cookies?\b.{0,80}\b(?:accept|agree|consent|device|use)|"
    r"\b(?:use|uses|accept|agree|storing)\b.{0,40}\bcookies|privacy (?:policy|matters)|terms of (?:use|service)|"
    r"\b(?:sign up|subscribe|unsubscribe|newsletter)\b|your (?:inbox|e-?mail address)|"
    r"^\W*(?:read|see|watch) (?:also|more|next)\b|you may also like|^\W*(?:posted|published|written) (?:by|on|in)\b|"
    r"^\W*(?:share this|related (?:posts|articles|stories|topics)|most read|trending|advertisement)|"
    r"^\W*leave a (?:reply|comment)",
    re.IGNORECASE,
)
# One of these stands in every notice; to look for them first takes a tenth of the time.
_NOTICE_WORDS = (
    "rights reserved", "copyright", "©", "powered by", "cookie", "privacy", "terms of", "sign up", "subscribe",
    "newsletter", "your inbox", "mail address", "also like", "share this", "related", "trending", "advertisement",
    "leave a", "read ", "see ", "watch ", "posted ", "published ", "written ",
)  # fmt: skip
_NOTICE_CHARS = 300  # A longer line is about its subject, whatever words it holds.
_TEXT_CHARS = 140  # A line this long is text where it ends as a sentence does, or is a paragraph of its own.
_SENTENCE_CHARS = 40  # A paragraph shorter than this may as well be a caption or a label.
_LINKED_SHARE = 0.5  # Above this share of its letters within links a line leads elsewhere.

_CELLS = "\t\t"  # What stands between the cells of a table's row.

TEXT, LINK, NOTICE, OPEN = "text", "link", "notice", "open"


@dataclass(slots=True)
class Block:
    """A line of a page.

    Attributes:
        kind: h1 to h6, p, li, pre, or "" for a line in no such element.
        text: what a reader sees; of a program all its lines.
        gap: an empty line stands before it.
        verdict: TEXT, LINK, NOTICE or OPEN.
        refused: resiliparse does not hold it for main content.
    """

    kind: str
    text: str
    gap: bool
    verdict: str
    refused: bool = False


def blocks(everything: str, main: str) -> Iterator[Block]:
    """The lines of a page, each judged alone.

    Args:
        everything: resiliparse's "minimal_html" output of the whole page, made with its links.
        main: the same of what it holds for main content.
    """
    accepted = {line.strip() for line in main.split("\n")}
    lines = iter(everything.split("\n"))
    gap = False
    for line in lines:
        stripped = line.strip()
        if not stripped:
            gap = True
            continue
        block = _program(line, lines, gap) if "<pre>" in line else _judged(stripped, gap)
        if block.text:
            if stripped not in accepted:
                block.refused = True
                block.verdict = OPEN if block.kind == "li" and block.verdict in (TEXT, OPEN) else LINK
            yield block
            gap = False


def _program(line: str, lines: Iterator[str], gap: bool) -> Block:
    """A program: what follows up to its end belongs to it."""
    taken = [line]
    while "</pre>" not in taken[-1] and (following := next(lines, None)) is not None:
        taken.append(following)
    return Block("pre", unescape(_TAG.sub("", "\n".join(taken))).strip("\n"), gap, OPEN)


def _judged(line: str, gap: bool) -> Block:
    found = _KIND.match(line)
    kind = found[1] if found else ""
    linked = sum(len(_TAG.sub("", text)) for text in _LINK.findall(line)) if "<a " in line else 0
    text = _TAG.sub("", line).strip()
    size = len(text)
    text = unescape(text) if "&" in text else text
    if linked > _LINKED_SHARE * size:
        return Block(kind, text, gap, OPEN if kind[:1] == "h" else LINK)
    if size <= _NOTICE_CHARS and _is_notice(text):
        return Block(kind, text, gap, NOTICE)
    ended = bool(_ENDS.search(text[_LAST])) and not _CUT_OFF.search(text[_LAST])
    whole = (kind == "p" and size >= _SENTENCE_CHARS) or size >= _TEXT_CHARS
    return Block(kind, text, gap, TEXT if kind[:1] != "h" and ended and whole else OPEN)


def _is_notice(text: str) -> bool:
    return any(map(text.lower().__contains__, _NOTICE_WORDS)) and _NOTICE.search(text) is not None


def settle(page: list[Block]) -> None:
    """Decide every open block by its neighbours; the page's ends count as links."""
    at = 0
    while at < len(page):
        if page[at].verdict != OPEN:
            at += 1
            continue
        end = at
        while end < len(page) and page[end].verdict == OPEN:
            end += 1
        before = page[at - 1].verdict if at else LINK
        after = page[end].verdict if end < len(page) else LINK
        _settle_run(page[at:end], before == TEXT, after == TEXT)
        at = end
    for this, below in reversed(list(pairwise(page))):  # A heading without text of its own is furniture.
        if this.kind[:1] == "h" and (below.verdict != TEXT or (below.kind[:1] == "h" and below.kind < this.kind)):
            this.verdict = LINK


def _settle_run(run: list[Block], before: bool, after: bool) -> None:
    """A run of open blocks: with text on both sides text; with text on one side, as far as it looks like a body."""
    if before == after:
        for block in run:
            block.verdict = TEXT if before else LINK
        return
    near = True
    for block in run if before else reversed(run):
        # Away from the text, the first line that is in no element of running text ends it, and upwards the title does.
        near = near and not block.refused and (block.kind != "" or _CELLS in block.text)
        block.verdict = TEXT if near else LINK
        near = near and (before or block.kind != "h1")


def joined(page: list[Block]) -> str:
    """The text of the blocks that are text."""
    lines: list[str] = []
    for block in page:
        if block.verdict == TEXT:
            apart = lines and (block.gap or block.kind in ("p", "pre") or block.kind[:1] == "h")
            lines.extend(("", block.text) if apart else (block.text,))
    return "\n".join(lines)
