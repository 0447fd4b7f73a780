"""Byte-level BPE: rustbpe or Hugging Face trains it, tiktoken encodes with it, `tokenizer.json` carries it.

Any text has an encoding and comes back exactly, because the 256 bytes are tokens; so has any string of bytes. Text is
first split by a pattern (see `patterns`) and tokens never cross a split. The last id is `<|endoftext|>`, and before it
come special tokens, where some were asked for; written inside a text they are ordinary text, so no document can forge
the end of another.
"""

import hashlib
import os
import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from threading import local
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from isoflop.data import byte_pairs, patterns, tokenizer_json
from isoflop.data.byte_pairs import Engine
from isoflop.data.spelling import spells
from isoflop.data.tokenizer_json import END_OF_TEXT as END_OF_TEXT
from isoflop.errors import InputError, UsageError
from isoflop.files import write_atomic

if TYPE_CHECKING:
    import tiktoken

SMALLEST_VOCABULARY = 257
PATTERN = patterns.DEFAULT.regex
SLICE_CHARS = 1 << 18
LONGEST_SPECIAL = 256
OWN_ENCODING_CHARS = 256  # of a text for each token of the vocabulary
_BYTES = frozenset(bytes([byte]) for byte in range(256))
_UNDECODED = re.compile("([\udc80-\udcff]+)")  # what "surrogateescape" makes of bytes that are not UTF-8


class Tokenizer:
    """A vocabulary and the split it was trained with.

    Attributes:
        tokens: bytes of each ordinary token by id; special tokens and the end of text follow them.
        pattern: regular expression that splits text before merging.
        special: names of special tokens, in the order of their ids.

    Raises:
        InputError: one of the 256 bytes is not among the tokens, or two tokens are equal.
        UsageError: a special token that cannot be one, see `check_special`.
    """

    def __init__(self, tokens: Sequence[bytes], *, pattern: str = PATTERN, special: Sequence[str] = ()) -> None:
        self.tokens = tuple(tokens)
        self.pattern = pattern
        self.special = tuple(special)
        known = set(self.tokens)
        if missing := _BYTES - known:
            raise InputError(f"{len(missing)} of the 256 bytes are no tokens, 0x{min(missing).hex()} among them; text "
                             "with them could not be encoded")  # fmt: skip
        if len(known) != len(self.tokens):
            raise InputError(f"{len(self.tokens) - len(known)} tokens stand in the vocabulary twice")
        check_special(self.special, known)

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        vocabulary: int = 1024,
        pattern: str = PATTERN,
        special: Sequence[str] = (),
        engine: Engine = "rustbpe",
    ) -> "Tokenizer":
        """Learn a vocabulary; the same texts give the same one, whatever their order or the number of threads.

        Args:
            texts: what to learn from.
            vocabulary: how many tokens: the 256 bytes, the special tokens and the end of text included.
            pattern: regular expression that splits text first.
            special: names of special tokens.
            engine: which library learns; see `byte_pairs` for where they differ.

        Raises:
            UsageError: too few tokens asked for, or a special token that cannot be one.
            UnknownNameError: there is no such engine.
            InputError: the texts have not so many tokens in them.
        """
        check_special(special)
        check_vocabulary(vocabulary, special)
        wanted = vocabulary - SMALLEST_VOCABULARY - len(special)
        # Two merges may build the same bytes, and the first of them is the token: a few merges more make up for it.
        surplus = 64 + wanted // 256
        joined = byte_pairs.merged(texts, count=wanted + surplus if wanted else 0, pattern=pattern, engine=engine)
        tokens = list(dict.fromkeys([*sorted(_BYTES), *joined]))[: 256 + wanted]
        if len(tokens) < 256 + wanted:
            enough = len(tokens) + 1 + len(special)
            raise InputError(
                f"the text has only {enough} different tokens in it; {vocabulary} were asked for. "
                f"Give more text, or a vocabulary of {enough} or fewer"
            )
        return cls(tokens, pattern=pattern, special=special)

    def smaller(self, vocabulary: int) -> "Tokenizer":
        """The tokenizer that training for this vocabulary would have given: its merges are the first of ours.

        Raises:
            UsageError: more tokens than this one has, or too few.
        """
        check_vocabulary(vocabulary, self.special)
        if vocabulary > self.vocabulary:
            raise UsageError(
                f"vocabulary {vocabulary}: this tokenizer has only {self.vocabulary} tokens to choose from"
            )
        kept = vocabulary - 1 - len(self.special)
        return Tokenizer(self.tokens[:kept], pattern=self.pattern, special=self.special)

    @property
    def vocabulary(self) -> int:
        """Number of ids, special tokens and the end of text included."""
        return len(self.tokens) + len(self.special) + 1

    @property
    def end_of_text(self) -> int:
        """Id that follows every document."""
        return self.vocabulary - 1

    @cached_property
    def special_ids(self) -> dict[str, int]:
        """Id of each special token and, last, of the end of text."""
        return {name: len(self.tokens) + i for i, name in enumerate([*self.special, END_OF_TEXT])}

    @cached_property
    def sha256(self) -> str:
        """Identity: the hash of pattern, tokens and special tokens, independent of how a file spells them."""
        digest = hashlib.sha256(self.pattern.encode())
        for token in self.tokens:
            digest.update(len(token).to_bytes(4, "little") + token)
        for name in map(str.encode, self.special):
            digest.update(bytes(4) + len(name).to_bytes(4, "little") + name)  # no token has no bytes
        return digest.hexdigest()

    @cached_property
    def token_bytes(self) -> npt.NDArray[np.int64]:
        """(vocabulary,) bytes of text in each token; special tokens and the end of text have none."""
        return np.array([*map(len, self.tokens), *[0] * (len(self.special) + 1)], dtype=np.int64)

    @cached_property
    def _encoding(self) -> "tiktoken.Encoding":
        return self._new_encoding()

    def _new_encoding(self) -> "tiktoken.Encoding":
        import tiktoken

        return tiktoken.Encoding(
            name=f"isoflop-{self.sha256[:12]}",
            pat_str=self.pattern,
            mergeable_ranks=self._ranks,
            special_tokens=self.special_ids,
        )

    @cached_property
    def _ranks(self) -> dict[bytes, int]:
        return {token: rank for rank, token in enumerate(self.tokens)}

    def encode(self, text: str, *, special: bool = False) -> npt.NDArray[np.uint32]:
        """(tokens,) ids of a text, without an end of text.

        Args:
            special: read special tokens and the end of text in it as such, as a chat template wants it.

        Raises:
            InputError: a lone surrogate in the text; it has no UTF-8.
        """
        return self._encode_piece(text, special=True) if special else self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        """Ids of many texts, encoded on all cores; long texts are shared out in slices.

        Raises:
            InputError: a lone surrogate in a text; it has no UTF-8.
        """
        known = patterns.of(self.pattern) is not None
        cut = [list(slices(text)) if known else [text] for text in texts]
        pieces = [piece for parts in cut for piece in parts]
        cores = min(_cores(), len(pieces))
        if cores <= 1:
            encoded = iter([self._encode_piece(piece) for piece in pieces])
        else:
            with ThreadPoolExecutor(cores) as threads:
                encoded = iter(list(threads.map(self._encode_in_thread(pieces), pieces)))
        return [_join([next(encoded) for _ in parts]) for parts in cut]

    def encode_bytes(self, content: bytes) -> npt.NDArray[np.uint32]:
        """(tokens,) ids of any bytes: what is UTF-8 as text, every other byte as its own token."""
        parts = _UNDECODED.split(content.decode("utf-8", "surrogateescape"))
        texts = self.encode_batch(parts[::2])
        strays = [[self._ranks[bytes([ord(sign) - 0xDC00])] for sign in part] for part in parts[1::2]]
        found = texts[:1]
        for stray, text in zip(strays, texts[1:], strict=True):
            found += [np.array(stray, dtype=np.uint32), text]
        return _join(found)

    def _encode_in_thread(self, pieces: Sequence[str]) -> Callable[[str], npt.NDArray[np.uint32]]:
        """What each thread encodes with: for much text an encoding of its own, which takes 0.6 us a token to build.

        The engine's regular expression is fast in the thread that first used it (18 MB/s) and 12.5 MB/s in all others.
        """
        if sum(map(len, pieces)) < OWN_ENCODING_CHARS * self.vocabulary:
            return self._encode_piece
        own = local()

        def encode(piece: str) -> npt.NDArray[np.uint32]:
            if not hasattr(own, "encoding"):
                own.encoding = self._new_encoding()
            return self._encode_piece(piece, encoding=own.encoding)

        return encode

    def _encode_piece(
        self, piece: str, *, special: bool = False, encoding: "tiktoken.Encoding | None" = None
    ) -> npt.NDArray[np.uint32]:
        _refuse_surrogates(piece)
        allowed = set(self.special_ids) if special else set()
        return (encoding or self._encoding).encode_to_numpy(piece, allowed_special=allowed, disallowed_special=())

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; bytes that are not UTF-8, as a model may generate them, become U+FFFD.

        Raises:
            InputError: an id outside the vocabulary.
        """
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of ids, exactly; a special token's are its name.

        Raises:
            InputError: an id outside the vocabulary.
        """
        numbers = [int(number) for number in ids]
        for place, number in enumerate(numbers):
            if not 0 <= number < self.vocabulary:
                raise InputError(f"id {number} at place {place} is outside the vocabulary of {self.vocabulary}")
        return self._encoding.decode_bytes(numbers)

    def save(self, path: Path) -> None:
        """Write `tokenizer.json`, which Hugging Face `tokenizers` loads and encodes the same with.

        One difference is theirs: they read special tokens inside a text as such unless `encode_special_tokens` is set.
        """
        content = tokenizer_json.content(self.tokens, self.pattern, self.special)
        write_atomic(path, msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Read a `tokenizer.json` that `save` wrote, or another of the same structure; a folder's own if it is one.

        Raises:
            InputError: no such file, not JSON, or a kind of tokenizer that would not encode the same here.
        """
        path = path / "tokenizer.json" if path.is_dir() else path
        try:
            content = msgspec.json.decode(path.read_bytes())
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not a tokenizer.json ({error})") from error
        try:
            found = tokenizer_json.parts(content)
        except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
            raise InputError(f"{path}: not a byte-level BPE as isoflop writes it ({error!r})") from error
        try:
            tokenizer = cls(found.tokens, pattern=found.pattern, special=found.special)
        except ValueError as error:
            raise InputError(f"{path}: {error}") from error
        if content != tokenizer_json.content(tokenizer.tokens, tokenizer.pattern, list(tokenizer.special)):
            raise InputError(
                f"{path}: merges or settings differ from those isoflop writes, so it would not encode the same. "
                "Train one with `isoflop tokenizer train`"
            )
        return tokenizer


def check_vocabulary(vocabulary: int, special: Sequence[str] = ()) -> None:
    """Whether the bytes, the special tokens and the end of text fit in.

    Raises:
        UsageError: they do not.
    """
    least = SMALLEST_VOCABULARY + len(special)
    if vocabulary < least:
        more = f", {len(special)} special tokens" if special else ""
        raise UsageError(
            f"vocabulary {vocabulary}: at least {least} are needed, the 256 bytes{more} and the end of text"
        )


def check_special(special: Sequence[str], tokens: Container[bytes] = _BYTES) -> None:
    """Whether these can be the names of special tokens beside these ordinary ones.

    Raises:
        UsageError: one is empty, long, holds white space or no text, stands twice, is the end of text or a token.
    """
    if END_OF_TEXT.encode() in tokens:
        raise UsageError(f"{END_OF_TEXT} is an ordinary token of this vocabulary; split the text by another pattern")
    for place, name in enumerate(special):
        said = f"special token {name!r}"
        if not name or not name.isprintable() or " " in name or len(name) > LONGEST_SPECIAL:
            raise UsageError(f"{said}: write 1 to {LONGEST_SPECIAL} printable characters without white space, "
                             "e.g. <|user|>")  # fmt: skip
        if name == END_OF_TEXT:
            raise UsageError(f"{said} is there already: it ends every document, as the last id")
        if name in special[:place]:
            raise UsageError(f"{said} is given twice")
        if spells(name) in tokens:
            raise UsageError(f"{said} is an ordinary token of this vocabulary too; give it a name that no text has")


def slices(text: str) -> Iterator[str]:
    """Cut a long text behind a line end with a letter or digit on its other side and no white space before it.

    No piece of any of `patterns.PATTERNS` crosses such a place or looks beyond it, so the slices encode to the same
    tokens as the whole.
    """
    start = 0
    while len(text) - start > SLICE_CHARS:
        end = start + SLICE_CHARS
        while (end := text.find("\n", end) + 1) and end < len(text) and not _parts_at(text, end):
            pass
        if not 0 < end < len(text):
            break
        yield text[start:end]
        start = end
    yield text[start:]


def _parts_at(text: str, end: int) -> bool:
    """Whether the line end before `end` stands between what is no white space and a letter or digit.

    White space before it would be seen to end here, and gpt2's split depends on what comes after.
    """
    return text[end].isalnum() and not text[end - 2].isspace()


def _refuse_surrogates(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"character {error.start} is a lone surrogate, which no text can hold; replace it") from error


def _join(parts: list[npt.NDArray[np.uint32]]) -> npt.NDArray[np.uint32]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
