"""A damaged record costs itself and no other; on sound archives another library reads the same."""

import gzip
import io
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.data.archives import bomb, packed, page, record, served

from isoflop.data.warc import Record, records

BODIES = [served(page(f"Text of page {i}. " * (i + 3))) for i in range(5)]
RECORDS = [record(body, number=i) for i, body in enumerate(BODIES)]


def read(content: bytes, *, longest: int = 100_000, most_unpacked: int = 5_000_000) -> list[Record]:
    return list(records(io.BytesIO(content), longest=longest, most_unpacked=most_unpacked))


def sound(found: list[Record]) -> list[bytes]:
    return [each.body for each in found if each.body is not None]


@pytest.mark.parametrize("content", [packed(*RECORDS), b"".join(RECORDS), gzip.compress(b"".join(RECORDS))])
def test_records_are_read_packed_one_by_one_all_at_once_or_not_at_all(content: bytes) -> None:
    found = read(content)
    assert sound(found) == BODIES
    assert not any(each.problem for each in found)
    assert found[3].headers["warc-target-uri"] == "http://example.org/3"


def test_fastwarc_reads_the_same_from_a_sound_archive(tmp_path: Path) -> None:
    fastwarc = pytest.importorskip("fastwarc", reason="fastwarc is not installed")
    path = tmp_path / "a.warc.gz"
    path.write_bytes(packed(*RECORDS))
    with path.open("rb") as file:
        theirs = [each.reader.read() for each in fastwarc.ArchiveIterator(file, parse_http=False)]
    assert theirs == sound(read(path.read_bytes()))


@pytest.mark.parametrize("length", [0, 7, len(BODIES[2]) - 1, len(BODIES[2]) + 1, len(BODIES[2]) + 900, 10**15])
@pytest.mark.parametrize("together", [False, True])
def test_a_false_length_costs_one_record(length: int, together: bool) -> None:
    broken = [*RECORDS[:2], record(BODIES[2], number=2, length=length), *RECORDS[3:]]
    found = read(b"".join(broken) if together else packed(*broken))
    assert sound(found) == [*BODIES[:2], *BODIES[3:]]
    assert [each.problem for each in found if each.problem] in (["false Content-Length"], ["cut off"])


def test_a_flipped_byte_in_a_member_costs_that_record() -> None:
    content = bytearray(packed(*RECORDS))
    start = len(packed(*RECORDS[:2]))
    content[start + 40] ^= 0xFF
    found = read(bytes(content))
    assert [body for body in sound(found) if body in BODIES] == [*BODIES[:2], *BODIES[3:]]
    assert any(each.problem for each in found)


def test_what_stands_before_the_cut_is_read_and_the_cut_is_named() -> None:
    content = packed(*RECORDS)
    found = read(content[:-9])
    assert sound(found)[:4] == BODIES[:4]
    assert found[-1].problem == "cut-off gzip"


def test_a_record_that_unpacks_without_end_is_left_for_the_next() -> None:
    endless = bomb(64 << 20, begin=record(b"", number=9, length=64 << 20)[:-4])
    found = read(packed(RECORDS[0]) + endless + packed(RECORDS[1]))
    assert sound(found) == BODIES[:2]
    assert [each.problem for each in found if each.problem] == ["unpacks without end"]


def test_a_record_longer_than_is_held_is_passed_over() -> None:
    long = record(served(b"x" * 200_000), number=7)
    for content in (packed(RECORDS[0], long, RECORDS[1]), RECORDS[0] + long + RECORDS[1]):
        found = read(content)
        assert sound(found) == BODIES[:2]
        assert [each.problem for each in found if each.problem] == ["too long"]


@given(st.binary(max_size=400), st.integers(0, 4))
def test_any_bytes_between_records_cost_the_record_before_at_most(rubbish: bytes, at: int) -> None:
    """Its length can no longer be told from a false one that happens to end before an empty line."""
    assume(not rubbish.startswith(b"\x1f\x8b\x08"))  # a file that begins as gzip is read as gzip
    content = b"".join(RECORDS[:at]) + rubbish + b"\r\n\r\n" + b"".join(RECORDS[at:])
    found = [body for body in sound(read(content)) if body in BODIES]
    assert found in (BODIES, [*BODIES[: max(0, at - 1)], *BODIES[at:]])


@given(st.integers(0, 2**32))
def test_no_flipped_bit_or_cut_stops_the_reader(seed: int) -> None:
    content = bytearray(packed(*RECORDS))
    content[seed % len(content)] ^= 1 << (seed % 7)
    found = read(bytes(content[: len(content) - seed % 50]))
    assert len([body for body in sound(found) if body in BODIES]) >= 3
