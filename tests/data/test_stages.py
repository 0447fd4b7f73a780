"""One contract that every stage keeps, present and future, and what the small ones do."""

import inspect
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop import registry
from isoflop.data.document import Document, Dropped
from isoflop.data.stages import Corpus, Fate, step
from isoflop.errors import UsageError
from isoflop.specs import data_recipe
from isoflop.specs.data_recipe import Limits

STAGES = sorted(registry.members("isoflop.data.stages"))


def through(name: str, documents: Sequence[Document], *, shards: int = 1, **options: object) -> list[Fate]:
    """What a stage makes of these documents, cut into so many shards."""
    stage = step(data_recipe.Stage(name=name, options=options), limits=Limits(nodes=1000), folder=".").start()
    if not isinstance(stage, Corpus):
        return [stage(document) for document in documents]
    size = max(1, -(-len(documents) // shards))
    with tempfile.TemporaryDirectory() as folder:
        notes = [Path(folder, str(first)) for first in range(0, max(1, len(documents)), size)]
        for number, path in enumerate(notes):
            assert all(file.exists() for file in stage.note(documents[number * size : (number + 1) * size], path))
        verdicts = stage.judge(notes, Path(folder))
        return [stage.apply(document, verdict) for document, verdict in zip(documents, verdicts, strict=True)]


def texts(*given: str) -> list[Document]:
    return [Document(id=str(number), text=text) for number, text in enumerate(given)]


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_says_what_it_is_and_what_can_be_set(name: str) -> None:
    try:
        module = registry.load("stage", name, "isoflop.data.stages")
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")
    assert inspect.getdoc(module)
    assert isinstance(module.VERSION, int)
    assert module.Options.__struct_config__.frozen
    assert list(inspect.signature(module.start).parameters) == ["options", "limits"]


def test_lengths_are_counted_without_white_space_at_the_ends() -> None:
    fates = through("length", texts("  abc  ", "abcd", "abcdef", " "), least=4, most=5)
    assert [each.reason if isinstance(each, Dropped) else each.text for each in fates] == [
        "too short", "abcd", "too long", "no text"
    ]  # fmt: skip
    with pytest.raises(UsageError, match="no text is that long"):
        through("length", [], least=5, most=3)


@given(st.lists(st.sampled_from(["a", "b", "A ", "", "a  b", "a b"]), max_size=30), st.booleans(), st.integers(1, 4))
def test_the_first_of_each_text_stays(given: list[str], loose: bool, shards: int) -> None:
    said = [" ".join(text.casefold().split()) if loose else text for text in given]
    expected = [text in said[:number] for number, text in enumerate(said)]
    fates = through("exact", texts(*given), shards=shards, loose=loose)
    assert [isinstance(fate, Dropped) for fate in fates] == expected
    for number, fate in enumerate(fates):
        copies = said.count(said[number])
        if isinstance(fate, Dropped):
            assert fate.detail == f"of {said.index(said[number])}"
        else:
            assert fate.marks == ({"exact duplicates": str(copies)} if copies > 1 else {})


def test_a_page_becomes_what_is_seen_of_it() -> None:
    page = (
        b"<html><head><title>No</title></head><body><h1>One</h1><p>two <b>th</b>ree<br>four</p>"
        b"<script>var no;</script><style>p{}</style><p>&lt;five&gt; \xe4</p></body>"
    )
    (fate,) = through("visible", [Document(id="x", page=page, charset="latin-1")])
    assert fate == Document(id="x", text="One\ntwo three\nfour\n<five> ä")


def test_depth_hurts_nothing_and_too_many_nodes_are_dropped() -> None:
    deep, wide = b"<div>" * 900 + b"down here", b"<i></i>" * 1001 + b"over there"
    fates = through("visible", [Document(id="d", page=deep), Document(id="w", page=wide)])
    assert fates[0] == Document(id="d", text="down here")
    assert fates[1] == Dropped(reason="page with too many nodes")
