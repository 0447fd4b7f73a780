"""Reading text: every format gives the same documents, and bad input is named to the line, row or byte."""

import gzip
import json
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from isoflop.data.read import CUT_CHARS, Document, Text, documents, parts
from isoflop.errors import InputError

TEXTS = ["Call me Ishmael.\n", "Größe, 数, 🦑", "tabs\tand \u2028 separators\r\n", "a\u0000b"]


def _lines(texts: list[str]) -> bytes:
    return b"".join(json.dumps({"id": f"d{i}", "text": text}).encode() + b"\n" for i, text in enumerate(texts))


def _write_parquet(path: Path) -> None:
    table = pa.table({"id": [f"d{i}" for i in range(len(TEXTS))], "text": TEXTS})
    pq.write_table(table, path, row_group_size=2)


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.jsonl": lambda path: path.write_bytes(_lines(TEXTS)),
    "a.ndjson": lambda path: path.write_bytes(b"\xef\xbb\xbf" + _lines(TEXTS) + b"\n  \n"),
    "a.jsonl.gz": lambda path: path.write_bytes(gzip.compress(_lines(TEXTS))),
    "two-members.jsonl.gz": lambda path: path.write_bytes(
        gzip.compress(_lines(TEXTS)[:50]) + gzip.compress(_lines(TEXTS)[50:])
    ),
    "a.jsonl.zst": lambda path: path.write_bytes(zstandard.compress(_lines(TEXTS))),
    "two-frames.jsonl.zst": lambda path: path.write_bytes(
        zstandard.compress(_lines(TEXTS)[:50]) + zstandard.compress(_lines(TEXTS)[50:])
    ),
    "a.parquet": _write_parquet,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_documents(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    assert list(documents(tmp_path / name)) == [Document(f"d{i}", text) for i, text in enumerate(TEXTS)]


def test_without_ids_a_document_is_named_by_file_and_line_or_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n\n{"text": "y", "other": 1}')
    pq.write_table(pa.table({"text": ["x", "y"]}), tmp_path / "b.parquet")
    assert [d.id for d in documents(tmp_path)] == ["a.jsonl:1", "a.jsonl:3", "b.parquet:1", "b.parquet:2"]


def test_a_folder_is_read_in_sorted_order_and_what_is_passed_over_is_listed(tmp_path: Path) -> None:
    for name in ("z.txt", "b/y.md", "b/a.py", "a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\x00")
    (tmp_path / "LICENSE").write_text("free")
    (tmp_path / "none.txt").touch()
    (tmp_path / "latin.txt").write_bytes("naïve".encode("latin-1"))
    (tmp_path / "zeros.txt").write_bytes(b"abc\x00")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.txt").write_text("hidden")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    text = Text(tmp_path)
    assert [d.id for d in text.documents()] == ["a.txt", "z.txt", "b/a.py", "b/y.md"]
    assert [d.id for d in text.documents()] == ["a.txt", "z.txt", "b/a.py", "b/y.md"]
    assert set(text.skipped) == {
        "photo.png", "LICENSE", "none.txt", "latin.txt", "zeros.txt", ".git", "gone.txt", "loop",
    }  # fmt: skip
    assert "byte 2" in text.skipped["latin.txt"]
    assert "byte 3" in text.skipped["zeros.txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_may_not_be_read_is_listed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "closed").mkdir(mode=0)
    text = Text(tmp_path)
    assert text.skipped == {"closed": "folder cannot be read (Permission denied)"}
    (tmp_path / "closed").chmod(0o700)


def test_a_file_name_that_is_not_utf8_still_gives_an_id_that_is(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")).write_text("x")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    assert [d.id for d in documents(tmp_path)] == ["caf\\udce9.txt"]


def test_a_long_text_file_is_cut_at_paragraphs_and_nothing_is_lost(tmp_path: Path) -> None:
    paragraphs = [f"Paragraph {i}. " + "word " * (i % 300) for i in range(500)]
    (tmp_path / "book.txt").write_text("\n\n".join(paragraphs))
    parts = list(documents(tmp_path / "book.txt"))
    assert len(parts) > 10
    assert "".join(d.text for d in parts) == "\n\n".join(paragraphs)
    assert all(d.text.startswith("Paragraph") for d in parts)
    assert [d.id for d in parts] == [f"book.txt#{i}" for i in range(len(parts))]


def test_a_text_file_up_to_the_limit_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + b"line\n" * (CUT_CHARS // 5))
    assert [d.id for d in documents(tmp_path / "a.txt")] == ["a.txt"]
    assert next(documents(tmp_path / "a.txt")).text.startswith("line")


@given(
    text=st.text(alphabet="ab\n", max_size=300),
    cuts=st.lists(st.integers(0, 300), max_size=8),
    part=st.integers(1, 20),
    whole=st.integers(40, 80),
)
def test_parts_join_to_the_text_wherever_the_stream_was_cut(text: str, cuts: list[int], part: int, whole: int) -> None:
    at = sorted({0, len(text), *(min(each, len(text)) for each in cuts)})
    blocks = [text[lo:hi] for lo, hi in pairwise(at)]
    cut = list(parts(blocks, whole_up_to=whole, part=part))
    assert "".join(cut) == text
    assert cut == list(parts([text], whole_up_to=whole, part=part))
    assert len(text) > whole or len(cut) <= 1


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_character_cut_off_at_the_end_is_not_utf8(tmp_path: Path, cut: int) -> None:
    (tmp_path / "a.txt").write_bytes(b"word " * 10 + "🦑".encode()[:cut])
    with pytest.raises(InputError, match="not UTF-8 at byte 50"):
        list(documents(tmp_path / "a.txt"))


def test_the_byte_offset_is_counted_over_blocks(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("é".encode() * 700_000 + b"\n\xff\n")
    with pytest.raises(InputError, match="byte 1400001 "):
        list(documents(tmp_path / "a.txt"))


GOOD_LINE = b'{"text": "fine"}\n'
BAD_FILES: list[tuple[str, bytes, str]] = [
    ("empty.txt", b"", "empty"),
    ("empty.jsonl", b"", "empty"),
    ("blank.jsonl", b"\n\n", "no text"),
    ("binary.txt", b"text\x00\x01", "byte 4"),
    ("latin.txt", b"na\xefve", "not UTF-8 at byte 2"),
    ("a.exe", b"MZ", "unknown kind of file '.exe'"),
    ("nosuffix", b"text", "unknown kind of file ''"),
    ("not-json.jsonl", GOOD_LINE + b"{text: 1}\n", "line 2: not a JSON object"),
    ("torn.jsonl", GOOD_LINE * 2 + b'{"text": "f', "line 3: not a JSON object"),
    ("array.jsonl", GOOD_LINE + b'["text"]\n', "line 2: Expected `object`"),
    ("no-text.jsonl", GOOD_LINE + b'{"txt": "x"}\n', "line 2: .*`text`"),
    ("number.jsonl", b'{"text": 7}\n', "line 1: Expected `str`"),
    ("latin.jsonl", GOOD_LINE + b'{"text": "na\xefve"}\n', "line 2: not UTF-8"),
    ("surrogate.jsonl", b'{"text": "\\ud800"}\n', "line 1: not a JSON object"),
    ("cut.jsonl.gz", gzip.compress(GOOD_LINE * 1000, mtime=0)[:-20], "damaged or cut-off .gz"),
    ("plain.jsonl.gz", GOOD_LINE, "damaged or cut-off .gz"),
    ("cut.jsonl.zst", zstandard.compress(_lines([str(i) for i in range(2000)]))[:-20], "damaged or cut-off .zst"),
    ("plain.jsonl.zst", GOOD_LINE, "damaged or cut-off .zst"),
    ("a.parquet", b"PAR1 no", "not a Parquet file"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES, ids=[row[0] for row in BAD_FILES])
def test_a_bad_file_is_named_with_the_place(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        list(documents(tmp_path / name))
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["cut.jsonl.gz", "torn.jsonl", "a.parquet"])
def test_a_damaged_data_file_in_a_folder_is_never_passed_over(tmp_path: Path, name: str) -> None:
    (tmp_path / "good.txt").write_text("good")
    (tmp_path / name).write_bytes({row[0]: row[1] for row in BAD_FILES}[name])
    with pytest.raises(InputError, match=name):
        list(documents(tmp_path))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"body": ["x"], "url": ["y"]}, "no column 'text'; columns are body, url"),
        ({"text": [1, 2]}, "column 'text' holds int64"),
        ({"text": ["x", None]}, "row 2: column 'text' is null"),
    ],
)
def test_a_parquet_file_without_text_says_what_it_has(
    tmp_path: Path, columns: dict[str, list[object]], message: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=message):
        list(documents(tmp_path / "a.parquet"))


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Text(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no readable text in this folder"):
        Text(tmp_path)
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(InputError, match=r"skipped: 1 x unknown kind \.png"):
        Text(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"\x00")
    with pytest.raises(InputError, match=r"no text in it .*binary"):
        list(documents(tmp_path))


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(InputError, match="not a regular file"):
        Text(tmp_path / "a.txt")


def test_the_published_texts_are_read_whole(shared_data: Path) -> None:
    counts = {file.name: sum(1 for _ in documents(file)) for file in sorted((shared_data / "text").glob("*.gz"))}
    with gzip.open(shared_data / "text" / "encyclopedic_factbook.jsonl.gz", "rb") as source:
        assert counts["encyclopedic_factbook.jsonl.gz"] == sum(1 for _ in source)
    play = (shared_data / "text" / "tinyshakespeare.txt").read_text()
    assert "".join(d.text for d in documents(shared_data / "text" / "tinyshakespeare.txt")) == play
