"""Training a tokenizer: the same bytes again, the record beside it, and the one that `data tokenize` learns."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from isoflop.data.corpus import StandardLibrary
from isoflop.data.read import Document
from isoflop.data.tokenization import tokenize
from isoflop.data.tokenizer import Tokenizer
from isoflop.data.tokenizer_training import Training, tokenizer_at, train
from isoflop.errors import InputError, UnknownNameError, UsageError
from isoflop.files import read_json

DOCUMENTS = [d for d in StandardLibrary().documents() if "/" not in d.id and len(d.text) < 20_000][:40]


def documents() -> Iterator[Document]:
    return iter(DOCUMENTS)


def trained(folder: Path, **settings: Any) -> Training:
    return train(documents, folder=folder, **{"vocabulary": 500, "source": "a test", **settings}).training


def test_it_is_the_tokenizer_that_data_tokenize_learns(tmp_path: Path) -> None:
    training = trained(tmp_path / "tokenizer")
    shards = tokenize(documents, folder=tmp_path / "shards", vocabulary=500, validation_fraction=0.08, source="a test")
    assert shards.header.tokenizer_sha256 == training.tokenizer_sha256
    assert shards.header.text_sha256 == training.text_sha256
    assert (tmp_path / "tokenizer/tokenizer.json").read_bytes() == (tmp_path / "shards/tokenizer.json").read_bytes()


def test_the_record_tells_what_it_was_trained_from(tmp_path: Path) -> None:
    training = trained(tmp_path, pattern="gpt2", special=["<|user|>"], engine="tokenizers", validation_fraction=0)
    assert read_json(tmp_path / "training.json", Training) == training
    assert training.n_documents == len(DOCUMENTS)
    assert training.n_bytes == training.sample_bytes == sum(len(d.text.encode()) for d in DOCUMENTS)
    assert (training.pattern, training.engine, training.special) == ("gpt2", "tokenizers", ["<|user|>"])
    assert training.engine_version == tokenizers.__version__
    assert tokenizer_at(tmp_path).sha256 == training.tokenizer_sha256


def test_a_bounded_sample_does_not_hang_on_the_order_of_documents(tmp_path: Path) -> None:
    forward = trained(tmp_path / "a", sample_bytes=60_000)
    backward = train(
        lambda: reversed(DOCUMENTS), folder=tmp_path / "b", vocabulary=500, source="", sample_bytes=60_000
    ).training
    assert forward.sample_bytes == backward.sample_bytes <= 60_000
    assert forward.tokenizer_sha256 == backward.tokenizer_sha256
    assert forward.tokenizer_sha256 != trained(tmp_path / "c").tokenizer_sha256


PROGRAM = """
import sys
from pathlib import Path
from isoflop.data.tokenizer_training import train
from isoflop.data.read import Text
train(Text(Path(sys.argv[1])).documents, folder=Path(sys.argv[2]), vocabulary=600, source="", engine=sys.argv[3])
"""


def test_either_engine_writes_the_same_bytes_on_any_number_of_threads(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    for document in DOCUMENTS[:12]:
        (tmp_path / "text" / f"{document.id}.txt").write_text(document.text)
    for engine in ("rustbpe", "tokenizers"):
        files = set()
        for threads in ("1", "3"):
            run = [sys.executable, "-c", PROGRAM, str(tmp_path / "text"), str(tmp_path / engine / threads), engine]
            subprocess.run(run, check=True, env={**os.environ, "RAYON_NUM_THREADS": threads})
            files.add((tmp_path / engine / threads / "tokenizer.json").read_bytes())
        assert len(files) == 1


def test_the_same_again_is_left_as_it_is_and_another_needs_force(tmp_path: Path) -> None:
    first = trained(tmp_path)
    before = (tmp_path / "training.json").stat().st_mtime_ns
    assert trained(tmp_path) == first
    assert (tmp_path / "training.json").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="different vocabulary"):
        trained(tmp_path, vocabulary=501)
    assert trained(tmp_path, vocabulary=501, force=True).vocabulary == 501


def test_a_damaged_copy_is_written_anew(tmp_path: Path) -> None:
    first = trained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    assert trained(tmp_path).file_sha256 == first.file_sha256
    assert Tokenizer.load(tmp_path).sha256 == first.tokenizer_sha256


def test_shards_keep_the_tokenizer_they_were_written_with(tmp_path: Path) -> None:
    tokenize(documents, folder=tmp_path, vocabulary=300, validation_fraction=0.08, source="a test")
    with pytest.raises(UsageError, match="holds shards"):
        trained(tmp_path, force=True)


def test_a_tokenizer_that_is_not_the_one_of_its_record_or_header_is_refused(tmp_path: Path) -> None:
    trained(tmp_path / "tokenizer")
    tokenize(documents, folder=tmp_path / "shards", vocabulary=300, validation_fraction=0.08, source="a test")
    other = Tokenizer.train([DOCUMENTS[0].text], vocabulary=300)
    for folder in ("tokenizer", "shards"):
        other.save(tmp_path / folder / "tokenizer.json")
        with pytest.raises(InputError, match="not the tokenizer"):
            tokenizer_at(tmp_path / folder)
    (tmp_path / "tokenizer" / "training.json").unlink()
    assert tokenizer_at(tmp_path / "tokenizer").sha256 == other.sha256
    with pytest.raises(UsageError, match=r"without a training\.json"):
        trained(tmp_path / "tokenizer")


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"vocabulary": 256}, UsageError, "at least 257"),
        ({"vocabulary": 258, "special": ["<a>", "<b>"]}, UsageError, "at least 259"),
        ({"special": ["a"]}, UsageError, "ordinary token"),
        ({"pattern": "gpt5"}, UnknownNameError, "split pattern"),
        ({"engine": "sentencepiece"}, UnknownNameError, "engine"),
        ({"validation_fraction": 1}, UsageError, "validation 1"),
        ({"sample_bytes": 0}, UsageError, "nothing to learn from"),
        ({"vocabulary": 10**6}, InputError, "different tokens"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    tmp_path: Path, settings: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        trained(tmp_path, **settings)
    assert not list(tmp_path.iterdir())


def test_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no text"):
        train(lambda: iter([Document("a", "")]), folder=tmp_path, vocabulary=300, source="nothing")
