"""Documents out of one file of a source; whatever is wrong becomes a `Refused` with its reason, and reading goes on."""

import codecs
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TypeAlias

import msgspec

from isoflop.data import warc
from isoflop.data.document import Document, Dropped, Refused
from isoflop.data.http import HttpError, Response, response
from isoflop.data.read import parts
from isoflop.data.source_files import File, open_file
from isoflop.data.unpack import DamagedError, blocks, lines, whole
from isoflop.specs.data_recipe import Limits

Item: TypeAlias = Document | Refused
_PAGE_TYPES = frozenset({"text/html", "application/xhtml+xml"})


def read(file: File, limits: Limits) -> Iterator[Item]:
    """Every document of a file, and in its place everything that could not become one."""
    reader = _READERS.get(file.kind)
    if reader is None:
        yield _refused(file, "unknown kind of file", file.name.rpartition(".")[2] if "." in file.name else "no suffix")
        return
    if not file.n_bytes:
        yield _refused(file, "empty file")
        return
    try:
        with open_file(file) as opened:
            yield from reader(file, opened, limits)
    except DamagedError as error:
        yield _refused(file, "damaged or cut-off file", f"{error}; what came before it was read")
    except OSError as error:
        yield _refused(file, "file cannot be read", str(error.strerror or error))


def _refused(
    file: File, reason: str, detail: str = "", *, at: str = "", n_bytes: int = 0, text: str = "", url: str = ""
) -> Refused:
    name = f"{file.name}{at}"
    document = Document(id=name, source=_source(file), url=url, text=text)
    return Refused(document=document, why=Dropped(reason=reason, detail=detail), n_bytes=n_bytes)


def _source(file: File) -> str:
    return file.source.name or file.source.path


def _page(file: File, opened: BinaryIO, limits: Limits) -> Iterator[Item]:
    page = whole(blocks(opened, packing=file.packing), longest=limits.document_bytes)
    if page is None:
        yield _too_long(file, limits, n_bytes=limits.document_bytes)
    else:
        yield Document(id=file.name, source=_source(file), page=page)


def _too_long(file: File, limits: Limits, *, at: str = "", n_bytes: int, url: str = "") -> Refused:
    return _refused(file, "document too long", f"over {limits.document_bytes:,} bytes", at=at, n_bytes=n_bytes, url=url)


def _plain(file: File, opened: BinaryIO, limits: Limits) -> Iterator[Item]:
    """A text as one document, or cut at paragraph ends where it is longer than a document may be."""
    # A character is up to four bytes, a part up to twice its wish.
    part = max(1, limits.document_bytes // 8)
    cut = parts(_decoded(blocks(opened, packing=file.packing)), whole_up_to=2 * part, part=part)
    number = -1
    try:
        for number, text in enumerate(cut):
            yield Document(id=f"{file.name}#{number}", source=_source(file), text=text)
    except UnicodeDecodeError as error:
        yield _refused(file, "not UTF-8", f"at byte {error.start}; what came before it was read", at=f"#{number + 1}")


def _decoded(unpacked: Iterator[bytes]) -> Iterator[str]:
    """UTF-8 to text without a byte order mark; an error counts its bytes from the beginning of the file."""
    decoder, offset = codecs.getincrementaldecoder("utf-8-sig")(), 0
    for block in unpacked:
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block)
        except UnicodeDecodeError as error:
            start = offset - pending + error.start
            raise UnicodeDecodeError("utf-8", b"", start, start + 1, error.reason) from error
        offset += len(block)
        yield text
    if decoder.getstate()[0]:
        raise UnicodeDecodeError("utf-8", b"", offset, offset + 1, "cut off")


def _json_lines(file: File, opened: BinaryIO, limits: Limits) -> Iterator[Item]:
    for number, line, n_bytes in lines(blocks(opened, packing=file.packing), longest=limits.document_bytes):
        at = f":{number}"
        if line is None:
            yield _too_long(file, limits, at=at, n_bytes=n_bytes)
            continue
        line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if line.strip():
            yield _row(file, line, at)


def _row(file: File, line: bytes, at: str) -> Item:
    try:
        row = msgspec.json.decode(line)
    except UnicodeDecodeError as error:
        return _refused(file, "not UTF-8", f"at byte {error.start} of the line", at=at, n_bytes=len(line))
    except (msgspec.DecodeError, RecursionError) as error:
        return _refused(file, "not JSON", str(error), at=at, n_bytes=len(line))
    if not isinstance(row, dict):
        return _refused(file, "not a JSON object", type(row).__name__, at=at, n_bytes=len(line))
    return _document(file, row, at, n_bytes=len(line))


def _document(file: File, row: dict[str, Any], at: str, *, n_bytes: int) -> Item:
    column = file.source.text
    if column not in row:
        known = ", ".join(sorted(map(str, row))[:10])
        return _refused(file, "missing column", f"{column!r}; there are {known or 'none'}", at=at, n_bytes=n_bytes)
    text = row[column]
    if not isinstance(text, str):
        detail = f"{column!r} holds {type(text).__name__}"
        return _refused(file, "text is no string", detail, at=at, n_bytes=n_bytes)
    given, url = row.get(file.source.id), row.get("url")
    name = str(given) if isinstance(given, str | int) else f"{file.name}{at}"
    return Document(id=name, source=_source(file), url=url if isinstance(url, str) else "", text=text)


def _parquet(file: File, opened: BinaryIO, limits: Limits) -> Iterator[Item]:
    import pyarrow
    import pyarrow.parquet

    if file.packing:
        yield _refused(file, "unknown kind of file", f"Parquet inside {file.packing}; unpack it first")
        return
    try:
        with pyarrow.parquet.ParquetFile(opened) as table:
            yield from _row_groups(file, table, limits)
    except (pyarrow.ArrowException, OSError) as error:
        yield _refused(file, "damaged or cut-off file", " ".join(str(error).split())[:200])


def _row_groups(file: File, table: Any, limits: Limits) -> Iterator[Item]:
    names = table.schema_arrow.names
    if file.source.text not in names:
        detail = f"{file.source.text!r}; there are {', '.join(names[:10]) or 'none'}"
        yield _refused(file, "missing column", f"{detail}; {table.metadata.num_rows:,} rows")
        return
    columns = [name for name in dict.fromkeys((file.source.text, file.source.id, "url")) if name in names]
    number = 0
    for group in range(table.num_row_groups):
        about = table.metadata.row_group(group)
        n_bytes = sum(
            about.column(i).total_uncompressed_size for i in range(about.num_columns)
            if about.column(i).path_in_schema.split(".")[0] in columns
        )  # fmt: skip
        if n_bytes > limits.unpacked_bytes:
            detail = f"{n_bytes:,} bytes in {about.num_rows:,} rows; unpacked_bytes is {limits.unpacked_bytes:,}"
            yield _refused(file, "row group too large", detail, at=f":{number + 1}", n_bytes=n_bytes)
            number += about.num_rows
            continue
        for batch in table.iter_batches(batch_size=64, columns=columns, row_groups=[group], use_threads=False):
            for row in _rows(batch):
                number += 1
                yield _bounded(file, row, number, limits)


def _rows(batch: Any) -> Iterator[dict[str, Any]]:
    """Rows as plain values; text that is not UTF-8 stays bytes and is refused as no string."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for i in range(len(batch)):
            try:
                yield from batch.slice(i, 1).to_pylist()
            except UnicodeDecodeError:
                yield {}


def _bounded(file: File, row: dict[str, Any], number: int, limits: Limits) -> Item:
    at = f":{number}"
    if not row:
        return _refused(file, "not UTF-8", at=at)
    text = row[file.source.text]
    n_bytes = len(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) else 0
    if n_bytes > limits.document_bytes:
        return _too_long(file, limits, at=at, n_bytes=n_bytes)
    return _document(file, row, at, n_bytes=n_bytes)


def _archive(file: File, opened: BinaryIO, limits: Limits) -> Iterator[Item]:
    if file.packing == ".zst":
        yield _refused(file, "unknown kind of file", "WARC inside zstd; unpack it first")
        return
    for record in warc.records(opened, longest=limits.document_bytes, most_unpacked=limits.unpacked_bytes):
        at, url = f"@{record.offset}", record.headers.get("warc-target-uri", "").strip("<>")
        kind = record.headers.get("warc-type", "")
        if record.problem == "too long" and kind in {"response", "resource", "conversion"}:
            yield _too_long(file, limits, at=at, n_bytes=record.n_bytes, url=url)
        elif record.body is None and record.problem != "too long":
            yield _refused(file, f"WARC record: {record.problem}", kind, at=at, n_bytes=record.n_bytes, url=url)
        elif record.body is not None and kind in _RECORDS:
            name = record.headers.get("warc-record-id", "").strip("<>") or f"{file.name}{at}"
            yield _RECORDS[kind](file, record, record.body, name, url, limits)


def _response(file: File, record: warc.Record, body: bytes, name: str, url: str, limits: Limits) -> Item:
    try:
        said = response(body, longest=limits.document_bytes)
    except HttpError as error:
        return _refused(file, error.reason, error.detail, at=f"@{record.offset}", n_bytes=len(body), url=url)
    if said.status != 200:
        return _refused(file, "HTTP status", str(said.status), at=f"@{record.offset}", n_bytes=len(body), url=url)
    return _served(file, said, record, name, url)


def _resource(file: File, record: warc.Record, body: bytes, name: str, url: str, limits: Limits) -> Item:
    kind, _, charset = record.headers.get("content-type", "").lower().partition("charset=")
    said = Response(200, kind.strip(" ;"), charset.strip(' "'), body)
    return _served(file, said, record, name, url)


def _served(file: File, said: Response, record: warc.Record, name: str, url: str) -> Item:
    if said.kind in _PAGE_TYPES or (not said.kind and b"<" in said.body[:1024]):
        return Document(id=name, source=_source(file), url=url, page=said.body, charset=said.charset)
    if said.kind == "text/plain":
        return _text(file, said.body, record, name, url)
    return _refused(file, "not a page", said.kind, at=f"@{record.offset}", n_bytes=len(said.body), url=url)


def _conversion(file: File, record: warc.Record, body: bytes, name: str, url: str, limits: Limits) -> Item:
    return _text(file, body, record, name, url)


def _text(file: File, body: bytes, record: warc.Record, name: str, url: str) -> Item:
    try:
        return Document(id=name, source=_source(file), url=url, text=body.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        detail = f"at byte {error.start}"
        return _refused(file, "not UTF-8", detail, at=f"@{record.offset}", n_bytes=len(body), url=url)


_RECORDS: dict[str, Callable[[File, warc.Record, bytes, str, str, Limits], Item]] = {
    "response": _response, "resource": _resource, "conversion": _conversion,
}  # fmt: skip
_READERS: dict[str, Callable[[File, BinaryIO, Limits], Iterator[Item]]] = {
    "html": _page, "text": _plain, "jsonl": _json_lines, "parquet": _parquet, "warc": _archive,
}  # fmt: skip
