"""WARC files made by hand, sound and broken."""

import gzip
import zlib


def page(text: str) -> bytes:
    """An HTML page."""
    return f"<html><head><title>t</title></head><body><p>{text}</p></body></html>".encode()


def served(body: bytes, *, status: int = 200, headers: str = "Content-Type: text/html; charset=utf-8") -> bytes:
    """An HTTP response as a crawler stores it."""
    return f"HTTP/1.1 {status} X\r\n{headers}\r\n\r\n".encode() + body


def record(body: bytes, *, number: int = 0, kind: str = "response", length: int | None = None) -> bytes:
    """One record; `length` is the false one that its header claims."""
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{number:08d}>\r\n"
        f"WARC-Target-URI: http://example.org/{number}\r\nContent-Type: application/http; msgtype=response\r\n"
        f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    )
    return head.encode() + body + b"\r\n\r\n"


def packed(*records: bytes) -> bytes:
    """One gzip member a record, as archives have it."""
    return b"".join(gzip.compress(each, mtime=0) for each in records)


def bomb(n_bytes: int, *, begin: bytes = b"") -> bytes:
    """A gzip member of a thousandth of that size."""
    zipper, block = zlib.compressobj(9, wbits=31), bytes(1 << 20)
    parts = [zipper.compress(begin)]
    parts += [zipper.compress(block) for _ in range(n_bytes >> 20)]
    return b"".join([*parts, zipper.flush()])
