"""Contamination: planted runs counted to the run, in text and in shards, with any memory."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.data.contamination import Index, IndexWriter, Item, check, ensure_index, index_of, index_shards
from isoflop.data.read import Document
from isoflop.data.shards import Shards
from isoflop.data.tokenization import tokenize
from isoflop.errors import InputError, UsageError

RNG = np.random.default_rng(5)
FRESH = iter([f"w{i}" for i in RNG.permutation(200_000)])


def _words(n: int) -> list[str]:
    return [next(FRESH) for _ in range(n)]


def _indexed(folder: Path, texts: list[str], **settings: int) -> Index:
    writer = IndexWriter(folder, **settings)
    writer.add(texts)
    writer.close(split_sha256="a test")
    return Index(folder)


def _one(index: Index, text: str, threshold: float = 0.0) -> Item:
    return next(check([Document("item", text)], [index], threshold=threshold))


def test_a_planted_passage_is_counted_to_the_run(tmp_path: Path) -> None:
    # 20 words of ours in an item of 50: 8 runs of 13, of the 38 that the item has.
    passage = _words(20)
    training = " ".join([*_words(100), *passage, *_words(100)])
    item = " ".join([*_words(10), *(w.title() + "," for w in passage), *_words(20)])
    found = _one(_indexed(tmp_path, [training]), item)
    assert found == Item(
        id="item", n_words=50, n_runs=38, n_found=8, covered=0.4, longest=20,
        passage=" ".join(w.title() + "," for w in passage)[:-1], verdict="contaminated",
    )  # fmt: skip


def test_twelve_words_in_common_are_not_contamination_and_thirteen_are(tmp_path: Path) -> None:
    passage = _words(13)
    index = _indexed(tmp_path, [" ".join([*_words(30), *passage, *_words(30)])])
    assert _one(index, " ".join([*_words(9), *passage[:12], *_words(9)])).n_found == 0
    assert _one(index, " ".join([*_words(9), *passage, *_words(9)])).n_found == 1


def test_a_run_that_only_exists_across_two_documents_is_not_in_the_index(tmp_path: Path) -> None:
    left, right = _words(40), _words(40)
    index = _indexed(tmp_path, [" ".join(left), " ".join(right)])
    item = _one(index, " ".join([*left[-12:], *right[:12]]))
    assert (item.n_runs, item.n_found, item.verdict) == (12, 0, "clean")


def test_an_item_shorter_than_a_run_is_not_called_clean(tmp_path: Path) -> None:
    index = _indexed(tmp_path, [" ".join(_words(50))])
    assert [_one(index, text).verdict for text in ("", "What is 2 + 2?")] == ["too short", "too short"]


def test_a_threshold_is_a_share_of_the_item_covered(tmp_path: Path) -> None:
    passage = _words(20)
    index = _indexed(tmp_path, [" ".join(passage)])
    item = " ".join([*passage, *_words(20)])
    assert _one(index, item, threshold=0.49).verdict == "contaminated"
    assert _one(index, item, threshold=0.5).verdict == "clean"
    with pytest.raises(UsageError, match="threshold 1"):
        _one(index, item, threshold=1.0)


@given(
    texts=st.lists(st.lists(st.sampled_from("abc"), max_size=30).map(" ".join), min_size=1, max_size=6),
    item=st.lists(st.sampled_from("abc"), max_size=12).map(" ".join),
    memory=st.sampled_from([1, 100, 1000, 1 << 20]),
)
def test_what_is_found_is_what_a_set_of_tuples_holds_for_any_memory(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], item: str, memory: int
) -> None:
    index = _indexed(tmp_path_factory.mktemp("index"), texts, n=3, memory_bytes=memory)
    ours = {tuple(t.split()[i : i + 3]) for t in texts for i in range(len(t.split()) - 2)}
    theirs = item.split()
    found = _one(index, item)
    assert found.n_found == sum(tuple(theirs[i : i + 3]) in ours for i in range(len(theirs) - 2))


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return [Document(f"d{i}", " ".join(_words(150)) + "\n") for i in range(60)]


def _tokenized(
    folder: Path, documents: list[Document], *, index_words: int | None = None, force: bool = False
) -> Shards:
    return tokenize(
        lambda: documents, folder=folder, vocabulary=300, validation_fraction=0.2, source="a test",
        index_words=index_words, force=force,
    )  # fmt: skip


def test_an_index_made_while_tokenizing_is_the_one_made_of_the_shards_later(
    tmp_path: Path, documents: list[Document]
) -> None:
    on_the_way = index_of(_tokenized(tmp_path / "a", documents, index_words=13))
    later = _tokenized(tmp_path / "b", documents)
    assert index_of(later) is None
    assert on_the_way is not None
    assert on_the_way.header == index_shards(later).header
    assert on_the_way.n_runs > 5000


def test_every_trained_document_is_found_whole_and_no_held_out_one(tmp_path: Path, documents: list[Document]) -> None:
    shards = _tokenized(tmp_path / "shards", documents)
    index = index_shards(shards, memory_bytes=50_000)
    index.verify()
    found = list(check(documents, [index]))
    n_train = shards.header.splits["train"].n_documents
    assert len(index.header.files) > 2
    assert Counter(item.covered for item in found) == {1.0: n_train, 0.0: len(documents) - n_train}


def test_an_index_is_made_anew_for_other_runs_and_other_shards(tmp_path: Path, documents: list[Document]) -> None:
    begun: list[int] = []
    shards = _tokenized(tmp_path, documents, index_words=13)
    assert ensure_index(shards, on_begin=lambda: begun.append(0)).header.n == 13
    assert ensure_index(shards, n=8, on_begin=lambda: begun.append(1)).header.n == 8
    assert ensure_index(shards, on_begin=lambda: begun.append(2)).header.n == 8
    nine = _tokenized(tmp_path, documents, index_words=9)
    assert ensure_index(nine, on_begin=lambda: begun.append(4)).header.n == 9
    other = _tokenized(tmp_path, documents[:50], force=True)
    assert not list((tmp_path / "contamination").glob("*"))
    (tmp_path / "contamination" / "index.json").write_text("{")
    ensure_index(other, on_begin=lambda: begun.append(3))
    assert begun == [1, 3]


def test_two_indices_hold_what_either_holds(tmp_path: Path) -> None:
    left, right, neither = _words(30), _words(30), _words(30)
    indices = [_indexed(tmp_path / name, [" ".join(text)]) for name, text in (("a", left), ("b", right))]
    items = [Document(str(i), " ".join(text)) for i, text in enumerate((left, neither, right))]
    assert [item.verdict for item in check(items, indices)] == ["contaminated", "clean", "contaminated"]
    for wrong in ([], [indices[0], _indexed(tmp_path / "c", ["a b c"], n=3)]):
        with pytest.raises(UsageError, match="all of runs of one length"):
            check(items, wrong)
    with pytest.raises(UsageError, match="runs of 1 words"):
        IndexWriter(tmp_path, n=1)


def test_items_looked_up_in_batches_are_those_looked_up_alone(
    tmp_path: Path, documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = _indexed(tmp_path, [document.text for document in documents[::3]])
    items = [Document(document.id, "Asked: " + document.text[i:]) for i, document in enumerate(documents)]
    alone = [next(check([item], [index])) for item in items]
    monkeypatch.setattr("isoflop.data.contamination._ITEM_CHARS", 4000)
    assert list(check(items, [index])) == alone
    assert len({item.n_found for item in alone}) > 3


def test_an_unfinished_or_damaged_index_is_refused(tmp_path: Path) -> None:
    index = _indexed(tmp_path, [" ".join(_words(40))])
    index.verify()
    file = tmp_path / "runs-00000.bin"
    content = bytearray(file.read_bytes())
    content[5] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"runs-00000\.bin: not the bytes"):
        Index(tmp_path).verify()
    file.write_bytes(content[:-8])
    with pytest.raises(InputError, match="bytes where 224 are due"):
        Index(tmp_path)
    IndexWriter(tmp_path).add([" ".join(_words(40))])  # killed before it closed
    with pytest.raises(InputError, match="no such file"):
        Index(tmp_path)


def test_an_empty_text_gives_an_index_that_holds_nothing(tmp_path: Path) -> None:
    index = _indexed(tmp_path, [])
    assert _one(index, " ".join(_words(30))).n_found == 0
