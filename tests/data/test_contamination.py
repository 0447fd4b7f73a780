"""Contamination: planted runs counted to the run, for words and for tokens, with any memory."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.data.contamination import Index, IndexWriter, Item, check, index_shards, index_text
from isoflop.data.read import Document
from isoflop.data.shingles import words
from isoflop.data.tokenization import tokenize
from isoflop.errors import InputError, UsageError

RNG = np.random.default_rng(5)
FRESH = iter([f"w{i}" for i in RNG.permutation(200_000)])


def _words(n: int) -> list[str]:
    return [next(FRESH) for _ in range(n)]


def _indexed(folder: Path, texts: list[str], **settings: int) -> Index:
    return index_text(folder, [Document(str(i), t) for i, t in enumerate(texts)], source="a test", **settings)


def _one(index: Index, text: str, threshold: float = 0.0) -> Item:
    return next(check([Document("item", text)], index, threshold=threshold))


def test_a_planted_passage_is_counted_to_the_run(tmp_path: Path) -> None:
    # 20 words of ours in an item of 50: 8 runs of 13, of the 38 that the item has.
    passage = _words(20)
    training = " ".join([*_words(100), *passage, *_words(100)])
    item = " ".join([*_words(10), *(w.title() + "," for w in passage), *_words(20)])
    found = _one(_indexed(tmp_path, [training]), item)
    assert found == Item(
        id="item", n_units=50, n_runs=38, n_found=8, covered=0.4, longest=20, verdict="contaminated"
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


def test_shards_of_tokens_are_indexed_document_by_document(tmp_path: Path) -> None:
    documents = [Document(f"d{i}", " ".join(_words(150)) + "\n") for i in range(60)]
    shards = tokenize(
        lambda: documents, folder=tmp_path / "shards", vocabulary=300, validation_fraction=0.2, source="a test"
    )  # fmt: skip

    train = index_shards(tmp_path / "train", shards, memory_bytes=50_000)
    found = list(check(documents, train, encode=shards.tokenizer.encode))
    n_train = shards.header.splits["train"].n_documents
    assert len(train.header.files) > 2
    assert sum(item.n_found == item.n_runs for item in found) == n_train < len(documents)
    assert {item.covered for item in found if item.n_found == item.n_runs} == {1.0}
    # Nothing of a document that was held out is found but what its spelling shares by chance: digits of the words.
    assert max(item.covered for item in found if item.n_found < item.n_runs) < 0.2


def test_chunks_of_tokens_lose_and_double_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = RNG.integers(0, 5, 500).astype(np.uint16)
    ends = np.array([3, 3, 120, 121, 350, 500])
    expected = {tuple(d[i : i + 4]) for d in np.split(tokens, ends)[:-1] for i in range(len(d) - 3)}
    for chunk in (1, 7, 120, 4000):
        monkeypatch.setattr("isoflop.data.contamination._CHUNK_TOKENS", chunk)
        with IndexWriter(tmp_path, kind="tokens", n=4, source="a test", tokenizer_sha256="0") as writer:
            writer.add_tokens(tokens, ends)
        assert Index(tmp_path).header.files[0].n_runs == len(expected)


def test_an_index_is_asked_in_its_own_units(tmp_path: Path) -> None:
    index = _indexed(tmp_path, ["a b c"])
    with pytest.raises(UsageError, match="an index of words"):
        check([], index, encode=lambda text: words([text]).hashes)
    with pytest.raises(UsageError, match="an index of tokens needs"):
        IndexWriter(tmp_path, kind="tokens", source="a test")
    with pytest.raises(UsageError, match="runs of 1 words"):
        IndexWriter(tmp_path, kind="words", n=1, source="a test")


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
    with pytest.raises(RuntimeError), IndexWriter(tmp_path, kind="words", source="a test"):
        raise RuntimeError
    with pytest.raises(InputError, match="no such file"):
        Index(tmp_path)


def test_an_empty_text_gives_an_index_that_holds_nothing(tmp_path: Path) -> None:
    index = _indexed(tmp_path, [])
    assert _one(index, " ".join(_words(30))).n_found == 0
