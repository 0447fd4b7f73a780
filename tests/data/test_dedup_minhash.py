"""MinHash: recall on its theoretical curve at every similarity, and clusters that hang on nothing but the documents."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rensa", reason="near duplicates need rensa (isoflop[web])")

from isoflop.data.dedup_clusters import clusters
from isoflop.data.dedup_minhash import RUN_WORDS, MinHash, recall, shingles
from isoflop.data.dedup_tables import write_table
from isoflop.data.read import Document
from isoflop.data.shingles import words
from isoflop.errors import UsageError

LENGTH = 144  # words, so 140 runs of 5
PAIRS = 400


def _pair(number: int, shared_runs: int) -> tuple[str, str]:
    """Two texts of LENGTH words, all distinct, that share their first words and so exactly `shared_runs` runs."""
    shared = [f"s{number}x{i}" for i in range(shared_runs + RUN_WORDS - 1 if shared_runs else 0)]
    rest = LENGTH - len(shared)
    sides = ([f"{side}{number}x{i}" for i in range(rest)] for side in "lr")
    left, right = (" ".join([*shared, *side]) for side in sides)
    return left, right


@pytest.mark.parametrize("jaccard", [0.0, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0])
def test_recall_lies_on_the_curve_at_every_similarity(jaccard: float, tmp_path: Path) -> None:
    n_runs = LENGTH - RUN_WORDS + 1
    shared = round(2 * n_runs * jaccard / (1 + jaccard))
    exact = shared / (2 * n_runs - shared)
    texts = [text for number in range(PAIRS) for text in _pair(number, shared)]
    documents = [Document(f"{i:05}", text) for i, text in enumerate(texts)]
    found = clusters([write_table(tmp_path / "t", documents, MinHash())]).keepers.reshape(-1, 2)
    # Nothing but the two of a pair may ever be joined.
    assert set(found[:, 0] - 2 * np.arange(PAIRS)) == {0}
    joined = int((found[:, 1] == found[:, 0]).sum())
    expected = float(recall(exact))
    spread = np.sqrt(PAIRS * expected * (1 - expected))
    assert abs(joined - PAIRS * expected) <= 4 * spread + 1e-9


def test_the_planted_pairs_have_the_similarity_they_are_said_to_have() -> None:
    for shared in (0, 1, 70, 136, 140):
        hashes, ends = shingles(words(_pair(0, shared)), n=RUN_WORDS)
        left, right = set(hashes[: ends[0]].tolist()), set(hashes[ends[0] :].tolist())
        assert len(left & right) == shared
        assert len(left | right) == 280 - shared


def test_the_published_points_of_the_curve() -> None:
    # Penedo et al. 2024 (arXiv:2406.17557), section 3.4: 56, 77, 92 and 98.8 % at .7, .75, .8 and .85.
    assert recall([0.7, 0.75, 0.8, 0.85]) == pytest.approx([0.56, 0.77, 0.92, 0.988], abs=0.006)
    assert recall([0.0, 1.0]).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("n_shards", [2, 3, 7])
def test_clusters_are_the_same_for_any_shards_and_memory(n_shards: int, tmp_path: Path) -> None:
    texts = [text for number in range(40) for text in _pair(number % 20, 120 + number % 7)]
    documents = [Document(f"{i:05}", text) for i, text in enumerate(texts)]

    def keepers(shards: list[list[Document]], name: str, memory_bytes: int) -> dict[str, str]:
        tables = [write_table(tmp_path / name / str(i), shard, MinHash()) for i, shard in enumerate(shards)]
        flat = [document.id for shard in shards for document in shard]
        found = clusters(tables, memory_bytes=memory_bytes).keepers
        return {flat[i]: flat[keeper] for i, keeper in enumerate(found)}

    one = keepers([documents], "one", 1 << 30)
    size = -(-len(documents) // n_shards)
    shards = [documents[first : first + size] for first in range(0, len(documents), size)]
    assert keepers(shards, "many", 1000) == one
    assert all(keeper <= own for own, keeper in one.items())
    assert 0 < sum(own != keeper for own, keeper in one.items()) < len(one)


def test_a_chain_of_neighbours_is_one_cluster_kept_by_its_first_member(tmp_path: Path) -> None:
    from isoflop.data.dedup_clusters import _join, _roots

    rng = np.random.default_rng(1)
    n = 2000
    chain = rng.permutation(n)
    edges = rng.permutation(n - 1)
    parent = np.arange(n + 3)
    _join(parent, chain[edges], chain[edges + 1])
    assert _roots(parent, np.arange(n + 3)).tolist() == [0] * n + [n, n + 1, n + 2]


def test_documents_without_a_word_are_like_none_and_short_ones_like_their_equals(tmp_path: Path) -> None:
    texts = ["", "...", "two words", "Two  WORDS!", "words two", "two", "a b c d", "a b c d e", "a b c d"]
    documents = [Document(str(i), text) for i, text in enumerate(texts)]
    found = clusters([write_table(tmp_path / "t", documents, MinHash())])
    assert found.keepers.tolist() == [0, 1, 2, 2, 4, 5, 6, 7, 6]


def test_a_number_below_one_is_refused() -> None:
    with pytest.raises(UsageError, match="0 bands x 8 rows"):
        MinHash(bands=0)
