"""Token shards: raw little-endian integers, document ends beside them, one header.

    <split>-00000.bin        tokens, uint16 (uint32 where the vocabulary exceeds 65,536)
    <split>-00000.ends.bin   uint64: where each document ends in this file, behind its end of text
    tokenizer.json           the vocabulary, in Hugging Face's format
    shards.json              the header: counts, hashes, origin

A file holds whole documents. The header is written last and atomically: a folder without one is unfinished, and any
program that maps raw integers can read the rest.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from isoflop.data.split import Split
from isoflop.data.tokenizer import Tokenizer
from isoflop.data.tokens import Tokens as Tokens  # who opens shards reads them
from isoflop.errors import InputError
from isoflop.files import disk, read_json, sha256_file, sha256_value, write_atomic
from isoflop.stamp import Stamp

HEADER = "shards.json"
TOKENIZER = "tokenizer.json"
_DECODED_TOKENS = 1 << 20  # at once: a Python number takes 36 bytes
_OURS = re.compile(r"(train|validation)-\d{5}(\.ends)?\.bin")
TYPES: dict[str, np.dtype[np.unsignedinteger]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
ENDS = np.dtype("<u8")
_ZEROS = "0" * 64


class ShardFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of tokens and its document ends."""

    name: str
    n_tokens: int
    sha256: str
    ends_name: str
    n_documents: int
    ends_sha256: str


class ShardSplit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All files of one split.

    Attributes:
        n_tokens: one end of text for each document included.
        n_bytes: UTF-8 bytes of the text.
    """

    n_tokens: int
    n_documents: int
    n_bytes: int
    files: list[ShardFile]

    @property
    def sha256(self) -> str:
        """Identity of the split's tokens and document ends."""
        return sha256_value([(file.sha256, file.ends_sha256) for file in self.files])


class Header(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `shards.json` holds.

    Attributes:
        text_sha256: hash over every document's id and text, in order.
        validation_fraction: share of documents meant for validation; a hash of the id decides.
        tokenizer_sample_bytes: bytes of training text the vocabulary was learned from.
        source: what the text is, for people.
        tokenizer_file_sha256: of the bytes of `tokenizer.json`; "" where another program wrote the header.
        header_sha256: of the header's own bytes, with zeros in this place; "" likewise.
    """

    dtype: Literal["uint16", "uint32"]
    vocabulary: int
    tokenizer_sha256: str
    splits: dict[Split, ShardSplit]
    text_sha256: str
    validation_fraction: float
    tokenizer_sample_bytes: int
    source: str
    stamp: Stamp
    tokenizer_file_sha256: str = ""
    header_sha256: str = ""
    schema: Literal["isoflop/shards@1"] = "isoflop/shards@1"

    @property
    def content_sha256(self) -> str:
        """Identity of the data: tokens, document ends and tokenizer, wherever and whenever they were written."""
        splits = {name: split.sha256 for name, split in self.splits.items()}
        return sha256_value([self.dtype, self.vocabulary, self.tokenizer_sha256, splits])


class Shards:
    """A finished folder of token shards.

    Attributes:
        folder: where it lies.
        header: its `shards.json`.
    """

    def __init__(self, folder: Path, header: Header) -> None:
        self.folder = folder
        self.header = header

    @property
    def content_sha256(self) -> str:
        """Identity of the data; see `Header.content_sha256`."""
        return self.header.content_sha256

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The vocabulary the tokens are written in.

        Raises:
            InputError: `tokenizer.json` is missing, damaged or another one.
        """
        return self._load_tokenizer()

    def tokens(self, split: Split) -> Tokens:
        """The tokens of a split, mapped from disk."""
        kind = TYPES[self.header.dtype]
        return Tokens([_map(self.folder / file.name, kind) for file in self.header.splits[split].files])

    def ends(self, split: Split) -> npt.NDArray[np.int64]:
        """(documents,) position behind each document's end of text, in the split as one sequence."""
        files = self.header.splits[split].files
        offsets = np.cumsum([0, *(file.n_tokens for file in files)])
        parts = [_map(self.folder / file.ends_name, ENDS).astype(np.int64) for file in files]
        return np.concatenate([part + offset for part, offset in zip(parts, offsets, strict=False)])

    def texts(self, split: Split) -> Iterator[str]:
        """The text of each document, in order, out of its tokens.

        Raises:
            InputError: a token is not the tokenizer's.
        """
        kind = TYPES[self.header.dtype]
        for file in self.header.splits[split].files:
            tokens, begin = _map(self.folder / file.name, kind), 0
            for end in _map(self.folder / file.ends_name, ENDS).tolist():
                last = end - 1  # its end of text
                parts = range(begin, last, _DECODED_TOKENS)
                yield b"".join(
                    self.tokenizer.decode_bytes(tokens[at : min(at + _DECODED_TOKENS, last)].tolist()) for at in parts
                ).decode("utf-8", "replace")
                begin = end

    def names(self) -> list[str]:
        """Files of tokens and of document ends."""
        files = [file for split in self.header.splits.values() for file in split.files]
        return [name for file in files for name in (file.name, file.ends_name)]

    def verify(self, *, should_stop: Callable[[], bool] = lambda: False, threads: int = 1) -> bool:
        """Read everything and hold it against the header; False where it was asked to stop between two files.

        Args:
            threads: that read a file each.

        Raises:
            InputError: a file is missing or its bytes are not those written; names the first.
        """
        self.check_sizes()
        self._load_tokenizer()
        files = [file for split in self.header.splits.values() for file in split.files]
        with ThreadPoolExecutor(threads) as pool:  # hashing lets go of the interpreter
            checked = pool.map(lambda file: not should_stop() and self._verify(file), files)
            try:
                return all(checked)
            finally:
                pool.shutdown(cancel_futures=True)

    def _verify(self, file: ShardFile) -> bool:
        for name, wanted in ((file.name, file.sha256), (file.ends_name, file.ends_sha256)):
            if sha256_file(self.folder / name) != wanted:
                raise InputError(f"{self.folder / name}: damaged (sha256 differs). Tokenize the text again")
        self._check_content(file)
        return True

    def check_sizes(self) -> None:
        """Hold every file's size against the header, without reading it.

        Raises:
            InputError: a file is missing, cut off or too long; names the file.
        """
        item = TYPES[self.header.dtype].itemsize
        for split in self.header.splits.values():
            for file in split.files:
                _check_size(self.folder / file.name, file.n_tokens * item)
                _check_size(self.folder / file.ends_name, file.n_documents * ENDS.itemsize)
        _check_size(self.folder / TOKENIZER, None)

    def _load_tokenizer(self) -> Tokenizer:
        path, written = self.folder / TOKENIZER, self.header.tokenizer_file_sha256
        tokenizer = Tokenizer.load(path)
        if tokenizer.sha256 != self.header.tokenizer_sha256:
            raise InputError(f"{path}: not the tokenizer these shards were written with. Tokenize the text again")
        if written and sha256_file(path) != written:
            raise InputError(f"{path}: damaged (sha256 differs). Tokenize the text again")
        return tokenizer

    def _check_content(self, file: ShardFile) -> None:
        """What a hash cannot say where another program wrote the shards: ids in range, ends in order."""
        tokens, ends = (
            _map(self.folder / file.name, TYPES[self.header.dtype]),
            _map(self.folder / file.ends_name, ENDS),
        )
        if len(tokens) and (largest := int(tokens.max())) >= self.header.vocabulary:
            raise InputError(
                f"{self.folder / file.name}: token {largest} is outside the vocabulary of {self.header.vocabulary}"
            )
        if len(ends) and (np.any(ends[1:] <= ends[:-1]) or int(ends[-1]) != len(tokens)):
            raise InputError(f"{self.folder / file.ends_name}: document ends do not rise to the number of tokens")


def open_shards(folder: Path) -> Shards:
    """Open a folder that `isoflop data tokenize` wrote; sizes are checked here, hashes by `Shards.verify`.

    Raises:
        InputError: no such folder, an unfinished or foreign one, or a file of the wrong size.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder. Write shards with `isoflop data tokenize --out {folder}`")
    if not (folder / HEADER).exists():
        raise InputError(
            f"{folder}: no {HEADER} in it, so tokenization never finished. Run `isoflop data tokenize` again"
        )
    header = read_json(folder / HEADER, Header)
    _check_own(folder / HEADER, header)
    _check_header(folder / HEADER, header)
    shards = Shards(folder, header)
    shards.check_sizes()
    return shards


def write_header(folder: Path, header: Header) -> None:
    """Finish a folder: the header, with hashes of the tokenizer's file and of itself.

    Raises:
        ResourceError: the disk is full.
    """
    whole = replace(header, tokenizer_file_sha256=sha256_file(folder / TOKENIZER), header_sha256=_ZEROS)
    content = msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"
    write_atomic(folder / HEADER, content.replace(_ZEROS.encode(), hashlib.sha256(content).hexdigest().encode()))


def dtype_for(vocabulary: int) -> Literal["uint16", "uint32"]:
    """The narrowest type that holds every id."""
    return "uint16" if vocabulary <= 1 << 16 else "uint32"


def clear(folder: Path) -> None:
    """Take away shards from an earlier run, the header first; other files stay."""
    with disk(folder):
        (folder / HEADER).unlink(missing_ok=True)
        for file in sorted(folder.iterdir()) if folder.is_dir() else []:
            if _OURS.fullmatch(file.name):
                file.unlink()


def _map(path: Path, kind: np.dtype[np.unsignedinteger]) -> npt.NDArray[np.unsignedinteger]:
    """A file's integers; an empty file cannot be mapped."""
    if path.stat().st_size == 0:
        return np.empty(0, dtype=kind)
    # The plain view of the map: every indexing of a np.memmap pays for its subclass, x3 on small batches.
    return np.asarray(np.memmap(path, dtype=kind, mode="r"))


def _check_size(path: Path, wanted: int | None) -> None:
    if not path.is_file():
        raise InputError(f"{path}: missing. Tokenize the text again")
    size = path.stat().st_size
    if wanted is not None and size != wanted:
        raise InputError(f"{path}: {size} bytes where the header says {wanted}. Tokenize the text again")


def _check_own(path: Path, header: Header) -> None:
    """The hash of the header itself: a flipped byte in a count or a name is damage, too."""
    if not header.header_sha256:
        return
    content = path.read_bytes().replace(header.header_sha256.encode(), _ZEROS.encode())
    if hashlib.sha256(content).hexdigest() != header.header_sha256:
        raise InputError(
            f"{path}: damaged or changed by hand (sha256 differs). Tokenize the text again, or take header_sha256 out "
            "to vouch for it yourself"
        )


def _check_header(path: Path, header: Header) -> None:
    """Sums and names, which the types cannot say."""
    if header.dtype != dtype_for(header.vocabulary):
        raise InputError(f"{path}: dtype {header.dtype} does not belong to a vocabulary of {header.vocabulary}")
    for name in ("train", "validation"):
        if name not in header.splits:
            raise InputError(f"{path}: no split {name!r}")
    for name, split in header.splits.items():
        for key in ("n_tokens", "n_documents"):
            total = sum(getattr(file, key) for file in split.files)
            if total != getattr(split, key):
                raise InputError(f"{path}: split {name}: {key} {getattr(split, key)} but its files sum to {total}")
        for file in split.files:
            if not (_OURS.fullmatch(file.name) and _OURS.fullmatch(file.ends_name)):
                raise InputError(
                    f"{path}: split {name}: {file.name!r} or {file.ends_name!r} is no name of a shard file"
                )
