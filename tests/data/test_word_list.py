"""Lists of unwanted words: whole words and phrases, by path."""

from pathlib import Path

import pytest

from isoflop.data import word_list
from isoflop.errors import InputError


def _write(folder: Path, text: str) -> Path:
    path = folder / "nsfw.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_words_match_whole_and_phrases_across_spaces(tmp_path: Path) -> None:
    words = word_list.read(_write(tmp_path, "# ours\nheck  # mild\nDarn it\n\n糞\n"))
    assert words.count("Heck, darn  it! Heckle a darned item. 糞だ") == {"heck": 1, "darn it": 1, "糞": 1}
    assert words.excess("what the heck") == {"heck": 1}
    assert not words.excess("checks and heckles")


def test_a_few_in_many_words_may_be_kept(tmp_path: Path) -> None:
    path = _write(tmp_path, "heck")
    assert not word_list.read(path, most=2).excess("heck heck")
    assert word_list.read(path, most=2).excess("heck heck heck") == {"heck": 3}
    assert not word_list.read(path, share=0.1).excess("heck " + "fine " * 9)
    assert word_list.read(path, share=0.1).excess("heck " + "fine " * 8)


def test_a_list_that_is_missing_or_empty_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        word_list.read(tmp_path / "none.txt")
    with pytest.raises(InputError, match="no word in it"):
        word_list.read(_write(tmp_path, "# nothing\n"))
