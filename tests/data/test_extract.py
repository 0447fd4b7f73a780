"""A page's main text is found, and no page, however bad, does more than be dropped with a reason."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.errors import UsageError

pytest.importorskip("resiliparse", reason="the extra `web` is not installed")
pytest.importorskip("trafilatura", reason="the extra `web` is not installed")

from extract import shingle_scores  # the benchmark's measure
from extract_pages import Page, pages
from resiliparse.parse.html import HTMLTree

from isoflop.data import page as limits
from isoflop.data.extract import Method, extract
from isoflop.specs.data_recipe import Limits

METHODS: tuple[Method, ...] = ("fast", "quality", "auto")
SENTENCE = "The ferry left the island at dawn, and nobody on the quay had thought of waking the lighthouse keeper. "
ARTICLE = f"<p>{SENTENCE * 3}</p><p>{SENTENCE[::-1].strip().capitalize()} {SENTENCE * 2}</p>"


def page(body: str, *, head: str = "") -> bytes:
    return f"<!DOCTYPE html><html><head>{head}</head><body>{body}</body></html>".encode()


@pytest.fixture(scope="module")
def development(shared_data: Path) -> list[Page]:
    return pages(shared_data, kept_back=False, per_layout=2)


def mean_f1(made: list[Page], method: Method) -> float:
    return sum(shingle_scores(extract(p.html, method=method).text, p).f1 for p in made) / len(made)


def test_judging_blocks_beats_the_fast_path_where_the_main_text_is_known(development: list[Page]) -> None:
    assert mean_f1(development, "auto") > mean_f1(development, "fast") + 0.02


@pytest.mark.parametrize("method", METHODS)
def test_the_article_stays_and_the_menu_goes(method: Method) -> None:
    menu = "<nav><ul>" + "".join(f'<li><a href="/{n}">Menu entry {n}</a></li>' for n in range(9)) + "</ul></nav>"
    found = extract(page(f"{menu}<main><h1>Night</h1>{ARTICLE}</main>", head="<title>The ferry</title>"), method=method)
    assert found.dropped is None
    assert found.title == "The ferry"
    assert SENTENCE.strip() in found.text
    assert "Menu entry" not in found.text


def test_links_notices_and_cards_go_where_no_class_names_them() -> None:
    card = '<div><a href="/c">Another story, and not a short one</a></div><div>It was cold and</div>'
    notice = "<div><div>We use cookies to give you the best experience on our site.</div></div>"
    found = extract(page(f"<div><div>{ARTICLE}</div>{card * 4}{notice}<div>© 2024 Example</div></div>"))
    assert found.by == "blocks"
    assert SENTENCE.strip() in found.text
    for furniture in ("Another story", "It was cold", "cookies", "©"):
        assert furniture not in found.text


def test_lists_tables_and_programs_within_the_text_stay_as_they_stand() -> None:
    program = "def f(x):\n    if x < 1:\n\n        return x & 2"
    escaped = program.replace("&", "&amp;").replace("<", "&lt;")
    table = "<table><tr><td>depth</td><td>nine fathoms</td></tr></table>"
    inside = f"<ul><li>one oar</li><li>two nets</li></ul>{table}<pre><code>{escaped}</code></pre>"
    text = extract(page(f"{ARTICLE}{inside}{ARTICLE}")).text
    assert program in text
    assert "one oar\ntwo nets" in text
    assert "depth\t\tnine fathoms" in text


def test_a_page_of_few_words_gets_a_second_opinion() -> None:
    assert extract(page("<p>All is well.</p>")).text == "All is well."


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tag", ["div", "b", "span", "table><tr><td", "ul><li", "blockquote"])
def test_a_page_nested_a_hundred_thousand_deep_is_dropped(tag: str, method: Method) -> None:
    nested = extract(page(f"<{tag}>" * 100_000 + SENTENCE), method=method)
    assert nested.dropped in (limits.TOO_DEEP, limits.TOO_MANY)
    assert not nested.text


@pytest.mark.parametrize("method", METHODS)
def test_a_page_is_read_down_to_the_depth_stated_and_no_deeper(method: Method) -> None:
    """Where libxml2 would leave text out in silence, the page is dropped instead."""

    def deep(levels: int) -> bytes:
        return page("<div>" * levels + f"<p>{SENTENCE * 3}</p>" + "</div>" * levels)

    outer = 3  # html, body, p
    assert SENTENCE.strip() in extract(deep(limits.MAX_DEPTH - outer), method=method).text
    assert extract(deep(limits.MAX_DEPTH), method=method).dropped == limits.TOO_DEEP


def test_a_long_line_is_dropped_before_it_is_read() -> None:
    line = bytes(Limits().document_bytes + 1)
    assert extract(line).dropped == limits.TOO_LARGE
    assert extract(b"<p>" + b"a b. " * 400_000).dropped is None


def test_formatting_left_open_cannot_make_a_small_page_a_large_tree() -> None:
    """2,000 elements left open, reopened in 2,000 paragraphs, took a parser 8 s and 1.9 GB from a page of 60 kB."""
    bomb = "<p>" + "".join(f"<font color={n}>" for n in range(2000)) + "</p>" + "<p>x</p>" * 2000
    assert extract(page(bomb)).dropped == limits.TOO_MANY
    assert limits.nodes_at_most(page(bomb)) > 2000 * 2000
    tidy = "<p>a <b>word</b> and <font color=red>another</font></p>" * 2000
    assert limits.nodes_at_most(page(tidy)) < 10 * 2000
    untidy = "<p><b>never closed" * 2000
    assert limits.nodes_at_most(page(untidy)) < 6 * 2000


@given(
    st.lists(st.sampled_from(["<p>", "</p>", "<b>", "</b>", "<i>", "<i class=x>", "</i>", "<div>", "x"]), max_size=60)
)
def test_the_bound_on_nodes_holds(parts: list[str]) -> None:
    html = page("".join(parts))
    document = HTMLTree.parse(html.decode()).document
    assert document is not None
    elements = len(document.query_selector_all("*"))
    assert elements <= limits.nodes_at_most(html) + len(parts)  # an unmatched </p> makes an element too


@pytest.mark.parametrize("method", METHODS)
def test_bytes_in_no_known_character_set_are_dropped(method: Method) -> None:
    assert extract(b"<p>caf\xe9 \xff\xfe\xfa is what it says</p>", method=method).dropped == limits.DAMAGED
    wrong = b'<meta charset="windows-1252"><p>' + "Übermäßig".encode("utf-16-le") + b"\x81\x8d</p>"
    assert extract(wrong, method=method).dropped == limits.DAMAGED
    assert extract("<p>no mark</p>".encode("utf-16-le"), method=method).dropped == limits.NOT_TEXT
    assert extract(b"PK\x03\x04\x00\x00\x00" * 50, method=method).dropped == limits.NOT_TEXT


@pytest.mark.parametrize(
    ("codec", "label", "word"),
    [("cp1252", "ISO-8859-1", "naïve “quoted”"), ("cp1251", "windows-1251", "маяк"), ("shift_jis", "Shift_JIS", "灯台"),
     ("utf-8", "ISO-8859-1", "naïve маяк 灯台"), ("utf-8", "punycode", "naïve маяк"), ("utf-8", "no-such-set", "灯台")],
)  # fmt: skip
def test_a_declared_character_set_counts_unless_the_bytes_are_utf8(codec: str, label: str, word: str) -> None:
    html = f'<html><head><meta charset="{label}"></head><body><p>{SENTENCE}</p><p>{SENTENCE} {word}</p></body></html>'
    assert word in extract(html.encode(codec)).text
    undeclared = html.replace(f'<meta charset="{label}">', "")
    assert word in extract(undeclared.encode(codec), charset=label).text


def test_one_stray_byte_in_a_long_page_costs_a_letter_not_the_page() -> None:
    html = page(ARTICLE * 10)
    assert SENTENCE.strip() in extract(html.replace(b"</p>", b"\xff</p>", 1)).text


@pytest.mark.parametrize("method", METHODS)
def test_a_page_without_text_is_dropped(method: Method) -> None:
    for empty in (b"", b"<html><body><script>var x = 1;</script></body></html>", b"<p> \n </p>", b"<!-- only -->"):
        assert extract(empty, method=method).dropped == limits.NO_TEXT


@given(st.binary(max_size=300), st.sampled_from(METHODS))
def test_any_bytes_give_text_or_a_reason_twice_the_same(garbage: bytes, method: Method) -> None:
    found = extract(b"<p>" + garbage, method=method)
    assert bool(found.text) != bool(found.dropped)
    assert found == extract(b"<p>" + garbage, method=method)


def test_the_answer_does_not_hang_on_what_was_read_before(development: list[Page]) -> None:
    alone = [extract(p.html) for p in development]
    assert [extract(p.html) for p in reversed(development)] == alone[::-1]


def test_another_process_reads_the_same_text(development: list[Page], tmp_path: Path) -> None:
    first = development[0]
    (tmp_path / "page.html").write_bytes(first.html)
    code = (
        "import sys; from pathlib import Path; from isoflop.data.extract import extract;"
        "sys.stdout.buffer.write(extract(Path(sys.argv[1]).read_bytes(), method='quality').text.encode())"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "page.html")]
    said = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    assert said == extract(first.html, method="quality").text


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(UsageError, match="no method 'best'; known: fast, quality, auto"):
        extract(b"", method="best")  # type: ignore[arg-type]
