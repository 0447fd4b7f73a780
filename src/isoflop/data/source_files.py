"""The files of a recipe's sources, in an order that is the same each time: local paths, patterns and fsspec URLs."""

import fnmatch
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from msgspec import Struct

from isoflop.data.read import LINES, PARQUET, PLAIN
from isoflop.errors import InputError
from isoflop.specs.data_recipe import Source

_PAGES = frozenset({".html", ".htm", ".xhtml"})
_ARCHIVES = frozenset({".warc", ".wet"})
_PACKED = frozenset({".gz", ".zst"})
KINDS: dict[str, str] = {
    **dict.fromkeys(PLAIN, "text"),
    **dict.fromkeys(_PAGES, "html"),
    **dict.fromkeys(_ARCHIVES, "warc"),
    **dict.fromkeys(LINES, "jsonl"),
    **dict.fromkeys(PARQUET, "parquet"),
}


class File(Struct, frozen=True, kw_only=True):
    """One file to be read.

    Attributes:
        path: local path or URL.
        name: below its source; begins the ids of its documents.
        kind: how to read it; "" where that is not known.
        packing: ".gz", ".zst" or "".
        n_bytes: as it lies there, packed.
        version: changes when the file does.
    """

    path: str
    name: str
    source: Source
    kind: str
    packing: str
    n_bytes: int
    version: str


def find(source: Source, *, folder: str) -> list[File]:
    """Every file of a source by name, also those of no known kind: they are counted as dropped, not passed over.

    Raises:
        InputError: nothing is there, or the URL cannot be listed.
    """
    listed = _remote(source) if "://" in source.path else _local(source, Path(folder))
    found = sorted(listed, key=lambda file: file.name.encode("utf-8", "surrogatepass"))
    if not found:
        raise InputError(f"source {source.path}: no file there")
    return found


def open_file(file: File) -> BinaryIO:
    """Open for reading bytes, seekable.

    Raises:
        OSError: it cannot be read.
    """
    if "://" not in file.path:
        return open(file.path, "rb")
    import fsspec

    return cast(BinaryIO, fsspec.open(file.path, "rb").open())


def _file(source: Source, *, path: str, name: str, n_bytes: int, version: str) -> File:
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    packing = suffixes.pop() if suffixes and suffixes[-1] in _PACKED else ""
    kind = source.kind or KINDS.get(suffixes[-1] if suffixes else "", "")
    return File(
        path=path, name=name, source=source, kind=kind, packing=packing, n_bytes=n_bytes, version=version
    )  # fmt: skip


def _local(source: Source, folder: Path) -> Iterator[File]:
    path = folder / Path(source.path).expanduser()
    if path.is_file():
        yield _local_file(source, path, path.name)
    elif path.is_dir():
        for root, folders, names in os.walk(path):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                each = Path(root, name)
                if not name.startswith(".") and each.is_file():
                    yield _local_file(source, each, each.relative_to(path).as_posix())
    elif "*" in source.path or "?" in source.path:
        # Only the fixed beginning of a pattern is walked.
        fixed = list(path.parts)
        at = next(i for i, part in enumerate(fixed) if set(part) & set("*?["))
        base = Path(*fixed[:at])
        for each in base.glob("/".join(fixed[at:])):
            if each.is_file() and not each.name.startswith("."):
                yield _local_file(source, each, each.relative_to(base).as_posix())
    else:
        raise InputError(f"source {source.path}: no file or folder {path}")


def _local_file(source: Source, path: Path, name: str) -> File:
    about = path.stat()
    name = name.encode("utf-8", "backslashreplace").decode()
    return _file(source, path=str(path), name=name, n_bytes=about.st_size, version=str(about.st_mtime_ns))


def _remote(source: Source) -> Iterator[File]:
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(source.path)
        if set(root) & set("*?["):
            listed = system.glob(root, detail=True)
            root = root[: min(root.find(sign) for sign in "*?[" if sign in root)].rpartition("/")[0]
        else:
            listed = system.find(root, detail=True)
        for path, about in listed.items():
            if about.get("type") == "file" and not fnmatch.fnmatch(path, "*/.*"):
                name = path.removeprefix(root).lstrip("/") or path.rpartition("/")[2]
                yield _file(
                    source, path=system.unstrip_protocol(path), name=name, n_bytes=int(about.get("size") or 0),
                    version=_version(about),
                )  # fmt: skip
    except (OSError, ValueError) as error:
        raise InputError(f"source {source.path}: cannot be listed ({error})") from error


def _version(about: dict[str, Any]) -> str:
    """What the store says of a file's content, or of its time."""
    known = ("ETag", "etag", "md5Hash", "LastModified", "mtime", "updated", "created")
    return next((str(about[name]) for name in known if about.get(name)), "")
