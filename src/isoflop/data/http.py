"""The page inside an HTTP response as a crawler stored it: status, type, and the body unchunked and unpacked.

Source: RFC 9112, sections 4 to 7; RFC 9110, section 8.4.
"""

import io
import zlib

from msgspec import Struct

from isoflop.data.unpack import DamagedError, blocks, whole


class Response(Struct, frozen=True):
    """What a server answered.

    Attributes:
        kind: media type in lower case, "" where none was named.
        charset: "" where none was named.
    """

    status: int
    kind: str
    charset: str
    body: bytes


class HttpError(Exception):
    """Why there is no page in it."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def response(block: bytes, *, longest: int) -> Response:
    """Read one stored response.

    Args:
        longest: bytes that a packed body may unpack to.

    Raises:
        HttpError: no response, a packing that is not known, damaged, or too long.
    """
    head, gap, body = block.partition(b"\r\n\r\n")
    if not gap:
        head, _, body = block.partition(b"\n\n")
    first, *rest = head.decode("latin-1").replace("\r\n", "\n").split("\n")
    words = first.split(None, 2)
    if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdigit():
        raise HttpError("no HTTP response", first[:80])
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = _unchunked(body)
    body = _unpacked(body, headers.get("content-encoding", "").lower(), longest=longest)
    kind, _, charset = headers.get("content-type", "").lower().partition("charset=")
    return Response(int(words[1]), kind.split(";")[0].strip(), charset.split(";")[0].strip(" \"'"), body)


def _unchunked(body: bytes) -> bytes:
    """Chunks joined. Some crawls join them and keep the header: what has no chunk sizes is left as it is."""
    parts: list[bytes] = []
    at = 0
    while True:
        end = body.find(b"\r\n", at, at + 32)
        try:
            n_bytes = int(body[at:end].split(b";")[0], 16) if end >= 0 else -1
        except ValueError:
            n_bytes = -1
        if n_bytes < 0 or end + 2 + n_bytes > len(body):
            return body if at == 0 else b"".join([*parts, body[end + 2 :] if n_bytes > 0 else b""])
        if n_bytes == 0:
            return b"".join(parts)
        parts.append(body[end + 2 : end + 2 + n_bytes])
        at = end + 4 + n_bytes


def _unpacked(body: bytes, packing: str, *, longest: int) -> bytes:
    """The body as a browser would see it; crawls that unpack often leave the header standing."""
    if packing in {"gzip", "x-gzip"} and body.startswith(b"\x1f\x8b"):
        try:
            page = whole(blocks(io.BytesIO(body), packing=".gz"), longest=longest)
        except DamagedError as error:
            raise HttpError("damaged or cut-off body", str(error)) from error
        if page is None:
            raise HttpError("document too long", f"unpacks to over {longest:,} bytes")
        return page
    if packing == "deflate" and not body.lstrip().startswith(b"<"):
        return _inflated(body, longest=longest)
    if packing in {"br", "zstd", "compress"} and b"<" not in body[:256]:
        raise HttpError("unknown content encoding", packing)
    return body


def _inflated(body: bytes, *, longest: int) -> bytes:
    """Zlib's format, or bare deflate as some servers send it."""
    for window_bits in (15, -15):
        unzip = zlib.decompressobj(window_bits)
        try:
            page = unzip.decompress(body, longest + 1)
        except zlib.error:
            continue
        if len(page) > longest:
            raise HttpError("document too long", f"unpacks to over {longest:,} bytes")
        return page
    raise HttpError("damaged or cut-off body", "deflate")
