"""Exact repeats of documents, paragraphs, lines and windows, against a plain loop over strings."""

import tracemalloc
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.data.dedup import Documents, Spans, Windows
from isoflop.data.dedup_clusters import FIRST, REPEAT, UNIQUE, clusters, repeats
from isoflop.data.dedup_tables import Keys, Table, write_table
from isoflop.data.read import Document
from isoflop.errors import InputError, ResourceError, UsageError

LINES = Spans(unit="line", min_chars=1)
SMALL = st.lists(st.lists(st.sampled_from(["one", "two", "three", "four"]), max_size=5), max_size=8)


def _tables(folder: Path, keys: Keys, shards: Sequence[Sequence[Document]]) -> list[Table]:
    return [write_table(folder / f"{number:03}", shard, keys) for number, shard in enumerate(shards)]


def _lines_left(folder: Path, shards: Sequence[Sequence[Document]], *, memory_bytes: int) -> dict[str, str]:
    tables = _tables(folder, LINES, shards)
    left: dict[str, str] = {}
    for table, marks, shard in zip(tables, repeats(tables, memory_bytes=memory_bytes), shards, strict=True):
        for document, own in zip(shard, np.split(marks, table.ends)[:-1], strict=True):
            left[document.id] = LINES.without(document.text, own)
    return left


def _plain_lines_left(documents: Sequence[Document]) -> dict[str, str]:
    """The rule itself, in a loop: a line stays where it is first."""
    seen: set[str] = set()
    left = {}
    for document in documents:
        kept = []
        for line in document.text.splitlines(keepends=True):
            if line.strip() and line.strip() in seen:
                continue
            seen.add(line.strip())
            kept.append(line)
        left[document.id] = "".join(kept)
    return left


@given(texts=SMALL, cuts=st.lists(st.integers(0, 8), max_size=3), memory=st.sampled_from([64, 300, 1 << 20]))
def test_lines_left_are_those_of_a_plain_loop_for_any_shards_and_memory(
    tmp_path_factory: pytest.TempPathFactory, texts: list[list[str]], cuts: list[int], memory: int
) -> None:
    documents = [Document(f"d{i}", "\n".join(text)) for i, text in enumerate(texts)]
    shards = [documents[a:b] for a, b in pairwise([0, *sorted(cuts), len(documents)]) if a <= b]
    left = _lines_left(tmp_path_factory.mktemp("tables"), shards, memory_bytes=memory)
    assert left == _plain_lines_left(documents)


def test_of_equal_documents_the_first_stays(tmp_path: Path) -> None:
    shards = [
        [Document("m", "same text"), Document("c", "other")],
        [Document("z", "same text"), Document("b", "same text"), Document("a", "Same  text")],
    ]
    found = clusters(_tables(tmp_path, Documents(), shards))
    assert found.keepers.tolist() == [0, 1, 0, 0, 4]
    assert found.n_dropped == 2
    assert [found.id(number) for number in range(5)] == ["m", "c", "z", "b", "a"]
    assert clusters(_tables(tmp_path, Documents(loose=True), shards)).n_dropped == 3


def test_short_lines_are_never_repeats(tmp_path: Path) -> None:
    long = "a line that is long enough to be counted\n"
    text = f"}}\n{long}}}\n"
    keys = Spans(unit="line", min_chars=20)
    tables = _tables(tmp_path, keys, [[Document("a", text), Document("b", text)]])
    marks = repeats(tables)[0]
    assert marks.tolist() == [FIRST, REPEAT]
    assert keys.without(text, marks[1:]) == "}\n}\n"


def test_paragraphs_are_told_apart_by_blank_lines_and_compared_without_white_space_around() -> None:
    keys = Spans(unit="paragraph", min_chars=3)
    text = "  first one\nstill first\n \n\nsecond\n\nx"
    assert [text[a:b] for a, b in keys.spans(text)] == ["  first one\nstill first\n \n\n", "second\n\n"]
    hashes, ends = keys.keys([text, "second", "second \n"])
    assert ends.tolist() == [2, 3, 4]
    assert hashes[1, 0] == hashes[2, 0] == hashes[3, 0]
    assert keys.without(text, np.array([UNIQUE, REPEAT])) == "  first one\nstill first\n \n\nx"


def test_a_planted_passage_of_60_words_is_cut_out_of_the_later_document_to_the_word(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    fresh = iter(f"w{i}" for i in rng.permutation(100_000))

    def take(n: int) -> list[str]:
        return [next(fresh) for _ in range(n)]

    passage = take(60)
    first, before, after = [*take(80), *passage, *take(30)], take(45), take(70)
    shards = [
        [Document("a", " ".join(first)), Document("c", " ".join(passage[:49]))],
        [Document("b", " ".join([*before, *(w.upper() for w in passage), *after]))],
    ]
    keys = Windows(n=50)
    tables = _tables(tmp_path, keys, shards)
    marks = repeats(tables)
    assert [int((m == REPEAT).sum()) for m in marks] == [0, 11]
    assert keys.without(shards[1][0].text, marks[1]).split() == before + after
    a, c = np.split(marks[0], tables[0].ends)[:-1]
    assert keys.without(shards[0][0].text, a) == shards[0][0].text
    assert len(c) == 0  # 49 words have no window of 50


def test_of_a_passage_that_repeats_itself_one_copy_is_left(tmp_path: Path) -> None:
    verse = [f"w{i}" for i in range(10)]
    text = " ".join(verse * 7)
    keys = Windows(n=10)
    marks = repeats(_tables(tmp_path, keys, [[Document("a", text)]]))[0]
    # Ten windows are first, one for each rotation; the words under them, the first 19, stay.
    assert keys.without(text, marks).split() == (verse * 2)[:19]


def test_documents_without_a_unit_and_shards_without_a_document_are_kept(tmp_path: Path) -> None:
    tables = _tables(tmp_path, LINES, [[], [Document("a", ""), Document("b", "\n \n")], []])
    assert [len(m) for m in repeats(tables)] == [0, 0, 0]
    assert clusters(tables).n_dropped == 0
    assert repeats([]) == []
    assert clusters([]).n_dropped == 0


def test_the_memory_asked_for_bounds_what_is_sorted_at_once(tmp_path: Path) -> None:
    n = 300_000
    text = "\n".join(f"line {i % (n // 2)}" for i in range(n))
    tables = _tables(tmp_path, LINES, [[Document("a", text)]])
    del text
    peaks = {}
    for memory in (1 << 20, 1 << 30):
        tracemalloc.start()
        marks = repeats(tables, memory_bytes=memory)[0]
        peaks[memory] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (marks == REPEAT).sum() == n // 2
    # One byte a line for the answer and one scan of 8 MB at most, beside what was asked for; else 40 bytes a line.
    assert peaks[1 << 20] < 1.5 * (1 << 20) + n + 3 * n < 40 * n < peaks[1 << 30]


def test_a_lone_surrogate_in_text_or_id_breaks_nothing(tmp_path: Path) -> None:
    shard = [Document("a\ud800", "x\udfff line"), Document("b", "x\udfff line")]
    assert clusters(_tables(tmp_path, Documents(), [shard])).keepers.tolist() == [0, 0]


def test_tables_of_two_kinds_are_refused_by_name(tmp_path: Path) -> None:
    tables = [write_table(tmp_path / "one", [], LINES), write_table(tmp_path / "two", [], Windows())]
    with pytest.raises(InputError, match=r"two holds window of 50 words and .*one holds line of 1 characters"):
        repeats(tables)


def test_a_table_cut_off_or_unfinished_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t"
    write_table(path, [Document("a", "some words")], LINES)
    keys = tmp_path / "t.keys.bin"
    keys.write_bytes(keys.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"t\.keys\.bin: 7 bytes where 8 are due; write the table again"):
        Table(path)
    (tmp_path / "t.table.json").unlink()
    with pytest.raises(InputError, match="no such file"):
        Table(path)


def test_a_folder_that_cannot_be_written_to_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot write here"):
        write_table(tmp_path / "file" / "t", [], LINES)


def test_marks_of_another_text_are_refused() -> None:
    with pytest.raises(UsageError, match="2 units was given 1 marks"):
        LINES.without("a\nb", np.zeros(1, np.uint8))


@pytest.mark.parametrize("make", [lambda: Windows(n=1), lambda: Spans(unit="line", min_chars=0)])
def test_settings_that_mean_nothing_are_refused(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match="at least"):
        make()
