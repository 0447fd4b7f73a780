"""Words and runs of words as hashes, held against Python's own strings."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.data import shingles
from isoflop.data.shingles import runs, words

# Letters of scripts that fold one to one, and what separates them.
TEXTS = st.lists(st.text(alphabet="abcXYZ é É 09 я Я\n\t.,;-", max_size=60), max_size=6)


def _plain(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


@given(texts=TEXTS)
def test_two_words_have_one_hash_exactly_where_they_are_the_same_word(texts: list[str]) -> None:
    found = words(texts)
    expected = [word for text in texts for word in _plain(text)]
    assert len(found.hashes) == len(expected)
    assert list(np.diff(found.ends, prepend=0)) == [len(_plain(text)) for text in texts]
    by_word = dict(zip(expected, found.hashes.tolist(), strict=True))
    assert [by_word[word] for word in expected] == found.hashes.tolist()
    assert len(set(by_word.values())) == len(by_word)


@given(texts=TEXTS)
def test_the_characters_of_a_word_are_given_within_its_own_text(texts: list[str]) -> None:
    found = words(texts)
    at = 0
    for text, end in zip(texts, found.ends, strict=True):
        spans = zip(found.starts[at:end], found.stops[at:end], strict=True)
        assert [text[a:b].lower() for a, b in spans] == _plain(text)
        at = end


@given(texts=TEXTS, n=st.integers(1, 4))
def test_runs_lie_within_one_text_and_are_equal_where_their_words_are(texts: list[str], n: int) -> None:
    found = words(texts)
    hashes, ends = runs(found.hashes, found.ends, n=n)
    each = [_plain(text) for text in texts]
    expected = [tuple(w[i : i + n]) for w in each for i in range(len(w) - n + 1)]
    assert list(np.diff(ends, prepend=0)) == [max(len(w) - n + 1, 0) for w in each]
    by_run = dict(zip(expected, hashes.tolist(), strict=True))
    assert [by_run[run] for run in expected] == hashes.tolist()
    assert len(set(by_run.values())) == len(by_run)


@given(texts=TEXTS)
def test_a_texts_hashes_do_not_hang_on_its_neighbours(texts: list[str]) -> None:
    together = words(texts).hashes
    alone = [words([text]).hashes for text in texts]
    assert np.array_equal(together, np.concatenate([np.empty(0, np.uint64), *alone]))


def test_a_text_of_many_pieces_has_the_words_it_has_in_parts() -> None:
    text = " ".join(f"word{i}" for i in range(80_000))
    assert len(text) > 2 * shingles.PIECE_CHARS
    found = words([text])
    assert len(found.hashes) == 80_000
    assert [text[found.starts[i] : found.stops[i]] for i in (0, 40_000, 79_999)] == ["word0", "word40000", "word79999"]
    assert np.array_equal(found.hashes[-2:], words(["word79998 word79999"]).hashes)


def test_a_word_without_end_is_cut_alike_wherever_it_stands() -> None:
    endless = "x" * (3 * shingles.PIECE_CHARS + 7)
    alone = words([endless]).hashes
    assert len(alone) == 4
    assert np.array_equal(words(["before it", endless]).hashes[2:], alone)


@pytest.mark.parametrize(
    ("text", "n_words"),
    [
        ("東京都は", 4),
        ("ภาษา", 4),
        ("𠀀𠀁", 2),
        ("नमस्ते दुनिया", 2),
        ("한국어 문장", 2),
        ("", 0),
        ("…—“”", 0),
        ("a\ud800b", 2),
    ],
)
def test_scripts_without_spaces_give_one_word_a_character_and_others_one_between_separators(
    text: str, n_words: int
) -> None:
    assert len(words([text]).hashes) == n_words


def test_hashes_are_the_same_today_as_when_they_were_written_down() -> None:
    # Tables and saved classifiers outlive a version: these numbers must never change.
    assert words(["Hello, hello!"]).hashes.tolist() == [1009669435828171919] * 2
