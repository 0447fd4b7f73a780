"""Bytes out of plain, gzip and zstd files in blocks of bounded size, whatever they unpack to."""

import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

BLOCK_BYTES = 1 << 20
# Four bytes of zstd can stand for 128 KiB: 512 of them give at most 16 MiB at once.
_ZSTD_BYTES = 512
_ZSTD_WINDOW_BYTES = 1 << 27


class DamagedError(Exception):
    """The packed bytes are damaged or end early."""


def blocks(file: BinaryIO, *, packing: str = "") -> Iterator[bytes]:
    """The unpacked content, in blocks of at most 16 MiB.

    Args:
        packing: ".gz", ".zst" or "" for none.

    Raises:
        DamagedError: what comes before the damage has been given out.
    """
    return _UNPACK[packing](file)


def _plain(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block


def _gzip(file: BinaryIO) -> Iterator[bytes]:
    member, begun = zlib.decompressobj(wbits=31), False
    for packed in _plain(file):
        while packed:
            begun = True
            try:
                block = member.decompress(packed, BLOCK_BYTES)
            except zlib.error as error:
                raise DamagedError(f"damaged gzip ({error})") from error
            if block:
                yield block
            packed = member.unconsumed_tail
            if member.eof:
                packed, begun = member.unused_data.lstrip(b"\0"), False  # zeros may fill up a gzip file's last sector
                member = zlib.decompressobj(wbits=31)
    if begun:
        raise DamagedError("the gzip stream is cut off")


def _zstd(file: BinaryIO) -> Iterator[bytes]:
    import zstandard

    unpacker = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    frame, begun = unpacker.decompressobj(), False
    for large in _plain(file):
        for at in range(0, len(large), _ZSTD_BYTES):
            packed = large[at : at + _ZSTD_BYTES]
            while packed:
                begun = True
                try:
                    block = frame.decompress(packed)
                except zstandard.ZstdError as error:
                    raise DamagedError(f"damaged zstd ({error})") from error
                if block:
                    yield block
                packed = b""
                if frame.eof:
                    packed, begun = frame.unused_data, False
                    frame = unpacker.decompressobj()
    if begun:
        raise DamagedError("the zstd stream is cut off")


_UNPACK: dict[str, Callable[[BinaryIO], Iterator[bytes]]] = {"": _plain, ".gz": _gzip, ".zst": _zstd}


def lines(unpacked: Iterator[bytes], *, longest: int) -> Iterator[tuple[int, bytes | None, int]]:
    """Lines by number from 1, without their end.

    Returns:
        (number, the line, its bytes); the line is None where it is longer than `longest`, and was not held.
    """
    number, held, length = 1, bytearray(), 0
    for block in unpacked:
        start = 0
        while (end := block.find(b"\n", start)) >= 0:
            length += end - start
            yield number, (bytes(held) + block[start:end] if length <= longest else None), length
            number, length, start = number + 1, 0, end + 1
            held.clear()
        length += len(block) - start
        if length <= longest:
            held += block[start:]
        else:
            held.clear()
    if length:
        yield number, (bytes(held) if length <= longest else None), length


def whole(unpacked: Iterator[bytes], *, longest: int) -> bytes | None:
    """All of it, or None where it is longer; then no more is unpacked than that."""
    held = bytearray()
    for block in unpacked:
        held += block
        if len(held) > longest:
            return None
    return bytes(held)
