"""The main text of a web page: `extract(page, method="auto")`.

    quality    trafilatura: the most careful, and the slowest by far
    fast       resiliparse's own choice of main content
    auto       resiliparse's tree, its lines judged by `extract_blocks`; trafilatura where too few look like text

Whatever a page holds, the answer is text or a reason, and hangs on the page alone.
"""

from typing import Literal, get_args

from msgspec import Struct
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

from isoflop.data import page as pages
from isoflop.data.extract_blocks import TEXT, blocks, joined, settle
from isoflop.errors import UsageError
from isoflop.specs.data_recipe import Limits

Method = Literal["fast", "quality", "auto"]

_LIMITS = Limits()
_DEEPER = ">".join("*" * (pages.MAX_DEPTH + 1))  # Matches an element with MAX_DEPTH others above it.
# What readers wrote below a page. Resiliparse's own rule takes the answers to a question for comments too.
_COMMENTS = ("[id^=comment]:not(body)", "[class^=comment]:not(body)", "[id=respond]", "[id^=disqus]")
_SURE_SHARE = 0.4  # Less of the letters kept, and a second opinion is worth its time: F1 is flat from .4 to .7.
_LITTLE_CHARS = 200  # So short a text may be all there is, or what is left of a page misread.
_SECOND_TAGS = 20_000  # On 96,000 elements, 240 deep, trafilatura takes 9 s, resiliparse half a second.


class Extracted(Struct, frozen=True, kw_only=True):
    """What a page says, or why it was dropped.

    Attributes:
        text: the main text, lines apart as on the page; empty where the page was dropped.
        title: what the page calls itself; empty where it does not.
        dropped: why there is no text; None where there is. The same few sentences for all pages, so that they count.
        by: who found the text: "blocks", "resiliparse" or "trafilatura".
    """

    text: str = ""
    title: str = ""
    dropped: str | None = None
    by: str = ""


def extract(page: bytes, *, method: Method = "auto", charset: str | None = None, limits: Limits = _LIMITS) -> Extracted:
    """The main text of `page`, comments of readers left out.

    Args:
        page: HTML as it came.
        method: who looks for it; the module says what each does.
        charset: the character set that the server named, if it did.
        limits: bytes and nodes of a page.

    Raises:
        UsageError: no such method.
    """
    if method not in get_args(Method):
        raise UsageError(f"extract: no method {method!r}; known: {', '.join(get_args(Method))}")
    reason = pages.oversized(page, limits)
    if reason:
        return Extracted(dropped=reason)
    html = pages.decode(page, charset=charset)
    if html is None:
        return Extracted(dropped=pages.DAMAGED)
    if not pages.is_text(html):
        return Extracted(dropped=pages.NOT_TEXT)
    tree = HTMLTree.parse(html)
    if tree.document is not None and tree.document.query_selector(_DEEPER) is not None:
        return Extracted(dropped=pages.TOO_DEEP)
    text, by = _found(tree, html, method)
    title = " ".join((tree.title or "").split())
    if not text.strip():
        return Extracted(title=title, dropped=pages.NO_TEXT)
    return Extracted(text=text.strip("\n"), title=title, by=by)


def _found(tree: HTMLTree, html: str, method: Method) -> tuple[str, str]:
    """The text by `method`, and who found it."""
    if method == "quality":
        return _by_trafilatura(html), "trafilatura"
    if method == "fast":
        return _by_resiliparse(tree), "resiliparse"
    text, sure = _by_blocks(tree)
    second = "" if sure or html.count("<") > _SECOND_TAGS else _by_trafilatura(html)
    if len(second) > len(text):
        return second, "trafilatura"
    return (text, "blocks") if text else (_by_resiliparse(tree), "resiliparse")


def _by_resiliparse(tree: HTMLTree) -> str:
    text: str = extract_plain_text(tree, main_content=True, comments=False, alt_texts=False)
    return text


def _by_blocks(tree: HTMLTree) -> tuple[str, bool]:
    """The text of the blocks that are text, and whether they are enough of the page to be sure."""
    everything, main = (
        extract_plain_text(
            tree,
            preserve_formatting="minimal_html",
            main_content=only,
            links=True,
            alt_texts=False,
            skip_elements=_COMMENTS,
        )
        for only in (False, True)
    )
    page = list(blocks(everything, main))
    settle(page)
    kept = sum(len(block.text) for block in page if block.verdict == TEXT)
    return joined(page), kept >= _LITTLE_CHARS and kept >= _SURE_SHARE * sum(len(block.text) for block in page)


def _by_trafilatura(html: str) -> str:
    from trafilatura import extract as careful  # An import of half a second that most pages do without.

    return careful(html, include_comments=False) or ""
