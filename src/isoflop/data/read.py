"""Documents out of files: plain text, JSON Lines (plain, gzip, zstd) and Parquet, streamed in a fixed order.

What holds text is decided by the file's suffix. A folder is walked in sorted order; what cannot be read as text there
is skipped and listed in `Text.skipped`. A file that was named, and a damaged data file anywhere, is an error: half a
corpus must never pass for a whole one.
"""

import codecs
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from isoflop.data.unpack import DamagedError, blocks, lines
from isoflop.errors import InputError

PLAIN = frozenset({
    ".txt", ".text", ".md", ".markdown", ".rst", ".tex", ".org", ".log", ".csv", ".tsv", ".json", ".yaml", ".yml",
    ".toml", ".ini", ".cfg", ".xml", ".html", ".htm", ".css", ".sql", ".py", ".pyi", ".c", ".h", ".cc", ".cpp", ".hpp",
    ".cu", ".rs", ".go", ".java", ".kt", ".scala", ".js", ".ts", ".jsx", ".tsx", ".rb", ".php", ".pl", ".lua", ".r",
    ".jl", ".hs", ".ml", ".sh", ".swift", ".cs", ".f90", ".m", ".tcl", ".el", ".lisp",
})  # fmt: skip
LINES = frozenset({".jsonl", ".ndjson"})
PARQUET = frozenset({".parquet", ".pq"})
COMPRESSED = frozenset({".gz", ".zst"})

# A text file longer than CUT_CHARS becomes documents of about PART_CHARS, so that one long file can still be split into
# training and validation, and no file has to fit into memory.
CUT_CHARS = 64 << 10
PART_CHARS = 16 << 10


class Document(Struct, frozen=True):
    """One text and the name that decides its split."""

    id: str
    text: str


class Source(Protocol):
    """Where documents come from: `Text`, or the standard library.

    Attributes:
        description: what it is, for headers and reports.
        skipped: name -> why it was left out; complete once `documents` has run through.
    """

    description: str
    skipped: dict[str, str]

    def documents(self) -> Iterator[Document]:
        """All documents, the same ones in the same order each time."""
        ...


class _Row(Struct):
    text: str
    id: str | int | None = None


class _UnreadableError(Exception):
    """Why a file holds no text; an error where the file was named, a skip where a folder was walked."""


class Text:
    """Every document under a path, again and again in the same order.

    Attributes:
        path: file or folder.
        files: what will be read, in this order.
        description: for headers and reports.
        skipped: file name -> why it was left out; complete once `documents` has run through.

    Raises:
        InputError: nothing there that can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.skipped: dict[str, str] = {}
        self.files = list(self._find())
        if not self.files:
            raise InputError(
                f"{path}: no readable text in this folder{self._reasons()}. "
                "Give .txt and other text files, .jsonl, .jsonl.gz, .jsonl.zst or .parquet"
            )
        self.description = f"{path} ({len(self.files)} files)" if path.is_dir() else str(path)

    def documents(self) -> Iterator[Document]:
        """Read all documents, one file after the other.

        Raises:
            InputError: a file is damaged, or no text was found at all; names file and line, row or byte.
        """
        found = False
        for file in self.files:
            try:
                for document in _READERS[_kind(file)](file, self._name(file)):
                    found = True
                    yield document
            except _UnreadableError as error:
                if file == self.path:
                    raise InputError(f"{file}: {error}") from error
                self.skipped[self._name(file)] = str(error)
        if not found:
            raise InputError(f"{self.path}: no text in it{self._reasons()}")

    def _find(self) -> Iterator[Path]:
        """Readable files in sorted order; what is passed over is noted."""
        if not self.path.exists():
            raise InputError(f"{self.path}: no such file or folder")
        if not self.path.is_dir():
            _refuse_unless_readable(self.path)
            yield self.path
            return
        for root, folders, names in os.walk(self.path, onerror=self._note):
            for name in folders:
                if name.startswith("."):
                    self.skipped[self._name(Path(root, name))] = "hidden folder"
                elif Path(root, name).is_symlink():
                    self.skipped[self._name(Path(root, name))] = "link to a folder"
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                file = Path(root, name)
                if reason := _unreadable(file):
                    self.skipped[self._name(file)] = reason
                else:
                    yield file

    def _note(self, error: OSError) -> None:
        """A folder that cannot be listed is passed over, and said so."""
        self.skipped[self._name(Path(os.fsdecode(error.filename)))] = f"folder cannot be read ({error.strerror})"

    def _name(self, file: Path) -> str:
        """POSIX path below the folder, or the file's own name; bytes that are no text are written as escapes."""
        name = file.name if file == self.path else file.relative_to(self.path).as_posix()
        return name.encode("utf-8", "backslashreplace").decode()

    def _reasons(self) -> str:
        counts: dict[str, int] = {}
        for reason in self.skipped.values():
            counts[reason] = counts.get(reason, 0) + 1
        listed = ", ".join(f"{count} x {reason}" for reason, count in sorted(counts.items())[:5])
        return f" (skipped: {listed})" if listed else ""


def documents(path: Path) -> Iterator[Document]:
    """Every document in a file or folder; see `Text`."""
    return Text(path).documents()


def _kind(file: Path) -> str:
    """Suffix that says how to read the file, below a compression's."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _unreadable(file: Path) -> str | None:
    """Why a file is passed over by its looks, or None."""
    if file.name.startswith("."):
        return "hidden file"
    if _kind(file) not in _READERS:
        return f"unknown kind {file.suffix}" if file.suffix else "no suffix"
    if not file.is_file():
        return "not a regular file"
    if not os.access(file, os.R_OK):
        return "no permission to read"
    return "empty file" if file.stat().st_size == 0 else None


def _refuse_unless_readable(file: Path) -> None:
    if _kind(file) not in _READERS:
        raise InputError(
            f"{file}: unknown kind of file {file.suffix!r}. "
            "Known: .txt and other text files, .jsonl, .jsonl.gz, .jsonl.zst, .parquet"
        )
    if file.is_file() and file.stat().st_size == 0:
        raise InputError(f"{file}: the file is empty")
    if not file.is_file() or not os.access(file, os.R_OK):
        raise InputError(f"{file}: cannot be read (not a regular file, or no permission)")


def _blocks(file: Path) -> Iterator[bytes]:
    """The file's content, decompressed, in blocks.

    Raises:
        InputError: the compressed stream is damaged or ends early.
    """
    packing = file.suffix.lower() if file.suffix.lower() in COMPRESSED else ""
    try:
        with file.open("rb") as source:
            yield from blocks(source, packing=packing)
    except DamagedError as error:
        raise InputError(
            f"{file}: damaged or cut-off {file.suffix} file ({error}). Copy or download it again"
        ) from error


def _json_lines(file: Path, name: str) -> Iterator[Document]:
    decoder = msgspec.json.Decoder(_Row)
    for number, line, _ in lines(_blocks(file), longest=sys.maxsize):
        line = line.removeprefix(codecs.BOM_UTF8) if line and number == 1 else line
        if not line or not line.strip():
            continue
        try:
            row = decoder.decode(line)
        except UnicodeDecodeError as error:
            raise InputError(f"{file} line {number}: not UTF-8 at byte {error.start} of the line") from error
        except msgspec.ValidationError as error:
            raise InputError(f'{file} line {number}: {error}; each line needs a "text" that is a string') from error
        except msgspec.DecodeError as error:
            raise InputError(f"{file} line {number}: not a JSON object ({error})") from error
        yield Document(str(row.id) if row.id is not None else f"{name}:{number}", row.text)


def _parquet(file: Path, name: str) -> Iterator[Document]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            yield from _parquet_rows(table, file, name)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{file}: damaged or not a Parquet file ({error})") from error


def _parquet_rows(table: Any, file: Path, name: str) -> Iterator[Document]:
    columns = table.schema_arrow.names
    if "text" not in columns:
        raise InputError(f"{file}: no column 'text'; columns are {', '.join(columns) or 'none'}")
    kind = str(table.schema_arrow.field("text").type)
    if kind not in {"string", "large_string", "string_view", "dictionary<values=string, indices=int32, ordered=0>"}:
        raise InputError(f"{file}: column 'text' holds {kind}, not strings")
    wanted = ["text", *(["id"] if "id" in columns else [])]
    row = 0
    for batch in table.iter_batches(batch_size=1024, columns=wanted):
        ids = batch["id"].to_pylist() if "id" in columns else [None] * len(batch)
        for given, text in zip(ids, batch["text"].to_pylist(), strict=True):
            row += 1
            if text is None:
                raise InputError(f"{file} row {row}: column 'text' is null; drop such rows or fill them")
            yield Document(str(given) if given is not None else f"{name}:{row}", text)


def _plain(file: Path, name: str) -> Iterator[Document]:
    """A text file: one document, or several where it is long."""
    cut = parts(_decoded(_blocks(file)), whole_up_to=CUT_CHARS, part=PART_CHARS)
    first = next(cut, None)
    second = next(cut, None)
    if first is None:
        return
    if second is None:
        yield Document(name, first)
        return
    yield Document(f"{name}#0", first)
    yield Document(f"{name}#1", second)
    for number, text in enumerate(cut, 2):
        yield Document(f"{name}#{number}", text)


def _decoded(blocks: Iterable[bytes]) -> Iterator[str]:
    """UTF-8 to text, a byte order mark at the start taken off."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0
    for number, block in enumerate(_with_end(blocks)):
        if (zero := block.find(0)) >= 0:
            raise _UnreadableError(f"binary content, not text (a zero byte at byte {offset + zero})")
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            where = offset - pending + error.start
            raise _UnreadableError(f"not UTF-8 at byte {where} ({error.reason}); convert it to UTF-8 first") from error
        offset += len(block)
        yield text.removeprefix("\ufeff") if number == 0 else text


def _with_end(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The blocks and then an empty one, on which the decoder says whether the last character was whole."""
    yield from blocks
    yield b""


def parts(texts: Iterable[str], *, whole_up_to: int, part: int) -> Iterator[str]:
    """Cut a text that is longer than `whole_up_to` at paragraph ends, every `part` characters or a little later.

    A part runs to the first blank line behind `part` characters, else to the first line end, else it is cut at
    twice `part`. The parts joined are the text, and the cuts do not depend on how `texts` was cut.
    """
    buffer, wait = "", whole_up_to
    for text in texts:
        buffer += text
        if len(buffer) <= wait:
            continue
        wait, start = 2 * part, 0
        while len(buffer) - start > wait:
            end = _paragraph_end(buffer, start + part, start + wait)
            yield buffer[start:end]
            start = end
        buffer = buffer[start:]
    if buffer:
        yield buffer


def _paragraph_end(text: str, lo: int, hi: int) -> int:
    for mark in ("\n\n", "\n"):
        if (at := text.find(mark, lo, hi)) >= 0:
            return at + len(mark)
    return hi


_READERS: dict[str, Callable[[Path, str], Iterator[Document]]] = {
    **dict.fromkeys(PLAIN, _plain),
    **dict.fromkeys(LINES, _json_lines),
    **dict.fromkeys(PARQUET, _parquet),
}
