"""Tokenizers to measure beside each other: our own, any `tokenizer.json`, and tiktoken's where their files are here.

Nothing is downloaded: an encoding of tiktoken's is taken from its cache on this machine, or left out with the reason.
"""

import base64
import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from isoflop.data.spelling import SPELLING, spells
from isoflop.data.tokenizer import Tokenizer
from isoflop.errors import InputError

Ids = npt.NDArray[np.uint32]


class Encoder(Protocol):
    """What can be measured.

    Attributes:
        name: for tables; vocabulary: number of ids.
    """

    name: str
    vocabulary: int

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text, special tokens in it read as text."""
        ...

    def token(self, number: int) -> bytes | None:
        """Bytes of an id; None where it is special or nothing."""
        ...


class Own:
    """One of ours."""

    def __init__(self, tokenizer: Tokenizer, *, name: str) -> None:
        self.name, self.vocabulary, self.tokenizer = name, tokenizer.vocabulary, tokenizer

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text."""
        return self.tokenizer.encode_batch(texts)

    def token(self, number: int) -> bytes | None:
        """Bytes of an id."""
        return self.tokenizer.tokens[number] if number < len(self.tokenizer.tokens) else None


class HuggingFace:
    """Any `tokenizer.json`, read by Hugging Face's own library.

    Raises:
        InputError: the library cannot read it.
    """

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer as Library

        try:
            self.library: Any = Library.from_file(str(path))
        except Exception as error:  # what the library raises is of no kind of its own
            raise InputError(f"{path}: no tokenizer that Hugging Face's library can read ({error})") from error
        self.library.encode_special_tokens = True
        self.name = _title(path)
        self.vocabulary = int(self.library.get_vocab_size())
        self._special = {n for n, token in self.library.get_added_tokens_decoder().items() if token.special}
        self._whole = set("".join(self.library.get_vocab(with_added_tokens=False))) <= set(SPELLING.values())

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text, without what a post-processor would add."""
        encoded = self.library.encode_batch(list(texts), add_special_tokens=False)
        return [np.array(each.ids, dtype=np.uint32) for each in encoded]

    def token(self, number: int) -> bytes | None:
        """Bytes of an id: spelled as GPT-2 does, else as SentencePiece writes them, the blank as U+2581."""
        letters = self.library.id_to_token(number)
        if letters is None or number in self._special:
            return None
        if self._whole and (found := spells(letters)) is not None:
            return found
        if len(letters) == 6 and letters.startswith("<0x") and letters.endswith(">"):
            return bytes.fromhex(letters[3:5])
        return str(letters).replace("\u2581", " ").encode()


class _Published(NamedTuple):
    url: str
    sha256: str
    pattern: str


# openai/tiktoken, tiktoken_ext/openai_public.py: where the ranks lie, their hash, and the split in its older form,
# which is the same split and runs on every version of the library.
_HOME = "https://openaipublic.blob.core.windows.net/encodings"
_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_GPT4 = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
_GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PUBLISHED = {
    "r50k_base": _Published(
        f"{_HOME}/r50k_base.tiktoken", "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930", _GPT2
    ),
    "cl100k_base": _Published(
        f"{_HOME}/cl100k_base.tiktoken", "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7", _GPT4
    ),
    "o200k_base": _Published(
        f"{_HOME}/o200k_base.tiktoken", "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d", _GPT4O
    ),
}


class Tiktoken:
    """An encoding that tiktoken publishes, from its file on this machine.

    Raises:
        InputError: the file is not here, or is not the published one.
    """

    def __init__(self, name: str) -> None:
        import tiktoken

        published = PUBLISHED[name]
        path = cached(published.url)
        try:
            content = path.read_bytes()
        except OSError:
            raise InputError(f"{name}: tiktoken has no copy of it here ({path}); none is fetched") from None
        if hashlib.sha256(content).hexdigest() != published.sha256:
            raise InputError(f"{name}: {path} is not the published file (sha256 differs)")
        rows = [line.split() for line in content.splitlines() if line]
        ranks = {base64.b64decode(token): int(rank) for token, rank in rows}
        self.name, self.vocabulary = name, len(ranks)
        self._tokens = {rank: token for token, rank in ranks.items()}
        self._encoding = tiktoken.Encoding(name, pat_str=published.pattern, mergeable_ranks=ranks, special_tokens={})

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text."""
        return [self._encoding.encode_to_numpy(text, disallowed_special=()) for text in texts]

    def token(self, number: int) -> bytes | None:
        """Bytes of an id."""
        return self._tokens.get(number)


def cached(url: str) -> Path:
    """Where tiktoken keeps what it fetched from `url` (tiktoken/load.py)."""
    folder = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    home = Path(folder) if folder else Path(tempfile.gettempdir(), "data-gym-cache")
    return home / hashlib.sha1(url.encode()).hexdigest()


def named(name: str) -> Encoder:
    """The tokenizer at this path, a folder's own if it is one, or tiktoken's of this name.

    Raises:
        InputError: no such file, no tokenizer, or an encoding whose file is not here.
    """
    if name in PUBLISHED:
        return Tiktoken(name)
    path = Path(name)
    path = path / "tokenizer.json" if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"{path}: no such file; a tokenizer.json, or one of {', '.join(PUBLISHED)}")
    try:
        return Own(Tokenizer.load(path), name=_title(path))
    except InputError:
        return HuggingFace(path)


def _title(path: Path) -> str:
    """What people call it: the folder's name where the file has its usual one."""
    return path.resolve().parent.name if path.name == "tokenizer.json" else path.stem
