"""Web pages whose main text is known: known texts set into the furniture of pages, given and written here.

The layouts for development and those kept back share no layout and no generator of pages.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from extract_layouts import DEVELOPMENT, KEPT_BACK
from extract_parts import Maker, Texts


@dataclass(frozen=True)
class Page:
    """One page: its bytes, its main text piece by piece, and pieces of furniture that are not it."""

    layout: str
    html: bytes
    title: str
    wanted: tuple[str, ...]
    unwanted: tuple[str, ...]


def furnished(name: str, page: str, pattern: str, m: Maker) -> str:
    """A real page with its main text, the second group of `pattern`, replaced by a known one."""
    found = re.search(pattern, page, flags=re.DOTALL)
    if found is None:
        raise ValueError(f"{name}: no main text found by {pattern!r}")
    return f"{page[: found.start(2)]}<h1>{m.heading()}</h1>{m.body(3, 16)}{page[found.end(2) :]}"


# Where the main text of the given pages begins and ends: mdBook's pages are for development, rustdoc's are kept back.
_MDBOOK = (
    r"(<main>)(.*)(</main>)",
    ("book_ch04", "cargo_reference", "error_codes", "reference_types", "rust-by-example"),
)
_RUSTDOC = (r'(<section id="main-content"[^>]*>)(.*)(</section></div></main>)', ("std_fs_index",))


def layouts(folder: Path, *, kept_back: bool) -> dict[str, Callable[[Maker], str]]:
    """The layouts of one half by name, with the given pages in `folder`."""
    own = KEPT_BACK if kept_back else DEVELOPMENT
    found: dict[str, Callable[[Maker], str]] = {layout.__name__: layout for layout in own}
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
