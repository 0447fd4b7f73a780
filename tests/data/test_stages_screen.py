"""The stages of extraction and screening say what their rooms say."""

from collections.abc import Callable

import pytest

from isoflop.data import filters, pii
from isoflop.data.document import Document, Dropped
from isoflop.data.stages import Corpus, Fate, step
from isoflop.errors import UnknownNameError
from isoflop.specs import data_recipe
from isoflop.specs.data_recipe import Limits


def stage(name: str, **options: object) -> Callable[[Document], Fate]:
    made = step(data_recipe.Stage(name=name, options=options), limits=Limits(), folder=".").start()
    assert not isinstance(made, Corpus)
    return made


def test_personal_data_become_placeholders_and_nothing_is_dropped() -> None:
    text = "Write to someone@example.org today."
    assert stage("pii")(Document(id="a", text=text)) == Document(id="a", text=pii.replace(text))
    with pytest.raises(UnknownNameError, match="email"):
        stage("pii", only=["emial"])


def test_a_broken_rule_is_the_reason() -> None:
    text = "too few words"
    verdict = filters.judge(text, ["gopher-quality"])
    assert stage("filters", use=["gopher-quality"])(Document(id="a", text=text)) == Dropped(reason=verdict.reason)
    with pytest.raises(UnknownNameError, match="gopher-quality"):
        stage("filters", use=["gopher-qualty"])


def test_the_language_is_marked_and_others_are_dropped() -> None:
    pytest.importorskip("py3langid", reason="py3langid is not installed")
    german = Document(id="a", text="Der schnelle braune Fuchs springt über den faulen Hund, und niemand wundert sich.")
    fate = stage("language")(german)
    assert isinstance(fate, Document)
    assert fate.marks == {"language": "de"}
    dropped = stage("language", keep=["en"])(german)
    assert isinstance(dropped, Dropped)
    assert dropped.reason == "language de"


def test_a_page_becomes_its_main_text() -> None:
    pytest.importorskip("resiliparse", reason="resiliparse is not installed")
    paragraph = "This is the paragraph that the page is about, and it is long enough to be one. " * 6
    page = f"<html><body><nav><a href='/'>Home</a></nav><article><p>{paragraph}</p></article></body></html>"
    fate = stage("extract", method="fast")(Document(id="a", page=page.encode(), charset="utf-8"))
    assert isinstance(fate, Document)
    assert (fate.text.strip(), fate.page) == (paragraph.strip(), b"")
    assert isinstance(stage("extract")(Document(id="b", page=b"<html></html>")), Dropped)
