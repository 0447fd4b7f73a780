"""Every kind of source gives its documents, and counts what is none with a reason."""

import gzip
import io
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from tests.data.archives import bomb, packed, page, record, served

from isoflop.data.document import Document, Refused
from isoflop.data.http import HttpError, response
from isoflop.data.readers import read
from isoflop.data.source_files import find
from isoflop.data.unpack import DamagedError, blocks, lines
from isoflop.errors import InputError
from isoflop.specs.data_recipe import Limits, Source

LIMITS = Limits(document_bytes=100_000, unpacked_bytes=3_000_000)


def items(path: Path, **source: str) -> list[Document | Refused]:
    found = find(Source(path=str(path), **source), folder=".")  # type: ignore[arg-type]
    return [item for file in found for item in read(file, LIMITS)]


def kept(path: Path, **source: str) -> list[Document]:
    return [item for item in items(path, **source) if isinstance(item, Document)]


def reasons(path: Path, **source: str) -> list[str]:
    return [item.why.reason for item in items(path, **source) if isinstance(item, Refused)]


ROWS = [{"text": f"text {i}", "id": f"d{i}"} for i in range(3)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", LINES), ("a.jsonl.gz", gzip.compress(LINES)), ("a.jsonl.zst", zstandard.compress(LINES)),
     ("a.jsonl.zst", zstandard.compress(LINES[:20]) + zstandard.compress(LINES[20:]))],
)  # fmt: skip
def test_json_lines_plain_and_packed_hold_the_same_documents(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert [(each.id, each.text) for each in kept(tmp_path)] == [("d0", "text 0"), ("d1", "text 1"), ("d2", "text 2")]


def test_bad_lines_are_counted_and_the_others_read(tmp_path: Path) -> None:
    bad = [b'{"body": "x"}', b"{", b'{"text": "\xff"}', b'{"text": 5}', b"[1]", b'{"text": "\\ud800"}',
           b'{"text": "' + b"x" * 200_000 + b'"}']  # fmt: skip
    (tmp_path / "a.jsonl").write_bytes(LINES + b"\n".join(bad) + b"\n" + LINES)
    assert len(kept(tmp_path)) == 6
    assert reasons(tmp_path) == [
        "missing column", "not JSON", "not UTF-8", "text is no string", "not a JSON object", "not JSON",
        "document too long",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_what_stands_before_a_cut_is_read(tmp_path: Path, name: str) -> None:
    many = b"".join(json.dumps({"text": f"{i} {hash(str(i))}"}).encode() + b"\n" for i in range(60_000))
    content = gzip.compress(many) if name.endswith("gz") else zstandard.compress(many)
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    assert len(kept(tmp_path)) > 1000
    assert reasons(tmp_path)[-1] == "damaged or cut-off file"


@given(st.lists(st.binary(max_size=30)), st.integers(1, 12))
def test_lines_are_those_of_python_wherever_blocks_end(pieces: list[bytes], longest: int) -> None:
    text = b"\n".join(pieces)
    expected = text.split(b"\n")
    expected = expected if expected[-1] else expected[:-1]
    found = list(lines(iter(pieces_of(text)), longest=longest))
    assert [line for _, line, _ in found] == [line if len(line) <= longest else None for line in expected]
    assert [n for _, _, n in found] == [len(line) for line in expected]


def pieces_of(text: bytes) -> list[bytes]:
    return [text[i : i + 7] for i in range(0, len(text), 7)]


@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_a_bomb_is_given_out_in_small_blocks(packing: str) -> None:
    big = bytes(200 << 20)
    content = gzip.compress(big, 1) if packing == ".gz" else zstandard.compress(big)
    sizes = [len(block) for block in blocks(io.BytesIO(content), packing=packing)]
    assert sum(sizes) == len(big)
    assert max(sizes) <= 17 << 20


def test_a_zstd_stream_without_its_end_is_damaged() -> None:
    content = zstandard.compress(LINES * 50)
    with pytest.raises(DamagedError):
        list(blocks(io.BytesIO(content[:-3]), packing=".zst"))


def test_a_page_that_unpacks_to_too_much_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "a.html.gz").write_bytes(bomb(300 << 20))
    (tmp_path / "b.html").write_bytes(page("fine"))
    assert [each.id for each in kept(tmp_path)] == ["b.html"]
    assert reasons(tmp_path) == ["document too long"]


def test_texts_are_whole_up_to_the_limit_and_cut_beyond(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("ä" * 2000)
    (tmp_path / "long.txt").write_text("A paragraph of a long book.\n\n" * 20_000)
    (tmp_path / "torn.txt").write_bytes(b"good " * 10 + b"\xff")
    (tmp_path / "photo.png").write_bytes(b"\x89PNG")
    (tmp_path / "empty.txt").write_bytes(b"")
    found = kept(tmp_path)
    assert (
        "".join(each.text for each in found if each.id.startswith("long")) == "A paragraph of a long book.\n\n" * 20_000
    )
    assert max(len(each.text.encode()) for each in found) <= LIMITS.document_bytes
    assert "ä" * 2000 in {each.text for each in found}
    assert sorted(reasons(tmp_path)) == ["empty file", "not UTF-8", "unknown kind of file"]


def test_parquet_rows_are_read_and_bad_ones_counted(tmp_path: Path) -> None:
    table = pyarrow.table({"text": ["one", None, "y" * 200_000, "four"], "url": ["u1", "u2", "u3", None]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    pyarrow.parquet.write_table(table.rename_columns(["body", "url"]), tmp_path / "b.parquet")
    (tmp_path / "c.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    assert [(each.id, each.text, each.url) for each in kept(tmp_path)] == [
        ("a.parquet:1", "one", "u1"), ("a.parquet:4", "four", "")
    ]  # fmt: skip
    expected = ["text is no string", "document too long", "missing column", "damaged or cut-off file"]
    assert reasons(tmp_path) == expected
    assert [each.text for each in kept(tmp_path / "b.parquet", text="body")] == ["one", "four"]


def test_an_archive_gives_pages_and_says_why_others_are_none(tmp_path: Path) -> None:
    good = page("A page.")
    made = [
        served(good),
        served(good, status=404),
        served(b"\x89PNG", headers="Content-Type: image/png"),
        served(gzip.compress(good), headers="Content-Type: text/html\r\nContent-Encoding: gzip"),
        served(bomb(5 << 20), headers="Content-Type: text/html\r\nContent-Encoding: gzip"),
        b"nothing",
    ]
    content = packed(record(b"software: x", kind="warcinfo"), *(record(b, number=i) for i, b in enumerate(made)))
    content += packed(record("A text ä.".encode(), number=20, kind="conversion"))
    (tmp_path / "a.warc.gz").write_bytes(content)
    found = kept(tmp_path)
    assert [each.page for each in found] == [good, good, b""]
    assert found[2].text == "A text ä."
    assert (found[0].url, found[0].charset) == ("http://example.org/0", "utf-8")
    assert reasons(tmp_path) == ["HTTP status", "not a page", "document too long", "no HTTP response"]


def test_chunks_are_joined_and_bodies_joined_already_left_alone() -> None:
    head = "Content-Type: text/html\r\nTransfer-Encoding: chunked"
    assert response(served(b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n", headers=head), longest=99).body == b"abcdefg"
    assert response(served(b"<p>whole</p>", headers=head), longest=99).body == b"<p>whole</p>"
    with pytest.raises(HttpError, match="content encoding"):
        response(served(b"\x0b\x02", headers="Content-Encoding: br"), longest=99)


def test_a_url_is_read_through_fsspec_as_the_file_is(tmp_path: Path) -> None:
    pytest.importorskip("fsspec", reason="fsspec is not installed")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.jsonl.gz").write_bytes(gzip.compress(LINES))
    (tmp_path / "x" / "a.warc.gz").write_bytes(packed(record(served(page("A page.")))))
    for path in (f"file://{tmp_path}/x", f"file://{tmp_path}/x/*.gz"):
        found = find(Source(path=path), folder=".")
        assert [file.name for file in found] == ["a.jsonl.gz", "a.warc.gz"]
        assert [item.id for file in found for item in read(file, LIMITS) if isinstance(item, Document)] == [
            "d0", "d1", "d2", "urn:uuid:00000000"
        ]  # fmt: skip


def test_a_pattern_finds_its_files_and_nothing_is_an_error(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.md"):
        (tmp_path / name).write_text("x")
    assert [file.name for file in find(Source(path="*.txt"), folder=str(tmp_path))] == ["a.txt", "b.txt"]
    for path in ("*.html", "nowhere"):
        with pytest.raises(InputError, match="no file"):
            find(Source(path=path), folder=str(tmp_path))
