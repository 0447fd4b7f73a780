"""One contract that every stage keeps, present and future, and what the small ones do."""

import inspect
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop import registry
from isoflop.data import quality, stages
from isoflop.data.document import Document, Dropped
from isoflop.data.read import Document as Text
from isoflop.data.stages import Corpus, Fate, step
from isoflop.errors import InputError, UsageError
from isoflop.specs import data_recipe
from isoflop.specs.data_recipe import Limits

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes" / "data").glob("*.toml"))
STAGES = sorted(registry.members("isoflop.data.stages"))


def through(
    name: str, documents: Sequence[Document], *, shards: int = 1, folder: Path = Path(), **options: object
) -> list[Fate]:
    """What a stage makes of these documents, cut into so many shards."""
    read = step(data_recipe.Stage(name=name, options=options), limits=Limits(nodes=1000), folder=str(folder))
    assert stages.key(read)["stage"] == name
    stage = read.start()
    if not isinstance(stage, Corpus):
        return [stage(document) for document in documents]
    size = max(1, -(-len(documents) // shards))
    with tempfile.TemporaryDirectory() as own:
        notes = [Path(own, str(first)) for first in range(0, max(1, len(documents)), size)]
        for number, path in enumerate(notes):
            assert all(file.exists() for file in stage.note(documents[number * size : (number + 1) * size], path))
        verdicts = stage.judge(notes, Path(own))
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


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_we_ship_name_stages_and_options_there_are(recipe: Path) -> None:
    read = data_recipe.load(recipe)
    try:
        steps = [step(each, limits=read.limits, folder=read.folder) for each in read.stages]
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")
    assert {each.name for each in steps} | {"visible"} == set(STAGES)


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


def test_a_passage_said_before_is_cut_and_a_text_of_nothing_else_dropped() -> None:
    said = "one two three four five six"
    fates = through(
        "repeats", texts(f"{said} seven", f"but {said.upper()}, eight", said), shards=2, unit="passage", words=4
    )
    assert [each.text if isinstance(each, Document) else each.reason for each in fates] == [
        f"{said} seven", "but , eight", "nothing but repeated passages"
    ]  # fmt: skip
    lines = "a line that stands in every text\n"
    fates = through("repeats", texts(f"{lines}x\n", f"{lines}y\n"), unit="line")
    assert [each.text for each in fates if isinstance(each, Document)] == [f"{lines}x\n", "y\n"]


def test_near_duplicates_are_dropped_across_shards_and_the_first_says_how_many_it_stands_for() -> None:
    pytest.importorskip("rensa", reason="rensa is not installed")
    words = [f"w{i}" for i in range(200)]
    given = texts(" ".join(words), " ".join(reversed(words)), " ".join([*words[:-1], "other"]), " ".join(words[1:]))
    first, other, *rest = through("near", given, shards=3)
    assert isinstance(first, Document)
    assert first.marks == {"near duplicates": "3"}
    assert other == given[1]
    assert rest == [Dropped(reason="near duplicate", detail="of 0")] * 2


def test_words_of_a_list_beside_the_recipe_drop_a_text(tmp_path: Path) -> None:
    (tmp_path / "rude.txt").write_text("heck\ndarn it")
    fates = through(
        "words", texts("heck", "checks", "heck, darn it, heck"), folder=tmp_path, lists=["rude.txt"], most=1
    )
    assert fates[2] == Dropped(reason="words of rude", detail="2 x heck, 1 x darn it")
    assert [isinstance(fate, Dropped) for fate in fates] == [False, False, True]
    with pytest.raises(InputError, match="none"):
        through("words", [], folder=tmp_path, lists=["none.txt"])


def test_a_text_that_quotes_an_evaluation_item_is_dropped_and_too_short_items_are_told(tmp_path: Path) -> None:
    stem = "What is the name of the ferry that left the harbour late that morning"
    rows = [{"id": "q7", "question": {"stem": stem, "choices": ["Anna", "Berta"]}}, {"question": {"stem": "Why so?"}}]
    (tmp_path / "ours.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    quoted = f"Somebody asked: {stem.lower()}? Nobody knew."
    fates = through("contamination", texts(quoted, stem[:40]), folder=tmp_path, sets=["ours.jsonl"])
    assert fates[0] == Dropped(reason="contaminated by ours", detail="2 runs of 13 words, the first of item q7")
    assert isinstance(fates[1], Document)
    stage = step(data_recipe.Stage(name="contamination", options={"sets": ["ours.jsonl"]}), limits=Limits(),
                 folder=str(tmp_path)).start()  # fmt: skip
    assert vars(stage)["warnings"] == ["1 evaluation items have fewer than 13 words and are not looked for"]
    (tmp_path / "ours.jsonl").write_text('{"a": "too few words"}\n{]\n')
    with pytest.raises(InputError, match="line 2: not JSON"):
        through("contamination", [], folder=tmp_path, sets=["ours.jsonl"])


def test_a_classifier_keeps_by_bounds_or_by_share_and_marks_domains(tmp_path: Path) -> None:
    examples = {
        name: [Text(f"{name}{i}", f"{name} {i} {name} says {i * i}") for i in range(40)] for name in ("sea", "hill")
    }
    quality.train(examples).save(tmp_path / "model")
    given = texts("sea sea", "hill hill", "sea and hill", "sea sea sea says")
    said = quality.load(tmp_path / "model").probabilities([each.text for each in given])[:, 0]

    def kept(**options: object) -> list[bool]:
        fates = through("classifier", given, shards=2, folder=tmp_path, model="model", label="sea", **options)
        return [isinstance(fate, Document) for fate in fates]

    assert kept(least=0.6) == [each >= 0.6 for each in said] != kept(most=0.6)
    assert kept(share=0.25) == [each == max(said) for each in said]
    assert kept(share=0.0) == [False] * 4
    marked = through("domains", given, folder=tmp_path, model="model", least=0.7, keep=["sea", "hill"])
    assert [fate.marks.get("domain") for fate in marked if isinstance(fate, Document)] == ["sea", "hill", "sea"]
    assert isinstance(marked[2], Dropped)
    assert marked[2].reason == "domain other"
    for wrong in ({"label": "see", "least": 0.5}, {"label": "sea"}, {"label": "sea", "share": 0.1, "most": 0.5}):
        with pytest.raises(UsageError):
            through("classifier", [], folder=tmp_path, model="model", **wrong)


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
