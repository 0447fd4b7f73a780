"""Documents as Parquet between stages: written whole or not at all, the same bytes for the same documents."""

import os
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import Any

import msgspec
import pyarrow
import pyarrow.parquet

from isoflop import files
from isoflop.data.document import Document, Refused, size
from isoflop.errors import InputError

_COLUMNS = [("id", pyarrow.string()), ("source", pyarrow.string()), ("url", pyarrow.string()),
            ("page", pyarrow.large_binary()), ("charset", pyarrow.string()), ("text", pyarrow.large_string()),
            ("marks", pyarrow.string())]  # fmt: skip
KEPT = pyarrow.schema(_COLUMNS)
DROPPED = pyarrow.schema([*_COLUMNS, ("reason", pyarrow.string()), ("detail", pyarrow.string()),
                          ("n_bytes", pyarrow.int64())])  # fmt: skip
VERDICTS = pyarrow.schema([("verdict", pyarrow.binary())])
# A row group is written when its documents reach this; it bounds what a reader and a writer hold.
_GROUP_BYTES = 4 << 20
_GROUP_ROWS = 8192


class Writer:
    """Rows into one Parquet file, which stands under its name only once it is whole. A context manager."""

    def __init__(self, path: Path, schema: Any) -> None:
        self.path = path
        self.schema = schema
        self.n_rows = 0
        # A name of its own: a scheduler may start work again that lives on, on a machine it lost sight of.
        self._beside = path.with_name(f".{path.name}.{token_hex(4)}.tmp")
        self._rows: list[dict[str, Any]] = []
        self._held = 0
        with files.disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # No statistics: they would repeat whole texts in the footer.
            self._out = pyarrow.parquet.ParquetWriter(
                self._beside, schema, compression="zstd", use_dictionary=False, write_statistics=False
            )

    def add(self, row: dict[str, Any], *, n_bytes: int) -> None:
        """One row of about that many bytes."""
        self._rows.append(row)
        self._held += n_bytes
        self.n_rows += 1
        if self._held >= _GROUP_BYTES or len(self._rows) >= _GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        with files.disk(self.path):
            self._out.write_table(pyarrow.Table.from_pylist(self._rows, schema=self.schema))
        self._rows, self._held = [], 0

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None and self._rows:
                self._flush()
            self._out.close()
            if kind is None:
                with files.disk(self.path), self._beside.open("rb") as written:
                    os.fsync(written.fileno())
                self._beside.replace(self.path)
        finally:
            self._beside.unlink(missing_ok=True)


def row(document: Document) -> dict[str, Any]:
    """A document's columns."""
    return {**msgspec.structs.asdict(document), "marks": msgspec.json.encode(document.marks, order="sorted").decode()}


def refused_row(refused: Refused) -> dict[str, Any]:
    """The columns of what was dropped."""
    why = refused.why
    return {**row(refused.document), "reason": why.reason, "detail": why.detail, "n_bytes": refused.n_bytes}


def add(writer: Writer, document: Document) -> None:
    """A document into a file of kept ones."""
    writer.add(row(document), n_bytes=size(document))


def add_refused(writer: Writer, refused: Refused) -> None:
    """What was dropped, with its reason, into a file of such."""
    writer.add(refused_row(refused), n_bytes=size(refused.document))


def documents(path: Path) -> Iterator[Document]:
    """The documents of a shard, a few at a time.

    Raises:
        InputError: the file is damaged.
    """
    for each in rows(path):
        yield Document(**{name: each[name] for name in KEPT.names} | {"marks": msgspec.json.decode(each["marks"])})


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a shard of any kind, a row group at a time.

    Raises:
        InputError: the file is damaged.
    """
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            for group in range(table.num_row_groups):
                for batch in table.iter_batches(batch_size=1024, row_groups=[group], use_threads=False):
                    yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: damaged shard ({error}); run the same command again to write it anew") from error
