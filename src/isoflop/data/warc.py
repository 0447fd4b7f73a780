"""Records of a WARC file, read with bounded memory and past every kind of damage.

An archive is mostly one gzip member a record. A damaged member, one that unpacks without end, or a record whose
Content-Length is false costs that record and no other: reading goes on at the next member, or in an archive of one
stream at the next line that begins a record. The readers that are built for speed stop or lose step there.

Source: ISO 28500:2017 (WARC 1.1), sections 4 and 5; RFC 1952 for the members.
"""

import zlib
from collections.abc import Iterator
from typing import BinaryIO

from msgspec import Struct

_BEGIN = b"WARC/1."
_NEXT = b"\r\n\r\n" + _BEGIN
_MAGIC = b"\x1f\x8b\x08"
_READ_BYTES = 1 << 16
_HEAD_BYTES = 1 << 16


class Record(Struct, frozen=True):
    """One record.

    Attributes:
        offset: byte of the file at which its gzip member begins, or of the unpacked stream where there is but one.
        headers: names in lower case.
        body: None where it was not read; then `problem` says why.
        n_bytes: of the body as far as it was seen.
    """

    offset: int
    headers: dict[str, str]
    body: bytes | None
    problem: str = ""
    n_bytes: int = 0


class _EndlessError(Exception):
    """A member that unpacks to more than is allowed."""


def records(file: BinaryIO, *, longest: int, most_unpacked: int) -> Iterator[Record]:
    """Every record, in order; what is damaged comes as a record with a `problem`.

    Args:
        file: seekable, at its beginning.
        longest: bytes of a body that is held.
        most_unpacked: bytes one gzip member may unpack to before it is left for the next.
    """
    begin = file.read(len(_BEGIN))
    if begin == _BEGIN or (not begin.startswith(_MAGIC) and _next_member(file, 0) is None):
        file.seek(0)
        yield from _stream(_Stream(_plain(file)), longest=longest, offset=None)
        return
    following: int | None = 0
    while (at := following) is not None:
        member = _Member(file, at, most_unpacked=_several(file, at, most_unpacked))
        try:
            yield from _stream(_Stream(member.blocks()), longest=longest, offset=at)
            following = member.end
        except (zlib.error, _EndlessError, EOFError) as error:
            yield Record(at, {}, None, _said(error), member.unpacked)
            following = _next_member(file, at + 1)


def _several(file: BinaryIO, at: int, most: int) -> int:
    """Bounds a member to `most`, save where a whole archive is one member: no other one follows, and none is lost."""
    return most if at > 0 or _next_member(file, 1) is not None else 1 << 62


def _said(error: Exception) -> str:
    if isinstance(error, _EndlessError):
        return "unpacks without end"
    return "cut-off gzip" if isinstance(error, EOFError) else "damaged gzip"


def _plain(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(_READ_BYTES):
        yield block


class _Member:
    """One gzip member of a file."""

    def __init__(self, file: BinaryIO, start: int, *, most_unpacked: int) -> None:
        self.file = file
        self.start = start
        self.most_unpacked = most_unpacked
        self.unpacked = 0
        self.end: int | None = None

    def blocks(self) -> Iterator[bytes]:
        """Its content; then `end` is where the next member begins, None at the end of the file."""
        self.file.seek(self.start)
        unzip, position = zlib.decompressobj(wbits=31), self.start
        while not unzip.eof:
            packed = self.file.read(_READ_BYTES)
            if not packed:
                raise EOFError
            position += len(packed)
            while packed and not unzip.eof:
                block = unzip.decompress(packed, _READ_BYTES)
                self.unpacked += len(block)
                if self.unpacked > self.most_unpacked:
                    raise _EndlessError
                yield block
                packed = unzip.unconsumed_tail
        rest = unzip.unused_data or self.file.read(_READ_BYTES)
        begin = position - len(unzip.unused_data)
        if rest.startswith(_MAGIC):
            self.end = begin
        elif rest.strip(b"\0"):
            self.end = _next_member(self.file, begin)


def _next_member(file: BinaryIO, at: int) -> int | None:
    """The first byte from `at` on where a gzip member begins that holds a record."""
    file.seek(at)
    kept = b""
    while block := file.read(_READ_BYTES):
        window, base = kept + block, at - len(kept)
        found = window.find(_MAGIC)
        while found >= 0:
            if _holds_record(file, base + found):
                return base + found
            found = window.find(_MAGIC, found + 1)
        at += len(block)
        kept = window[-2:]
        file.seek(at)
    return None


def _holds_record(file: BinaryIO, at: int) -> bool:
    file.seek(at)
    try:
        return zlib.decompressobj(wbits=31).decompress(file.read(4096), len(_BEGIN)).startswith(_BEGIN)
    except zlib.error:
        return False


class _Stream:
    """Unpacked bytes that can be looked into and given back."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self.source = source
        self.held = b""
        self.position = 0

    def fill(self, n: int) -> bool:
        """Hold at least n bytes; False where there are fewer."""
        parts, length = [self.held], len(self.held)
        while length < n and (block := next(self.source, None)) is not None:
            parts.append(block)
            length += len(block)
        self.held = b"".join(parts)
        return len(self.held) >= n

    def take(self, n: int) -> bytes:
        """The next n bytes, or all that are left."""
        self.fill(n)
        taken, self.held = self.held[:n], self.held[n:]
        self.position += len(taken)
        return taken

    def give_back(self, taken: bytes) -> None:
        """Put bytes before what comes next."""
        self.held = taken + self.held
        self.position -= len(taken)

    def skip_to(self, mark: bytes) -> int:
        """Go on to the next mark, or to the end; bytes passed over."""
        before = self.position
        while (found := self.held.find(mark)) < 0:
            self.take(max(0, len(self.held) - len(mark) + 1))
            if not self.fill(len(self.held) + 1):
                self.take(len(self.held))
                return self.position - before
        self.take(found)
        return self.position - before


def _stream(stream: _Stream, *, longest: int, offset: int | None) -> Iterator[Record]:
    """The records of one unpacked stream."""
    while stream.fill(1):
        start = stream.position if offset is None or stream.position else offset
        if not _at_record(stream):
            passed = stream.skip_to(_NEXT)
            yield Record(start, {}, None, "no WARC record", passed)
            stream.take(4)
            continue
        yield _record(stream, start, longest=longest)


def _at_record(stream: _Stream) -> bool:
    stream.fill(len(_BEGIN))
    return stream.held.startswith(_BEGIN)


def _record(stream: _Stream, start: int, *, longest: int) -> Record:
    headers = _headers(stream)
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit() and len(length) < 19):
        return _lost(stream, start, headers, "no Content-Length")
    stream.take(len(b"\r\n\r\n"))
    n_bytes = int(length)
    if n_bytes > longest:
        return _oversized(stream, start, headers, n_bytes)
    body = stream.take(n_bytes)
    if len(body) == n_bytes and _ends(stream):
        return Record(start, headers, body, "", n_bytes)
    whole = len(body) == n_bytes
    stream.give_back(body)
    return _lost(stream, start, headers, "false Content-Length" if whole or _NEXT in body else "cut off")


def _headers(stream: _Stream) -> dict[str, str]:
    """Names in lower case; lines that go on are joined (section 4). The empty line behind them is left standing."""
    stream.fill(_HEAD_BYTES)
    end = stream.held.find(b"\r\n\r\n", 0, _HEAD_BYTES)
    head = stream.take(end if end >= 0 else min(len(stream.held), len(_BEGIN)))
    lines = head.decode("utf-8", "replace").replace("\r\n ", " ").replace("\r\n\t", " ").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _ends(stream: _Stream) -> bool:
    """Take the two empty lines behind a body; False, taking nothing, where anything but the next record follows."""
    stream.fill(len(_NEXT))
    after = stream.held[: len(_NEXT)]
    if after not in {b"", b"\r\n", b"\r\n\r\n", _NEXT}:
        return False
    stream.take(len(after.removesuffix(_BEGIN)))
    return True


def _oversized(stream: _Stream, start: int, headers: dict[str, str], n_bytes: int) -> Record:
    """Pass over a body that is too long to hold: to the next record's beginning, as its length cannot be proved."""
    passed = stream.skip_to(_NEXT)
    stream.take(4)
    problem = "too long" if passed >= n_bytes else "false Content-Length"
    return Record(start, headers, None, problem, passed)


def _lost(stream: _Stream, start: int, headers: dict[str, str], problem: str) -> Record:
    passed = stream.skip_to(_NEXT)
    stream.take(4)
    return Record(start, headers, None, problem, passed)
