"""Layouts of web pages: functions from a `Maker` to the HTML of one page.

What a layout takes by `body`, `want` or `paragraph` is the page's main text, all else is furniture. DEVELOPMENT may be
looked at while an extractor is written; KEPT_BACK is only ever reported.
"""
# ruff: noqa: E501, E731  HTML is read better in its own lines, and a part used once is best beside its page.

from collections.abc import Callable
from functools import partial

from extract_parts import Maker

Part = Callable[[], str]


def _document(title: str, body: str, head: str = "") -> str:
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title} - Example</title>{head}'
        f"<style>body{{margin:0}}</style><script>var x = '<div>';</script></head><body>{body}</body></html>"
    )


# Layouts to develop on.


def weblog(m: Maker) -> str:
    comment: Part = lambda: (
        f'<li class="comment"><cite>{m.label()}</cite> says:<p>{m.prose(8, 60)}</p><a href="#r">Reply</a></li>'
    )
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
    card: Part = lambda: (
        f'<div class="card"><a href="/c"><h3>{m.headline()}</h3></a><p class="teaser">{m.prose(12, 30)}</p></div>'
    )
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
    c: Part = lambda: f"css-{m.rng.randrange(16**6):06x}"
    card: Part = lambda: (
        f'<div class="{c()}"><a href="/c"><span>{m.headline()}</span></a><div>{m.prose(8, 20)}</div></div>'
    )
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
    post: Part = lambda: (
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
    tile: Part = lambda: (
        f'<li class="product-item"><a href="/p"><span>{m.headline()}</span></a><span class="price">$19.99</span><button>Add to cart</button></li>'
    )
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
    remark: Part = lambda: (
        f'<li class="comment"><span class="comment-copy">{m.prose(6, 25)}</span> – <a href="/u">{m.label()}</a></li>'
    )
    post: Callable[[str], str] = lambda kind: (
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
    card: Part = lambda: (
        f'<div class="flex flex-col p-4"><h3 class="text-lg"><a href="/c">{m.headline()}</a></h3><p class="text-gray-500">{m.prose(10, 25)}</p></div>'
    )
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
        f"<center>{m.menu(3, 7, item='<a href=/m>{}</a> | ')}</center><hr><h1>{t}</h1>{m.body(3, 14)}<hr>"
        f"<p>See also: {m.headlines(2, 5, item='<a href=/h>{}</a>, ')}</p><address>{m.legal()}</address>",
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
    promo: Part = lambda: m.rng.choice(
        (
            f'<div class="inline-promo"><p>{m.offer()}</p></div>',
            f'<p><strong>Read also:</strong> <a href="/r">{m.headline()}</a></p>',
            f'<div class="ad-slot"><span>Advertisement</span></div><ul class="read-next">{m.headlines(2, 3)}</ul>',
        )
    )
    step: Part = lambda: f"<li>{m.want(m.words(8, 30))}</li>"
    return _document(
        t := m.heading(),
        f'<div class="topnav"><ul>{m.menu(6, 12)}</ul></div><div class="story"><h1>{t}</h1><div class="story-text">{m.body(1, 4)}{promo()}'
        f'{m.body(1, 4)}<ol class="steps">{m.many(step, 3, 7)}</ol>{promo()}{m.body(1, 3)}</div><div class="author-bio"><img src="a.png" alt="">'
        f'<p>{m.prose(12, 30)}</p></div></div><div class="trending"><h2>Trending</h2>{m.headlines(4, 8, item="<h3><a href=/h>{}</a></h3>")}</div>'
        f'<div id="gdpr"><p>{m.notice()}</p></div><div class="bottom"><p>{m.legal()}</p></div>',
    )


def mailing_list(m: Maker) -> str:
    """An archive of letters: the letter is program-like text, what surrounds it is links by thread and date."""
    bar: Part = lambda: (
        f'<ul><li>Previous message: <a href="/p">{m.headline()}</a></li><li>Next message: <a href="/n">{m.headline()}</a></li></ul>'
    )
    letter = "\n\n".join(m.want(m.rng.choice(m.texts.paragraphs)) for _ in range(m.rng.randint(3, 8)))
    return _document(
        t := m.heading(),
        f'<h1>{t}</h1><b>{m.label()}</b> <a href="/w">someone at example.org</a><br><i>Mon May 4 09:14:02 2009</i><p>{bar()}<hr><pre>{letter}</pre>'
        f'<hr>{bar()}<a href="/l">More information about the {m.label()} mailing list</a>',
    )


def handbook(m: Maker) -> str:
    """Documentation with notes, a menu on either side and links to the neighbours below."""
    note: Part = lambda: (
        f'<div class="theme-admonition alert"><div class="admonitionHeading">note</div><div class="admonitionContent"><p>{m.paragraph()}</p></div></div>'
    )
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
    issue: Part = lambda: (
        f'<div class="_x3 issue"><a href="/i"><div class="_x4">{m.headline()}</div></a><div class="_x5">{m.prose(6, 15)}</div><div>May 4 • {m.label()}</div></div>'
    )
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
