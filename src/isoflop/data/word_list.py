"""Unwanted words (NSFW, toxicity) out of a file of the user's: one word or phrase a line, `#` begins a comment.

A match is of whole words, whatever their case; phrases of Chinese, Japanese and Thai match anywhere, as those put no
spaces between words. C4 drops a page for one such word (Raffel et al. 2020, section 2.2); `most`, `share` allow more.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from isoflop.errors import InputError

_WORD = re.compile(r"\w+")
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]")


class WordList(Struct, frozen=True, kw_only=True):
    """Phrases to look for.

    Attributes:
        name: what the reason says.
        phrases: by first word, the words of each phrase.
        unspaced: phrases of scripts without spaces.
        most: so many matches are still kept, and
        share: so many of a document's words, 0 to 1; a document goes when it holds more than either.
    """

    name: str
    phrases: dict[str, frozenset[tuple[str, ...]]]
    unspaced: tuple[str, ...]
    most: int = 0
    share: float = 0.0

    def count(self, text: str) -> Counter[str]:
        """How often each phrase stands in a text."""
        lower = text.lower()
        found = Counter({phrase: times for phrase in self.unspaced if (times := lower.count(phrase))})
        found.update(self._phrases_in(_WORD.findall(lower)))
        return found

    def excess(self, text: str) -> Counter[str]:
        """What stands in a text that holds more than it may; nothing for one that does not."""
        found = self.count(text)
        allowed = max(self.most, self.share * len(_WORD.findall(text)))
        return found if found.total() > allowed else Counter()

    def _phrases_in(self, words: list[str]) -> Iterator[str]:
        for at, word in enumerate(words):
            for phrase in self.phrases.get(word, ()):
                if tuple(words[at : at + len(phrase)]) == phrase:
                    yield " ".join(phrase)


def read(path: Path, *, most: int = 0, share: float = 0.0) -> WordList:
    """Read a list; its file's name is its name.

    Raises:
        InputError: the file cannot be read, or holds no word.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of words ({error})") from error
    entries = [entry for line in lines if (entry := line.partition("#")[0].strip().lower())]
    phrases: dict[str, set[tuple[str, ...]]] = {}
    for entry in entries:
        if not _UNSPACED.search(entry) and (words := tuple(_WORD.findall(entry))):
            phrases.setdefault(words[0], set()).add(words)
    unspaced = tuple(sorted({entry for entry in entries if _UNSPACED.search(entry)}))
    if not phrases and not unspaced:
        raise InputError(f"{path}: no word in it; give one word or phrase a line")
    by_first = {first: frozenset(group) for first, group in phrases.items()}
    return WordList(name=path.stem, phrases=by_first, unspaced=unspaced, most=most, share=share)
