"""`isoflop data pii`: the personal data in a file."""

import codecs
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from isoflop.cli.shell import Output, Printer, output_options
from isoflop.errors import InputError

if TYPE_CHECKING:
    from isoflop.data.pii import Found

_SHOWN = 40


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--only", multiple=True, metavar="KIND", help="Look for this kind alone; may be given again.")
@output_options("data.pii")
def pii(file: Path, only: tuple[str, ...], output: Output) -> None:
    """Find e-mail, IP, phone, card, IBAN and social security numbers in FILE.

    Lines count from 1, characters within a line from 0. Of .jsonl (.gz, .zst) and Parquet the field "text" is read and
    each find names its document, e.g. `isoflop data pii page.txt --json`.
    """
    from isoflop.data import pii as library

    damage = Counter[str]()
    found = list(_found(library, file, only or None, damage))
    counts = Counter(row["kind"] for row in found)
    payload = {
        "file": str(file),
        "found": found,
        "counts": {kind: counts[kind] for kind in library.kinds()},
        "invalid_utf8": damage["replaced"],
    }
    output.show(payload, lambda printer: _render(printer, payload))


def _found(library: Any, file: Path, only: Iterable[str] | None, damage: Counter[str]) -> Iterator[dict[str, Any]]:
    from isoflop.data.read import COMPRESSED, LINES, PARQUET, documents

    suffixes = [suffix.lower() for suffix in file.suffixes]
    last = suffixes[-2:-1] if suffixes[-1:] and suffixes[-1] in COMPRESSED else suffixes[-1:]
    if not file.is_file():
        raise InputError(f"{file}: no such file" if not file.exists() else f"{file}: is a folder; a file is needed")
    if last and last[0] in LINES | PARQUET:
        for document in documents(file):
            yield from (_row(found) | {"document": document.id} for found in library.find(document.text, only=only))
    else:
        yield from map(_row, library.find_in(_text(file, damage), only=only))


def _row(found: "Found") -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(found)
    return row


def _text(file: Path, damage: Counter[str]) -> Iterator[str]:
    """A file's text in blocks; bytes that are not UTF-8 become U+FFFD and are counted."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    tail = b""
    with file.open("rb") as source:
        while block := source.read(1 << 20):
            text = decoder.decode(block)
            # A replacement character that the file itself holds is no damage.
            damage["replaced"] += text.count("\ufffd") - (tail + block).count(b"\xef\xbf\xbd")
            tail = (tail + block)[-2:]
            yield text
    rest = decoder.decode(b"", final=True)
    damage["replaced"] += rest.count("\ufffd")
    yield rest


def _render(printer: Printer, payload: dict[str, Any]) -> None:
    found = payload["found"]
    rows = [[f"{row['line']}:{row['start']}", row["kind"], row["text"]] for row in found[:_SHOWN]]
    counted = ", ".join(f"{count} {kind}" for kind, count in payload["counts"].items() if count)
    printer.line(f"{payload['file']}: {counted or 'nothing found'}")
    if rows:
        printer.table("", ["line", "kind", "text"], rows)
    if found[_SHOWN:]:
        printer.line(f"and {len(found) - _SHOWN} more; --json lists all")
    if payload["invalid_utf8"]:
        printer.warn(f"{payload['invalid_utf8']} places are not UTF-8 and were read as U+FFFD")
