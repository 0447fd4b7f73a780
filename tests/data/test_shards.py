"""Shards: text in, the same text out; equal input gives equal bytes; damage and unfinished folders are found."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop import stamp
from isoflop.data.corpus import StandardLibrary, source
from isoflop.data.read import Document, Text
from isoflop.data.shard_writer import Writer
from isoflop.data.shards import (
    HEADER,
    TOKENIZER,
    Header,
    Shards,
    Tokens,
    clear,
    dtype_for,
    open_shards,
    write_header,
)
from isoflop.data.split import side
from isoflop.data.tokenization import Sample, tokenize
from isoflop.errors import InputError, ResourceError, UsageError
from isoflop.files import sha256_file

LIBRARY = [d for d in StandardLibrary().documents() if d.id.count("/") == 0][:50]


def write(folder: Path, documents: list[Document] = LIBRARY, *, vocabulary: int = 400, force: bool = False) -> Shards:
    return tokenize(
        lambda: documents,
        folder=folder,
        vocabulary=vocabulary,
        validation_fraction=0.2,
        source="a test",
        force=force,
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards") / "library"
    write(folder)
    return folder


@pytest.fixture
def copied(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written, tmp_path / "copy")


def foreign(folder: Path) -> dict[str, Any]:
    """The header as another program would have written it: with no hash of itself."""
    header: dict[str, Any] = msgspec.json.decode((folder / HEADER).read_bytes())
    return header | {"header_sha256": ""}


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.name != HEADER}


def test_every_document_comes_back_from_its_split(written: Path) -> None:
    shards = open_shards(written)
    found = {}
    for split in ("train", "validation"):
        tokens, ends = shards.tokens(split).arrays[0], shards.ends(split)
        for lo, hi in zip([0, *ends[:-1]], ends, strict=True):
            assert tokens[hi - 1] == shards.tokenizer.end_of_text
            found[shards.tokenizer.decode(tokens[lo : hi - 1])] = split
    assert found == {d.text: side(d.id, validation_fraction=0.2) for d in LIBRARY if d.text}


def test_counts_in_the_header_are_those_of_the_text(written: Path) -> None:
    shards = open_shards(written)
    for name, split in shards.header.splits.items():
        texts = [d.text for d in LIBRARY if d.text and side(d.id, validation_fraction=0.2) == name]
        tokens = shards.tokens(name).gather(np.array([0]), length=split.n_tokens)[0]
        assert split.n_bytes == sum(len(text.encode()) for text in texts)
        assert split.n_bytes == shards.tokenizer.token_bytes[tokens].sum()
        assert split.n_documents == len(texts) == (tokens == shards.tokenizer.end_of_text).sum()
        assert split.n_tokens == len(shards.tokens(name)) == shards.ends(name)[-1]


def test_the_files_are_raw_little_endian_integers(written: Path) -> None:
    raw = np.frombuffer((written / "train-00000.bin").read_bytes(), dtype="<u2")
    np.testing.assert_array_equal(raw, open_shards(written).tokens("train").arrays[0])
    ends = np.frombuffer((written / "train-00000.ends.bin").read_bytes(), dtype="<u8")
    np.testing.assert_array_equal(ends, open_shards(written).ends("train"))


def test_the_same_documents_give_the_same_bytes_elsewhere_and_later(written: Path, tmp_path: Path) -> None:
    again = write(tmp_path / "elsewhere")
    assert contents(tmp_path / "elsewhere") == contents(written)
    assert again.content_sha256 == open_shards(written).content_sha256


def test_a_folder_that_holds_them_already_is_left_alone(copied: Path) -> None:
    header = (copied / HEADER).read_bytes()
    write(copied)
    assert (copied / HEADER).read_bytes() == header


def test_other_content_is_refused_without_force(copied: Path) -> None:
    before = contents(copied)
    with pytest.raises(UsageError, match="different text_sha256"):
        write(copied, LIBRARY[:-1])
    with pytest.raises(UsageError, match=r"different vocabulary\)"):
        write(copied, vocabulary=401)
    assert contents(copied) == before
    assert write(copied, vocabulary=401, force=True).header.vocabulary == 401


def test_one_changed_character_changes_the_content_hash(written: Path, tmp_path: Path) -> None:
    changed = [Document(d.id, d.text.replace("return", "Return", 1)) for d in LIBRARY]
    assert write(tmp_path / "changed", changed).content_sha256 != open_shards(written).content_sha256


@pytest.mark.parametrize(
    "name",
    ["train-00000.bin", "train-00000.ends.bin", "validation-00000.bin", "validation-00000.ends.bin", TOKENIZER],
)
@pytest.mark.parametrize("place", [0.0, 0.5, 0.999])
def test_one_flipped_bit_is_found_and_named(copied: Path, name: str, place: float) -> None:
    open_shards(copied).verify()
    content = bytearray((copied / name).read_bytes())
    content[int(place * len(content))] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        open_shards(copied).verify()


def small(folder: Path) -> Path:
    """A set of shards whose every byte can be tried."""
    texts = [Document(f"{i}.txt", f"the {i} words of document {i} " * (1 + i % 3)) for i in range(12)]
    write(folder, texts, vocabulary=262)
    return folder


def test_any_flipped_byte_in_any_file_is_found(tmp_path: Path) -> None:
    """Random bytes of all files, each changed to another: nothing passes both opening and checksums."""
    random = np.random.default_rng(0)
    folder = small(tmp_path / "small")
    for name in sorted(file.name for file in folder.iterdir()):
        whole = (folder / name).read_bytes()
        for place in random.choice(len(whole), min(len(whole), 60), replace=False):
            damaged = bytearray(whole)
            damaged[place] ^= int(random.integers(1, 256))
            (folder / name).write_bytes(damaged)
            with pytest.raises(InputError) as caught:
                open_shards(folder).verify()
            assert name in str(caught.value), (name, place)
            assert caught.value.exit_code == 4
        (folder / name).write_bytes(whole)
    assert open_shards(folder).verify()


def test_any_truncated_lengthened_or_missing_file_is_found(tmp_path: Path) -> None:
    folder = small(tmp_path / "small")
    for name in sorted(file.name for file in folder.iterdir()):
        whole = (folder / name).read_bytes()
        for other in (whole[:-1], whole[: len(whole) // 2], b"", whole + b" ", None):
            (folder / name).unlink()
            if other is not None:
                (folder / name).write_bytes(other)
            with pytest.raises(InputError, match=name.replace(".", r"\.")):
                open_shards(folder).verify()
            (folder / name).write_bytes(whole)


def test_two_files_in_each_other_s_place_are_found(tmp_path: Path) -> None:
    tokenizer = write(tmp_path).tokenizer
    clear(tmp_path)
    writer = Writer(tmp_path, "train", vocabulary=400, file_tokens=100)
    for start in (0, 100):
        writer.add(np.arange(start, start + 99, dtype=np.uint32), n_bytes=99)
    other = Writer(tmp_path, "validation", vocabulary=400)
    other.add(np.arange(99, dtype=np.uint32), n_bytes=99)
    header = Header(
        dtype="uint16", vocabulary=400, tokenizer_sha256=tokenizer.sha256, text_sha256="", validation_fraction=0.3,
        tokenizer_sample_bytes=0, source="", stamp=stamp.make({}),
        splits={"train": writer.close(), "validation": other.close()},
    )  # fmt: skip
    write_header(tmp_path, header)
    assert open_shards(tmp_path).verify(threads=2)
    first, second, aside = (tmp_path / name for name in ("train-00000.bin", "train-00001.bin", "aside"))
    first.rename(aside)
    second.rename(first)
    aside.rename(second)
    with pytest.raises(InputError, match=r"train-00000\.bin: damaged"):
        open_shards(tmp_path).verify(threads=2)


def test_damaged_shards_are_written_anew_by_the_same_command(copied: Path, written: Path) -> None:
    content = bytearray((copied / "train-00000.bin").read_bytes())
    content[1000] ^= 1
    (copied / "train-00000.bin").write_bytes(content)
    write(copied)
    assert contents(copied) == contents(written)


def test_a_cut_off_or_missing_file_is_found_on_opening(copied: Path) -> None:
    os.truncate(copied / "train-00000.bin", 100)
    with pytest.raises(InputError, match=r"train-00000\.bin: 100 bytes where the header says"):
        open_shards(copied)
    (copied / "train-00000.bin").unlink()
    with pytest.raises(InputError, match=r"train-00000\.bin: missing"):
        open_shards(copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "uint32"}, "does not belong to a vocabulary of 400"),
        ({"vocabulary": 70_000}, "does not belong"),
        ({"schema": "isoflop/shards@2"}, "schema"),
        ({"splits": {}}, "no split 'train'"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(copied: Path, change: dict[str, object], message: str) -> None:
    header = foreign(copied)
    (copied / HEADER).write_bytes(msgspec.json.encode(header | change))
    with pytest.raises(InputError, match=message):
        open_shards(copied)


@pytest.mark.parametrize(("key", "value"), [("n_tokens", 3), ("n_documents", 3)])
def test_counts_that_do_not_sum_up_are_refused(copied: Path, key: str, value: int) -> None:
    header = foreign(copied)
    header["splits"]["train"][key] = value
    (copied / HEADER).write_bytes(msgspec.json.encode(header))
    with pytest.raises(InputError, match=f"{key} 3 but its files sum to"):
        open_shards(copied)


def test_a_header_cannot_lead_out_of_its_folder(copied: Path) -> None:
    header = foreign(copied)
    header["splits"]["train"]["files"][0]["name"] = "../train-00000.bin"
    (copied / HEADER).write_bytes(msgspec.json.encode(header))
    with pytest.raises(InputError, match="is no name of a shard file"):
        open_shards(copied)


def test_foreign_tokens_outside_the_vocabulary_are_found(copied: Path) -> None:
    tokens = np.memmap(copied / "train-00000.bin", dtype="<u2", mode="r+")
    tokens[5] = 400
    tokens.flush()
    header = foreign(copied)
    header["splits"]["train"]["files"][0]["sha256"] = sha256_file(copied / "train-00000.bin")
    (copied / HEADER).write_bytes(msgspec.json.encode(header))
    with pytest.raises(InputError, match="token 400 is outside the vocabulary of 400"):
        open_shards(copied).verify()


def test_a_folder_that_is_none_or_unfinished_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such folder.*isoflop data tokenize"):
        open_shards(tmp_path / "none")
    with pytest.raises(InputError, match="never finished"):
        open_shards(tmp_path)


def test_a_failure_in_the_second_reading_leaves_no_header(tmp_path: Path) -> None:
    readings = 0

    def breaks() -> Iterator[Document]:
        nonlocal readings
        readings += 1
        yield from LIBRARY[:30]
        if readings == 2:
            raise InputError("the disk was pulled out")
        yield from LIBRARY[30:]

    with pytest.raises(InputError, match="pulled out"):
        tokenize(breaks, folder=tmp_path, vocabulary=400, validation_fraction=0.2, source="")
    assert not (tmp_path / HEADER).exists()
    write(tmp_path)
    open_shards(tmp_path).verify()


def test_text_that_changes_between_the_readings_is_refused(tmp_path: Path) -> None:
    readings = iter([LIBRARY, LIBRARY[:-1]])
    with pytest.raises(InputError, match="changed between"):
        tokenize(lambda: next(readings), folder=tmp_path, vocabulary=400, validation_fraction=0.2, source="")
    assert not (tmp_path / HEADER).exists()


# Waits for ever in the middle of its text.
HELD = """
import sys
from pathlib import Path
from isoflop.data import tokenization
from isoflop import stamp
from isoflop.data.corpus import StandardLibrary
tokenization.BATCH_CHARS = 100_000
def report(stage, done, total):
    if stage == "encode" and done > 500_000:
        print(done, flush=True)
        sys.stdin.readline()
tokenization.tokenize(StandardLibrary().documents, folder=Path(sys.argv[1]), vocabulary=300, validation_fraction=0.1,
                      source="", sample_bytes=1_000_000, on_progress=report)
"""


def test_kill_9_leaves_an_unfinished_folder_held_by_nobody_that_the_next_run_completes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HELD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        with pytest.raises(ResourceError, match="another process is writing here"):
            write(tmp_path)
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / "train-00000.bin").exists()
    with pytest.raises(InputError, match="never finished"):
        open_shards(tmp_path)
    (tmp_path / "train-00007.bin").write_bytes(b"left over from a longer run")
    (tmp_path / "notes.txt").write_text("mine")
    write(tmp_path)
    open_shards(tmp_path).verify()
    assert not (tmp_path / "train-00007.bin").exists()
    assert (tmp_path / "notes.txt").exists()


FULL = """
import resource, sys
from pathlib import Path
from isoflop import stamp
from isoflop.data.corpus import StandardLibrary
from isoflop.data.tokenization import tokenize
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
documents = list(StandardLibrary().documents())[:100]
tokenize(lambda: documents, folder=Path(sys.argv[1]), vocabulary=300, validation_fraction=0.1, source="")
"""


def test_a_full_disk_is_named_and_leaves_no_header(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True)
    assert "ResourceError" in done.stderr.splitlines()[-1]
    assert "the disk is full" in done.stderr
    assert not (tmp_path / HEADER).exists()


def test_a_folder_that_cannot_be_made_is_a_resource_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="Choose another folder"):
        write(tmp_path / "file" / "shards")


@pytest.mark.parametrize(
    ("documents", "error", "message"),
    [
        ([], InputError, "no text"),
        ([Document("a", ""), Document("b", "")], InputError, "no text"),
        ([Document("a", "some text")], InputError, "all 1 documents fall into"),
        ([Document(str(i), f"text {i}") for i in range(60)], InputError, "different tokens in it; 400 were asked"),
        ([Document("a", "x"), Document("b", "\udc80")], InputError, "document 'b'.*surrogate"),
    ],
)
def test_text_that_cannot_make_shards_is_refused(
    tmp_path: Path, documents: list[Document], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        write(tmp_path, documents)
    assert not (tmp_path / HEADER).exists()


@pytest.mark.parametrize(("vocabulary", "fraction"), [(256, 0.1), (400, 0.0), (400, 1.0), (400, float("nan"))])
def test_settings_out_of_range_are_refused(tmp_path: Path, vocabulary: int, fraction: float) -> None:
    with pytest.raises(UsageError):
        tokenize(lambda: LIBRARY, folder=tmp_path, vocabulary=vocabulary, validation_fraction=fraction, source="")


def test_files_are_cut_at_documents_and_read_as_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    documents = [rng.integers(0, 299, size=rng.integers(1, 40)).astype(np.uint32) for _ in range(50)]
    writer = Writer(tmp_path, "train", vocabulary=300, file_tokens=100)
    for document in documents:
        writer.add(document, n_bytes=1)
    split = writer.close()
    assert len(split.files) > 5
    assert all(file.n_tokens >= 100 for file in split.files[:-1])
    arrays = [np.fromfile(tmp_path / file.name, dtype="<u2") for file in split.files]
    stream = np.concatenate([np.append(document, 299) for document in documents])
    np.testing.assert_array_equal(np.concatenate(arrays), stream)
    starts = rng.integers(0, len(stream) - 250, size=200)
    rows = Tokens(arrays).gather(starts, length=250)  # longer than a file: rows run over two ends
    np.testing.assert_array_equal(rows, [stream[start : start + 250] for start in starts])
    assert split.n_documents == split.n_bytes == 50


def test_large_vocabularies_take_four_bytes(tmp_path: Path) -> None:
    assert dtype_for(65_536) == "uint16"
    assert dtype_for(65_537) == "uint32"
    writer = Writer(tmp_path, "train", vocabulary=65_537)
    writer.add(np.array([65_535], dtype=np.uint32), n_bytes=1)
    writer.close()
    assert np.fromfile(tmp_path / "train-00000.bin", dtype="<u4").tolist() == [65_535, 65_536]
    clear(tmp_path)
    assert list(tmp_path.iterdir()) == []


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_document_held_out_stays_so_when_the_fraction_grows(name: str, one: float, two: float) -> None:
    if side(name, validation_fraction=min(one, two)) == "validation":
        assert side(name, validation_fraction=max(one, two)) == "validation"


def test_a_document_stays_on_its_side_when_others_come_or_go(written: Path, tmp_path: Path) -> None:
    fewer = write(tmp_path, LIBRARY[::2])
    held_out = {d.id for d in LIBRARY if side(d.id, validation_fraction=0.2) == "validation" and d.text}
    assert fewer.header.splits["validation"].n_documents == len(held_out & {d.id for d in LIBRARY[::2]})
    assert open_shards(written).header.splits["validation"].n_documents == len(held_out)


def test_the_share_held_out_is_the_fraction_asked_for() -> None:
    held = sum(side(f"document {i}", validation_fraction=0.08) == "validation" for i in range(20_000))
    assert abs(held - 1600) < 4 * (20_000 * 0.08 * 0.92) ** 0.5


@given(
    sizes=st.lists(st.integers(1, 50), max_size=30), limit=st.integers(50, 300), order=st.randoms(use_true_random=False)
)
def test_the_tokenizers_sample_is_bounded_and_does_not_hang_on_the_order(
    sizes: list[int], limit: int, order: object
) -> None:
    documents = [Document(str(i), chr(97 + i % 26) * size) for i, size in enumerate(sizes)]
    samples = []
    for _ in range(2):
        sample = Sample(limit)
        for document in documents:
            sample.add(document)
        samples.append((sample.texts(), sample.n_bytes))
        order.shuffle(documents)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    assert samples[0] == samples[1]
    assert samples[0][1] == sum(len(text) for text in samples[0][0]) <= limit
    if sum(sizes) <= limit:
        assert len(samples[0][0]) == len(sizes)
    else:
        assert samples[0][1] > limit - max(sizes)


def test_the_standard_library_is_source_without_tests_or_packages() -> None:
    library = source(None)
    ids = [d.id for d in library.documents()]
    assert {"os.py", "json/decoder.py", "asyncio/base_events.py"} <= set(ids)
    assert ids == sorted(ids, key=lambda name: Path(name).parts)
    assert not any(part in {"test", "tests", "site-packages"} for name in ids for part in name.split("/"))
    assert library.skipped == {}


def test_source_in_its_declared_encoding_is_read_and_undecodable_source_is_listed(tmp_path: Path) -> None:
    (tmp_path / "latin.py").write_bytes("# -*- coding: latin-1 -*-\n# naïve\n".encode("latin-1"))
    (tmp_path / "bad.py").write_bytes(b"# na\xefve\n")
    library = StandardLibrary(tmp_path)
    assert [d.text.splitlines()[1] for d in library.documents()] == ["# naïve"]
    assert library.skipped == {"bad.py": "cannot be read as Python source (SyntaxError)"}


def test_a_python_without_source_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no Python source here.*--text"):
        StandardLibrary(tmp_path)


def test_the_published_play_makes_shards(shared_data: Path, tmp_path: Path) -> None:
    play = Text(shared_data / "text" / "tinyshakespeare.txt")
    shards = tokenize(
        play.documents, folder=tmp_path, vocabulary=512, validation_fraction=0.08, source=play.description
    )
    splits = shards.header.splits
    assert splits["train"].n_bytes + splits["validation"].n_bytes == 1_115_394
    assert splits["validation"].n_documents >= 1


def test_other_text_is_written_in_the_tokens_of_shards_that_are_there(written: Path, tmp_path: Path) -> None:
    known = open_shards(written)
    documents = [Document(f"{i}.txt", f"Call me {i}. " * 40) for i in range(30)]

    def again(folder: Path, vocabulary: int = 400) -> Shards:
        return tokenize(
            lambda: documents,
            folder=folder,
            vocabulary=vocabulary,
            validation_fraction=0.2,
            source="a novel",
            tokenizer=known.tokenizer,
        )

    shards = again(tmp_path / "novel")
    shards.verify()
    assert shards.header.tokenizer_sha256 == known.header.tokenizer_sha256
    assert shards.header.tokenizer_sample_bytes == 0
    assert shards.content_sha256 != known.content_sha256
    assert again(tmp_path / "novel").header == shards.header  # left alone
    with pytest.raises(UsageError, match="vocabulary 300: the tokenizer given has 400 tokens"):
        again(tmp_path / "other", 300)
    with pytest.raises(UsageError, match="different tokenizer_sample_bytes"):
        write(tmp_path / "novel", documents, vocabulary=400)
