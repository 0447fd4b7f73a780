"""Web pages whose main text is known: known texts set into the furniture of pages, real and written here.

A layout is a function from a `Maker` to the HTML of one page. What it takes by `body` is the page's main text, what it
takes by the other methods is furniture: menus, teasers, comments, banners, notices. Headlines, teasers and comments are
drawn from the same texts as the bodies, so no vocabulary tells them apart. DEVELOPMENT may be looked at while an
extractor is written; KEPT_BACK is only ever reported. They share no layout and no generator of pages.
"""

import gzip
import html
import itertools
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

FILES = ("books_novels", "encyclopedic_factbook", "proposals_peps_rfcs", "webdocs_rust")
LABELS = (
    "Home|About us|Contact|News|Sport|Culture|Opinion|Archive|Shop|Log in|Sign up|Search|Subscribe|Careers|Press|Help|"
    "Terms of use|Privacy|Imprint|Site map|Newsletter|Science|Travel|Weather|Video|Podcasts|Gallery|Forum|Downloads|"
    "Documentation|Pricing|Blog|Team|Partners|Events|Jobs|My account|Wish list|Checkout|English|Deutsch|Français"
).split("|")
NOTICES = (
    "We use cookies and similar technologies to give you the best experience on our website and to measure our audience.",
    "By clicking accept all you agree to the storing of cookies on your device. You can change your choice at any time.",
    "This site stores information on your device so that pages load faster. Some of it is needed, some is up to you.",
    "Your privacy matters to us. We and our 842 partners process personal data such as your address and browsing habits.",
)
OFFERS = (
    "Get the best of our stories in your inbox every morning. No spam, and you can unsubscribe whenever you like.",
    "Join more than 40,000 readers who receive our weekly letter. Enter your e-mail address below to sign up for free.",
    "Enjoying this page? Support our work with a small monthly gift and read without advertisements from today on.",
)
LEGAL = (
    "Copyright 2024 Example Media Group. All rights reserved. No part of this site may be reproduced without permission.",
    "Powered by ExamplePress. Theme by Someone. Content is provided as is, without warranty of any kind.",
    "Registered in England and Wales under number 01234567. Registered office: 1 Example Street, London.",
)


@dataclass(frozen=True)
class Page:
    """One page: its bytes, its main text piece by piece, and pieces of furniture that are not it."""

    layout: str
    html: bytes
    title: str
    wanted: tuple[str, ...]
    unwanted: tuple[str, ...]


@dataclass
class Texts:
    """Paragraphs of running text, and lines of program code."""

    paragraphs: list[str]
    code: list[str]

    @classmethod
    def read(cls, folder: Path, *, documents: int = 40) -> "Texts":
        """The first `documents` texts of each file, cut into paragraphs of 12 to 150 words."""
        paragraphs = [p for name in FILES for text in _texts(folder / f"{name}.jsonl.gz", documents) for p in _cut(text)]
        return cls(paragraphs, [text for text in _texts(folder / "code_python_stdlib.jsonl.gz", documents) if text])


def _texts(path: Path, documents: int) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"][:200_000] for line in itertools.islice(lines, documents)]


def _cut(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n|(?<=[.!?])\n", text):
        words = paragraph.split()
        if 12 <= len(words) <= 150 and sum(word.isalpha() for word in words) > 0.6 * len(words):
            yield " ".join(words)


@dataclass
class Maker:
    """Draws the parts of one page and remembers which are wanted."""

    texts: Texts
    rng: random.Random
    title: str = ""
    wanted: list[str] = field(default_factory=list)
    unwanted: list[str] = field(default_factory=list)

    def words(self, low: int, high: int) -> str:
        """Running text of `low` to `high` words."""
        count, text = self.rng.randint(low, high), ""
        while len(text.split()) < count:
            text += " " + self.rng.choice(self.texts.paragraphs)
        return " ".join(text.split()[:count])

    def junk(self, text: str) -> str:
        """`text` as furniture, escaped."""
        if len(text.split()) >= 4:
            self.unwanted.append(text)
        return html.escape(text)

    def label(self) -> str:
        """A word or two of a menu."""
        return html.escape(self.rng.choice(LABELS))

    def headline(self) -> str:
        """The title of another page."""
        return self.junk(self.words(5, 11).rstrip(".,;:"))

    def notice(self) -> str:
        return self.junk(self.rng.choice(NOTICES))

    def offer(self) -> str:
        return self.junk(self.rng.choice(OFFERS))

    def legal(self) -> str:
        return self.junk(self.rng.choice(LEGAL))

    def prose(self, low: int = 10, high: int = 45) -> str:
        """Running text that is furniture: a teaser, a comment, a biography."""
        return self.junk(self.words(low, high))

    def many(self, part: Callable[[], str], low: int, high: int, between: str = "") -> str:
        """`low` to `high` of a part."""
        return between.join(part() for _ in range(self.rng.randint(low, high)))

    def menu(self, low: int = 4, high: int = 12, *, item: str = '<li><a href="/m">{}</a></li>') -> str:
        """Items of a menu."""
        return self.many(lambda: item.format(self.label()), low, high)

    def headlines(self, low: int = 3, high: int = 8, *, item: str = '<li><a href="/h">{}</a></li>') -> str:
        """Links to other pages by their titles."""
        return self.many(lambda: item.format(self.headline()), low, high)

    def heading(self) -> str:
        """The page's title."""
        self.title = self.words(4, 9).rstrip(".,;:")
        return html.escape(self.title)

    def want(self, text: str) -> str:
        self.wanted.append(text)
        return html.escape(text)

    def paragraph(self) -> str:
        """A wanted paragraph, some with a link, an emphasis or a line break of the source within."""
        words = html.escape(self.rng.choice(self.texts.paragraphs), quote=False)
        self.wanted.append(html.unescape(words))
        parts = words.split(" ")
        if self.rng.random() < 0.4:
            at = self.rng.randrange(len(parts) - 3)
            tag = self.rng.choice(('<a href="/in-text">{}</a>', "<em>{}</em>", "<b>{}</b>", "<code>{}</code>"))
            parts[at : at + 2] = [tag.format(" ".join(parts[at : at + 2]))]
        return " ".join(parts)

    def listing(self) -> str:
        """Some lines of a program."""
        lines = [line for line in self.rng.choice(self.texts.code).splitlines() if line.strip()]
        at = self.rng.randrange(max(1, len(lines) - 12))
        return self.want("\n".join(lines[at : at + self.rng.randint(3, 12)]))

    def block(self, paragraph: str = "<p>{}</p>") -> str:
        """A wanted block: mostly a paragraph, else a heading with one, a list, a table, a program or a quotation."""
        kind = self.rng.random()
        if kind < 0.62:
            return paragraph.format(self.paragraph())
        if kind < 0.76:
            return f"<h2>{self.want(self.words(2, 6))}</h2>" + paragraph.format(self.paragraph())
        if kind < 0.84:
            item = lambda: f"<li>{self.want(self.words(4, 25))}</li>"  # noqa: E731
            return f"<ul>{self.many(item, 2, 7)}</ul>"
        if kind < 0.89:
            row = lambda: f"<tr><td>{self.want(self.words(1, 3))}</td><td>{self.want(self.words(2, 9))}</td></tr>"  # noqa: E731
            return f"<table>{self.many(row, 3, 8)}</table>"
        if kind < 0.95:
            return f"<pre><code>{self.listing()}</code></pre>"
        return f"<blockquote><p>{self.paragraph()}</p></blockquote>"

    def body(self, low: int = 2, high: int = 14, *, paragraph: str = "<p>{}</p>", between: str = "\n") -> str:
        """The main text."""
        first = paragraph.format(self.paragraph())
        return first + between + self.many(partial(self.block, paragraph), low, high, between)


def _document(title: str, body: str, head: str = "") -> str:
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title} - Example</title>{head}'
        f"<style>body{{margin:0}}</style><script>var x = '<div>';</script></head><body>{body}</body></html>"
    )


# Layouts to develop on.


def weblog(m: Maker) -> str:
    comment = lambda: f'<li class="comment"><cite>{m.label()}</cite> says:<p>{m.prose(8, 60)}</p><a href="#r">Reply</a></li>'  # noqa: E731
    return _document(
        t := m.heading(),
        f'<div id="page"><header id="masthead"><p class="site-title"><a href="/">{m.label()}</a></p>'
        f'<nav class="main-navigation"><ul class="menu">{m.menu()}</ul></nav></header><div id="content"><div id="primary">'
        f'<article class="post type-post"><h1 class="entry-title">{t}</h1><div class="entry-meta">Posted on May 4 by '
        f'<a href="/a">{m.label()}</a></div><div class="entry-content">{m.body()}<div class="sharedaddy"><h3>Share this:</h3>'
        f"<ul>{m.menu(3, 5)}</ul></div></div></article>"
        f'<div id="comments"><h2>Thoughts</h2><ol class="comment-list">{m.many(comment, 0, 6)}</ol></div></div>'
        f'<aside id="secondary" class="widget-area"><section class="widget"><h2>Recent Posts</h2><ul>{m.headlines()}</ul>'
        f'</section><section class="widget widget_text"><p>{m.prose()}</p></section></aside></div>'
        f'<footer class="site-footer"><p>{m.legal()}</p></footer></div>',
    )


def newspaper(m: Maker) -> str:
    card = lambda: f'<div class="card"><a href="/c"><h3>{m.headline()}</h3></a><p class="teaser">{m.prose(12, 30)}</p></div>'  # noqa: E731
    return _document(
        t := m.heading(),
        f'<div id="onetrust-banner-sdk" role="dialog"><p>{m.notice()}</p><button>Accept all</button></div>'
        f"<header><nav><ul>{m.menu(8, 14)}</ul></nav></header><main><article><h1>{t}</h1>"
        f'<p class="byline">By <a href="/w">{m.label()}</a></p><figure><img src="a.jpg" alt=""><figcaption>'
        f"{m.want(m.words(6, 16))}</figcaption></figure>{m.body(3, 10)}"
        f'<div class="newsletter-signup"><h3>Sign up</h3><p>{m.offer()}</p></div>{m.body(1, 5)}'
        f'<ul class="tags">{m.menu(2, 6)}</ul></article><aside class="related"><h2>More on this</h2>{m.many(card, 3, 6)}'
        f'</aside></main><section class="most-read"><h2>Most read</h2><ol>{m.headlines(4, 10)}</ol></section>'
        f"<footer><ul>{m.menu(5, 15)}</ul><p>{m.legal()}</p></footer>",
    )


def hashed_classes(m: Maker) -> str:
    """Class names made by a machine, no element says what it is."""
    c = lambda: f"css-{m.rng.randrange(16**6):06x}"  # noqa: E731
    card = lambda: f'<div class="{c()}"><a href="/c"><span>{m.headline()}</span></a><div>{m.prose(8, 20)}</div></div>'  # noqa: E731
    return _document(
        t := m.heading(),
        f'<div id="root"><div class="{c()}"><div class="{c()}">{m.menu(5, 9, item="<a href=/m>{}</a>")}</div></div>'
        f'<div class="{c()}"><div class="{c()}"><h1>{t}</h1><div class="{c()}">{m.body()}</div></div>'
        f'<div class="{c()}"><div>You may also like</div>{m.many(card, 3, 6)}</div></div>'
        f'<div class="{c()}"><div>{m.notice()}</div><button>OK</button></div>'
        f'<div class="{c()}">{m.menu(6, 18, item="<div><a href=/m>{}</a></div>")}<div>{m.legal()}</div></div></div>',
    )


def table_layout(m: Maker) -> str:
    return _document(
        t := m.heading(),
        f'<table width="800"><tr><td colspan="2" bgcolor="navy"><font color="white">{m.label()}</font></td></tr><tr>'
        f'<td width="150" valign="top">{m.menu(6, 14, item="<a href=/m>{}</a><br>")}<hr>{m.headlines(0, 5, item="<a href=/h>{}</a><br>")}'
        f'</td><td valign="top"><font size="5">{t}</font><br><br>{m.body(paragraph="{}", between="<br><br>")}</td></tr>'
        f'<tr><td colspan="2" align="center">{m.menu(3, 6, item="[<a href=/m>{}</a>] ")}<br>{m.legal()}</td></tr></table>',
    )


def manual(m: Maker) -> str:
    return _document(
        t := m.heading(),
        f'<div class="related"><h3>Navigation</h3><ul>{m.menu(4, 6)}</ul></div><div class="document"><div class="documentwrapper">'
        f'<div class="bodywrapper"><div class="body" role="main"><section id="s"><h1>{t}<a class="headerlink" href="#s">¶</a></h1>'
        f'{m.body(4, 16)}</section></div></div></div><div class="sphinxsidebar" role="navigation"><h3>Table of Contents</h3>'
        f"<ul>{m.headlines(3, 9)}</ul><h4>Previous topic</h4><p><a href=/p>{m.headline()}</a></p></div></div>"
        f'<div class="footer">{m.legal()}</div>',
    )


def forum(m: Maker) -> str:
    """Every post is main text; who wrote it and what they sign with is not."""
    post = lambda: (  # noqa: E731
        f'<div class="post"><div class="postprofile"><a href="/u">{m.label()}</a> Posts: 812 Joined: 2009</div><div class="postbody">'
        f'<div class="content">{m.body(0, 3)}</div><div class="signature">{m.prose(5, 15)}</div></div></div>'
    )
    return _document(
        t := m.heading(),
        f'<div id="wrap"><div id="page-header"><ul class="nav">{m.menu()}</ul></div><div id="page-body"><h2>{t}</h2>'
        f'<div class="action-bar"><a href="/r">Post Reply</a></div>{m.many(post, 2, 5)}</div><div id="similar"><h3>Similar topics'
        f'</h3><ul>{m.headlines()}</ul></div><div id="page-footer">{m.legal()}</div></div>',
    )


def product(m: Maker) -> str:
    tile = lambda: f'<li class="product-item"><a href="/p"><span>{m.headline()}</span></a><span class="price">$19.99</span><button>Add to cart</button></li>'  # noqa: E731
    return _document(
        t := m.heading(),
        f'<div class="modal cookie-consent"><p>{m.notice()}</p><a href="/c">Settings</a></div><div class="header">'
        f'<ul class="nav">{m.menu()}</ul></div><ol class="breadcrumb">{m.menu(2, 4)}</ol><div class="product-main"><h1>{t}</h1>'
        f'<div class="price">$49.00</div><div class="description" itemprop="description">{m.body(1, 6)}</div></div>'
        f'<div class="recommendations"><h2>Customers also bought</h2><ul>{m.many(tile, 4, 10)}</ul></div>'
        f'<div class="newsletter"><p>{m.offer()}</p></div><div class="footer"><p>{m.legal()}</p><ul>{m.menu(6, 15)}</ul></div>',
    )


def question(m: Maker) -> str:
    """Question and answers are main text; the remarks below each, the votes and the links beside them are not."""
    remark = lambda: f'<li class="comment"><span class="comment-copy">{m.prose(6, 25)}</span> – <a href="/u">{m.label()}</a></li>'  # noqa: E731
    post = lambda kind: (  # noqa: E731
        f'<div class="{kind}"><div class="votecell">12</div><div class="postcell"><div class="s-prose js-post-body">{m.body(1, 4)}</div>'
        f'<div class="user-details"><a href="/u">{m.label()}</a> 1,204 reputation</div><ul class="comments-list">{m.many(remark, 0, 3)}</ul></div></div>'
    )
    return _document(
        t := m.heading(),
        f'<header class="s-topbar"><ol>{m.menu(4, 7)}</ol></header><div class="container"><div id="left-sidebar"><nav><ul>{m.menu(4, 9)}</ul></nav>'
        f'</div><div id="content"><h1><a href="/q">{t}</a></h1><div id="mainbar">{post("question")}{m.many(partial(post, "answer"), 1, 3)}'
        f'</div><div id="sidebar"><h4>Hot questions</h4><ul>{m.headlines(5, 12)}</ul></div></div></div><footer><p>{m.legal()}</p></footer>'
        f'<div class="js-consent-banner"><p>{m.notice()}</p></div>',
    )


# Layouts kept back.


def encyclopedia(m: Maker) -> str:
    return _document(
        t := m.heading(),
        f'<div id="mw-navigation"><div id="p-nav" class="portal"><ul>{m.menu(8, 14)}</ul></div></div><div id="content" class="mw-body">'
        f'<h1 id="firstHeading">{t}</h1><div id="siteSub">From Example, the free encyclopedia</div><div id="mw-content-text">'
        f'<div class="mw-parser-output"><div class="hatnote">{m.junk("For other uses see Example (disambiguation) on this site.")}</div>'
        f'{m.body(2, 5)}<div id="toc" class="toc"><h2>Contents</h2><ul>{m.headlines(3, 7)}</ul></div><h2>{m.want(m.words(1, 3))}'
        f'<span class="mw-editsection">[<a href="/e">edit</a>]</span></h2>{m.body(3, 9)}<table class="navbox"><tr><td>'
        f'{m.headlines(6, 14, item="<a href=/n>{}</a> · ")}</td></tr></table></div></div><div id="catlinks">Categories: '
        f'{m.menu(2, 6, item="<a href=/k>{}</a> | ")}</div></div><div id="footer"><ul><li>{m.legal()}</li></ul></div>',
    )


def utility_classes(m: Maker) -> str:
    """Class names that speak of widths and colours only."""
    card = lambda: f'<div class="flex flex-col p-4"><h3 class="text-lg"><a href="/c">{m.headline()}</a></h3><p class="text-gray-500">{m.prose(10, 25)}</p></div>'  # noqa: E731
    return _document(
        t := m.heading(),
        f'<div class="sticky top-0 flex">{m.menu(4, 8, item="<a class=px-2 href=/m>{}</a>")}</div><div class="mx-auto max-w-2xl px-4">'
        f'<h1 class="text-3xl font-bold">{t}</h1><div class="flex text-sm"><span>{m.label()}</span><span>7 min read</span></div>'
        f'<div class="mt-8 leading-7">{m.body(3, 12)}</div><div class="rounded bg-gray-100 p-6"><p>{m.offer()}</p><button>Subscribe</button></div>'
        f'</div><div class="grid grid-cols-3 gap-4">{m.many(card, 3, 6)}</div><div class="bg-black text-white p-12"><div class="grid">'
        f'{m.menu(8, 20, item="<div><a href=/m>{}</a></div>")}</div><p class="text-xs">{m.legal()}</p></div>',
    )


def authority(m: Maker) -> str:
    return _document(
        t := m.heading(),
        f'<div class="dialog-off-canvas-main-canvas"><header role="banner"><div class="region region-header">{m.menu(3, 6, item="<a href=/m>{}</a> ")}</div>'
        f'<div class="region region-primary-menu"><ul class="menu">{m.menu(5, 9)}</ul></div></header><div class="layout-container"><main role="main">'
        f'<div class="region region-breadcrumb"><ol>{m.menu(2, 4)}</ol></div><div class="region region-content"><h1 class="page-title">{t}</h1>'
        f'<div class="node node--type-page"><div class="field field--name-body"><div class="field__item">{m.body(2, 12)}</div></div>'
        f'<div class="field field--name-field-tags">{m.menu(2, 5, item="<div><a href=/t>{}</a></div>")}</div></div></div></main>'
        f'<aside class="layout-sidebar-second"><div class="block block-views"><h2>Latest notices</h2>{m.headlines(3, 7, item="<div><a href=/h>{}</a></div>")}'
        f'</div></aside></div><footer role="contentinfo"><div class="region-footer"><p>{m.legal()}</p><p>{m.prose(8, 25)}</p></div></footer></div>',
    )


def bare(m: Maker) -> str:
    """No element but headings, paragraphs and rules, as pages were in 1996."""
    return _document(
        t := m.heading(),
        f'<center>{m.menu(3, 7, item="<a href=/m>{}</a> | ")}</center><hr><h1>{t}</h1>{m.body(3, 14)}<hr>'
        f'<p>See also: {m.headlines(2, 5, item="<a href=/h>{}</a>, ")}</p><address>{m.legal()}</address>',
    )


def journal(m: Maker) -> str:
    """A diary page: raw text and line breaks in one division, an archive beside it."""
    return _document(
        t := m.heading(),
        f'<div id="header-wrapper"><h1 class="title"><a href="/">{m.label()}</a></h1><p class="description">{m.prose(5, 12)}</p></div>'
        f'<div id="main-wrapper"><div class="date-outer"><h2 class="date-header">Monday</h2><div class="post hentry"><h3 class="post-title">{t}</h3>'
        f'<div class="post-body">{m.body(paragraph="{}", between="<br><br>")}</div><div class="post-footer">Posted by <a href="/b">{m.label()}</a> at 9:14'
        f'</div></div></div><div class="comments" id="comments"><h4>Comments</h4>{m.many(lambda: f"<div class=comment-block><p>{m.prose(8, 50)}</p></div>", 0, 5)}'
        f'</div></div><div id="sidebar-wrapper"><div class="widget"><h2>Blog Archive</h2><ul>{m.headlines(4, 12)}</ul></div>'
        f'<div class="widget Profile"><h2>About Me</h2><p>{m.prose(10, 30)}</p></div></div><div id="footer-wrapper">{m.legal()}</div>',
    )


def magazine(m: Maker) -> str:
    """Offers and links to other pages stand between the paragraphs."""
    promo = lambda: m.rng.choice(  # noqa: E731
        (
            f'<div class="inline-promo"><p>{m.offer()}</p></div>',
            f'<p><strong>Read also:</strong> <a href="/r">{m.headline()}</a></p>',
            f'<div class="ad-slot"><span>Advertisement</span></div><ul class="read-next">{m.headlines(2, 3)}</ul>',
        )
    )
    step = lambda: f"<li>{m.want(m.words(8, 30))}</li>"  # noqa: E731
    return _document(
        t := m.heading(),
        f'<div class="topnav"><ul>{m.menu(6, 12)}</ul></div><div class="story"><h1>{t}</h1><div class="story-text">{m.body(1, 4)}{promo()}'
        f'{m.body(1, 4)}<ol class="steps">{m.many(step, 3, 7)}</ol>{promo()}{m.body(1, 3)}</div><div class="author-bio"><img src="a.png" alt="">'
        f'<p>{m.prose(12, 30)}</p></div></div><div class="trending"><h2>Trending</h2>{m.headlines(4, 8, item="<h3><a href=/h>{}</a></h3>")}</div>'
        f'<div id="gdpr"><p>{m.notice()}</p></div><div class="bottom"><p>{m.legal()}</p></div>',
    )


def mailing_list(m: Maker) -> str:
    """An archive of letters: the letter is program-like text, what surrounds it is links by thread and date."""
    bar = lambda: f'<ul><li>Previous message: <a href="/p">{m.headline()}</a></li><li>Next message: <a href="/n">{m.headline()}</a></li></ul>'  # noqa: E731
    letter = "\n\n".join(m.want(m.rng.choice(m.texts.paragraphs)) for _ in range(m.rng.randint(3, 8)))
    return _document(
        t := m.heading(),
        f'<h1>{t}</h1><b>{m.label()}</b> <a href="/w">someone at example.org</a><br><i>Mon May 4 09:14:02 2009</i><p>{bar()}<hr><pre>{letter}</pre>'
        f'<hr>{bar()}<a href="/l">More information about the {m.label()} mailing list</a>',
    )


def handbook(m: Maker) -> str:
    """Documentation with notes, a menu on either side and links to the neighbours below."""
    note = lambda: f'<div class="theme-admonition alert"><div class="admonitionHeading">note</div><div class="admonitionContent"><p>{m.paragraph()}</p></div></div>'  # noqa: E731
    return _document(
        t := m.heading(),
        f'<div id="__docs"><nav class="navbar navbar--fixed-top"><div class="navbar__inner">{m.menu(4, 8, item="<a class=navbar__item href=/m>{}</a>")}</div></nav>'
        f'<div class="docRoot"><aside class="docSidebarContainer"><nav class="menu"><ul>{m.menu(8, 20)}</ul></nav></aside><main class="docMainContainer">'
        f'<div class="row"><div class="col docItemCol"><div class="docItemContainer"><article><nav class="breadcrumbsContainer"><ul>{m.menu(2, 4)}</ul></nav>'
        f'<div class="theme-doc-markdown markdown"><header><h1>{t}</h1></header>{m.body(2, 7)}{note()}{m.body(1, 5)}</div><footer class="docusaurus-mt-lg">'
        f'<a href="/e">Edit this page</a></footer></article><nav class="pagination-nav"><a href="/p"><div>Previous</div><div>{m.headline()}</div></a>'
        f'<a href="/n"><div>Next</div><div>{m.headline()}</div></a></nav></div></div><div class="col col--3"><div class="tableOfContents"><ul>{m.headlines(3, 7)}</ul>'
        f'</div></div></div></main></div><footer class="footer"><div class="container">{m.menu(6, 14, item="<a href=/m>{}</a>")}<div>{m.legal()}</div></div></footer></div>',
    )


def letter_to_subscribers(m: Maker) -> str:
    """A newsletter's page on the web: boxes within boxes, an offer in the middle, a strip of other issues below."""
    issue = lambda: f'<div class="_x3 issue"><a href="/i"><div class="_x4">{m.headline()}</div></a><div class="_x5">{m.prose(6, 15)}</div><div>May 4 • {m.label()}</div></div>'  # noqa: E731
    return _document(
        t := m.heading(),
        f'<div id="entry"><div class="main-menu"><div class="topBar">{m.menu(3, 6, item="<a href=/m>{}</a>")}<button>Subscribe</button></div></div><div class="_x1">'
        f'<div class="single-post"><h1 class="post-title">{t}</h1><h3 class="subtitle">{m.want(m.words(8, 16))}</h3><div class="available-content"><div class="body markup">'
        f'{m.body(1, 6)}<div class="subscription-widget-wrap"><div class="preamble"><p>{m.offer()}</p></div><form><input type="email"></form></div>{m.body(1, 6)}</div></div>'
        f'<div class="_x2"><div>{m.many(issue, 3, 7)}</div></div></div></div><div class="footer-wrap"><div>{m.legal()}</div></div></div>',
    )


DEVELOPMENT = (weblog, newspaper, hashed_classes, table_layout, manual, forum, product, question)
KEPT_BACK = (
    encyclopedia, utility_classes, authority, bare, journal, magazine, mailing_list, handbook, letter_to_subscribers,
)  # fmt: skip


def furnished(name: str, page: str, pattern: str, m: Maker) -> str:
    """A real page with its main text, the second group of `pattern`, replaced by a known one."""
    found = re.search(pattern, page, flags=re.DOTALL)
    if found is None:
        raise ValueError(f"{name}: no main text found by {pattern!r}")
    return f"{page[: found.start(2)]}<h1>{m.heading()}</h1>{m.body(3, 16)}{page[found.end(2) :]}"


# Where the main text of the given pages begins and ends: mdBook's pages are for development, rustdoc's are kept back.
_MDBOOK = (r"(<main>)(.*)(</main>)", ("book_ch04", "cargo_reference", "error_codes", "reference_types", "rust-by-example"))
_RUSTDOC = (r'(<section id="main-content"[^>]*>)(.*)(</section></div></main>)', ("std_fs_index",))


def layouts(folder: Path, *, kept_back: bool) -> dict[str, Callable[[Maker], str]]:
    """The layouts of one half by name, with the given pages in `folder`."""
    found = {layout.__name__: layout for layout in (KEPT_BACK if kept_back else DEVELOPMENT)}
    pattern, names = _RUSTDOC if kept_back else _MDBOOK
    for name in names:
        (path,) = folder.glob(f"{name}*.html")
        found[name] = partial(furnished, name, path.read_text(encoding="utf-8"), pattern)
    return found


def pages(data: Path, *, kept_back: bool, per_layout: int, seed: int = 0) -> list[Page]:
    """`per_layout` pages of each layout of one half; `data` holds the folders text and html."""
    texts, made = Texts.read(data / "text"), []
    for name, layout in layouts(data / "html", kept_back=kept_back).items():
        for number in range(per_layout):
            maker = Maker(texts, random.Random(f"{seed}/{name}/{number}"))
            page = layout(maker).encode()
            made.append(Page(name, page, maker.title, tuple(maker.wanted), tuple(maker.unwanted)))
    return made
