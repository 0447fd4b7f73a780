"""Both engines learn what byte pair encoding prescribes; where they differ, the pairs were equally frequent."""

from collections import Counter
from itertools import pairwise

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.data.byte_pairs import ENGINES, merged
from isoflop.data.corpus import StandardLibrary
from isoflop.data.merges import compare, replayed
from isoflop.data.patterns import DEFAULT, PATTERNS
from isoflop.data.spelling import SPELLING
from isoflop.errors import UnknownNameError

TEXT = [d.text for d in StandardLibrary().documents() if d.id.count("/") == 0][:8]


def prescribed(texts: list[str], count: int, order: dict[int, int]) -> list[bytes]:
    """Byte pair encoding by its definition; `order` numbers the bytes, and the least pair of ids wins a tie."""
    ids = {bytes([byte]): number for byte, number in order.items()}
    words = Counter(piece.encode() for text in texts for piece in regex.findall(DEFAULT.regex, text))
    parts = {word: [bytes([byte]) for byte in word] for word in words}
    found: list[bytes] = []
    for _ in range(count):
        pairs: Counter[tuple[bytes, bytes]] = Counter()
        for word, split in parts.items():
            for pair in pairwise(split):
                pairs[pair] += words[word]
        if not pairs:
            break
        left, right = min(pairs, key=lambda pair: (-pairs[pair], ids[pair[0]], ids[pair[1]]))
        found.append(left + right)
        ids.setdefault(left + right, len(ids))
        for split in parts.values():
            place = 0
            while place < len(split) - 1:
                if (split[place], split[place + 1]) == (left, right):
                    split[place : place + 2] = [left + right]
                place += 1
    return found


BY_VALUE = {byte: byte for byte in range(256)}
BY_SPELLING = {byte: rank for rank, byte in enumerate(sorted(SPELLING, key=SPELLING.__getitem__))}
ORDERS = {"rustbpe": BY_VALUE, "tokenizers": BY_SPELLING}


@settings(max_examples=15)
@given(st.lists(st.text("ab cé\n日", max_size=30), min_size=1, max_size=8))
@pytest.mark.parametrize("engine", ORDERS)
def test_each_engine_merges_as_prescribed_with_its_own_order_of_ties(engine: str, texts: list[str]) -> None:
    wanted = prescribed(texts, 12, ORDERS[engine])
    found = merged(texts, count=12, pattern=DEFAULT.regex, engine=engine)  # type: ignore[arg-type]
    # Two pairs that build the same bytes are one token to Hugging Face and two to rustbpe.
    if len(set(wanted)) == len(wanted):
        assert found == wanted


def test_each_engine_merges_as_prescribed_on_source_code() -> None:
    for engine, order in ORDERS.items():
        found = merged(TEXT[:2], count=60, pattern=DEFAULT.regex, engine=engine)  # type: ignore[arg-type]
        assert found == prescribed(TEXT[:2], 60, order)


def test_each_engine_merges_a_most_frequent_pair_and_what_differs_begins_with_a_tie() -> None:
    found = compare(TEXT, count=800, pattern=DEFAULT.regex)
    assert found.not_most_frequent == (0, 0)
    assert found.n_merges == 800
    assert found.differences[0].tie
    assert 0.9 * len(found.differences) < found.ties < 800  # the others follow from a tie
    assert len(found.only[0]) == len(found.only[1]) < 20  # what the last merges reached in one order alone


def test_a_wrong_merge_is_found_by_doing_it_again() -> None:
    words = {b"aab": 5, b"bc": 3}
    assert replayed(words, [b"aa", b"aab", b"bc"]) == ([5, 5, 3], 0)
    assert replayed(words, [b"bc", b"aa"]) == ([3, 5], 1)
    assert replayed(words, [b"zz"]) == ([0], 1)


def test_no_text_has_no_merges_and_an_unknown_engine_is_refused() -> None:
    for engine in ENGINES:
        assert merged([""], count=5, pattern=PATTERNS["gpt2"].regex, engine=engine) == []  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="rustbpe"):
        merged(["x"], count=5, pattern=DEFAULT.regex, engine="sentencepiece")  # type: ignore[arg-type]
