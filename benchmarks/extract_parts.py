"""The parts that pages are built of: main text drawn from known texts, and furniture drawn from the same.

No vocabulary tells a headline, a teaser or a comment from a body: all come from the same texts.
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
LABELS = [
    "Home", "About us", "Contact", "News", "Sport", "Culture", "Opinion", "Archive", "Shop", "Log in", "Sign up",
    "Search", "Subscribe", "Careers", "Press", "Help", "Terms of use", "Privacy", "Imprint", "Site map", "Newsletter",
    "Science", "Travel", "Weather", "Video", "Podcasts", "Gallery", "Forum", "Downloads", "Documentation", "Pricing",
    "Blog", "Team", "Partners", "Events", "Jobs", "My account", "Wish list", "Checkout", "English", "Deutsch",
    "Français",
]  # fmt: skip
NOTICES = (
    "We use cookies and similar technologies to give you the best experience here and to measure our audience.",
    "By clicking accept all you agree to the storing of cookies on your device. You can change this at any time.",
    "This site stores information on your device so that pages load faster. Some of it is needed, some is up to you.",
    "Your privacy matters to us. We and our 842 partners process personal data such as address and browsing habits.",
)
OFFERS = (
    "Get the best of our stories in your inbox every morning. No spam, and you can unsubscribe whenever you like.",
    "Join more than 40,000 readers who receive our weekly letter. Enter your e-mail address below to sign up for free.",
    "Enjoying this page? Support our work with a small monthly gift and read without advertisements from today on.",
)
LEGAL = (
    "Copyright 2024 Example Media Group. All rights reserved. No part of this site may be reproduced without leave.",
    "Powered by ExamplePress. Theme by Someone. Content is provided as is, without warranty of any kind.",
    "Registered in England and Wales under number 01234567. Registered office: 1 Example Street, London.",
)


@dataclass
class Texts:
    """Paragraphs of running text, and lines of program code."""

    paragraphs: list[str]
    code: list[str]

    @classmethod
    def read(cls, folder: Path, *, documents: int = 40) -> "Texts":
        """The first `documents` texts of each file, cut into paragraphs of 12 to 150 words."""
        read = [text for name in FILES for text in _texts(folder / f"{name}.jsonl.gz", documents)]
        paragraphs = [paragraph for text in read for paragraph in _cut(text)]
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

    def item(self) -> str:
        """An item of a list."""
        return f"<li>{self.want(self.words(4, 25))}</li>"

    def row(self) -> str:
        """A row of a table."""
        return f"<tr><td>{self.want(self.words(1, 3))}</td><td>{self.want(self.words(2, 9))}</td></tr>"

    def block(self, paragraph: str = "<p>{}</p>") -> str:
        """A wanted block: mostly a paragraph, else a heading with one, a list, a table, a program or a quotation."""
        kind = self.rng.random()
        if kind < 0.62:
            return paragraph.format(self.paragraph())
        if kind < 0.76:
            return f"<h2>{self.want(self.words(2, 6))}</h2>" + paragraph.format(self.paragraph())
        if kind < 0.84:
            return f"<ul>{self.many(self.item, 2, 7)}</ul>"
        if kind < 0.89:
            return f"<table>{self.many(self.row, 3, 8)}</table>"
        if kind < 0.95:
            return f"<pre><code>{self.listing()}</code></pre>"
        return f"<blockquote><p>{self.paragraph()}</p></blockquote>"

    def body(self, low: int = 2, high: int = 14, *, paragraph: str = "<p>{}</p>", between: str = "\n") -> str:
        """The main text."""
        first = paragraph.format(self.paragraph())
        return first + between + self.many(partial(self.block, paragraph), low, high, between)
