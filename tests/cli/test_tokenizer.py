"""`isoflop tokenizer`, as a user runs it; and docs/tokenizer.md does what it says."""

import io
import json
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tests.cli.conftest import Here
from tests.pages import commands, holds

from isoflop.data import patterns
from isoflop.data.shards import open_shards
from isoflop.data.tokenizer import Tokenizer

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "tokenizer.md").read_text()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's text: two domains of words that follow each other by rule."""
    place = tmp_path_factory.mktemp("tokenizer")
    words = ["scaling", "law", "token", "loss", "model", "of", "the", "data", "run", "shard", "2024", "fit", "plan"]
    for name, turn in (("notes", 3), ("papers", 5)):
        (place / "corpus" / name).mkdir(parents=True)
        for i in range(1, 30):
            text = " ".join(words[(i * j * turn) % len(words)] for j in range(1, 150))
            (place / "corpus" / name / f"{i}.txt").write_text(f"{text}.\n")
    return place


@pytest.fixture
def typed(home: Path, here: Here, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run `isoflop` in `home`, with these bytes on stdin."""

    def run(*args: str, stdin: bytes = b"") -> Any:
        monkeypatch.chdir(home)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        return here(*args)

    return run


@pytest.fixture
def trained(typed: Any) -> Any:
    """One tokenizer for all tests: the second time it is left as it is."""
    done = typed("tokenizer", "train", "--text", "corpus", "--out", "tok", "--vocabulary", "300", "--json", "--special",
                 "<|user|>")  # fmt: skip
    assert done.code == 0, done.err
    return done.json


def test_every_command_prints_what_the_page_shows(typed: Any) -> None:
    told = commands(PAGE, prompt="$ ")
    assert len(told) >= 7
    for words, pieces in told:
        stdin = b""
        if words[0] == "echo":
            stdin, words = f"{' '.join(words[1 : words.index('|')])}\n".encode(), words[words.index("|") + 1 :]
        done = typed(*words[1:], stdin=stdin)
        assert done.code == 0, (words, done.err)
        holds(done.out, pieces, command=words)


def test_the_page_names_every_pattern_and_every_key_of_the_answer(trained: dict[str, Any]) -> None:
    for name in [*patterns.PATTERNS, *patterns.ALIASES]:
        assert f"`{name}`" in PAGE
    for key in trained.keys() - {"schema"}:
        assert f"`{key}`" in PAGE, key


def test_what_was_trained_loads_in_hugging_faces_library_with_the_same_ids(home: Path, trained: dict[str, Any]) -> None:
    theirs = tokenizers.Tokenizer.from_file(str(home / "tok" / "tokenizer.json"))
    text = (home / "corpus" / "notes" / "7.txt").read_text()
    assert theirs.encode(text).ids == Tokenizer.load(home / "tok").encode(text).tolist()
    assert theirs.get_vocab_size() == trained["vocabulary"] == 300


@pytest.mark.parametrize(
    "stdin", ["the scaling law of 2024: é 日本\n".encode(), b"", b"\x00\xff a\xc3", b"\r\n \xf0\x9f"]
)
def test_bytes_on_stdin_become_ids_and_the_same_bytes_again(typed: Any, trained: Any, stdin: bytes) -> None:
    ids = typed("tokenizer", "encode", "tok", stdin=stdin).out
    assert [int(word) for word in ids.split()] == Tokenizer.load(Path("tok")).encode_bytes(stdin).tolist()
    back = typed("tokenizer", "decode", "tok", "--json", stdin=ids.encode()).json
    assert bytes.fromhex(back["hex"]) == stdin
    told = typed("tokenizer", "encode", "tok", "--json", stdin=stdin).json
    assert (told["n_bytes"], told["utf8"]) == (len(stdin), back["utf8"])
    assert len(told["ids"]) == len(told["pieces"]) == back["n_tokens"]


def test_a_corpus_becomes_the_shards_that_data_tokenize_writes(typed: Any, trained: Any, home: Path) -> None:
    one = typed("tokenizer", "encode", "tok", "--text", "corpus", "--out", "shards", "--json")
    two = typed("data", "tokenize", "--tokenizer", "tok", "--text", "corpus", "--out", "same", "--json")
    assert one.json["content_sha256"] == two.json["content_sha256"]
    assert open_shards(home / "shards").header.tokenizer_sha256 == trained["tokenizer_sha256"]


def test_a_report_and_an_advice_are_pages_that_ask_the_network_for_nothing(
    typed: Any, trained: Any, tmp_path: Path
) -> None:
    class Addresses(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.found: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found += [str(value) for name, value in attrs if name in {"src", "href"}]

    asked = (
        ("report", "tok", "--text", "corpus", "--against", "tok"),
        ("advise", "--params", "100M", "--text", "corpus", "--vocabularies", "270,300"),
    )
    for args in asked:
        page = tmp_path / f"{args[0]}.html"
        done = typed("tokenizer", *args, "--html", str(page), "--json")
        assert done.code == 0, done.err
        assert done.json["schema"] == f"isoflop/tokenizer.{args[0]}@1"
        parser = Addresses()
        parser.feed(page.read_text())
        assert parser.found
        assert all(address.startswith("data:") for address in parser.found)


def test_a_report_counts_the_domains_and_leaves_out_what_is_not_here(
    typed: Any, trained: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(home))
    told = typed("tokenizer", "report", "tok", "--text", "corpus", "--json").json
    assert [domain["name"] for domain in told["domains"]] == ["notes", "papers"]
    (own,) = told["tokenizers"]
    sizes = [sum(file.stat().st_size for file in (home / "corpus" / name).iterdir()) for name in ("notes", "papers")]
    assert [row["n_bytes"] for row in own["domains"]] == sizes
    assert own["all"]["bytes_per_token"] == pytest.approx(sum(sizes) / own["all"]["n_tokens"])
    assert [note.split(":")[0] for note in told["notes"]] == [
        f"left out, {name}" for name in ("cl100k_base", "o200k_base", "r50k_base")
    ]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("train", "--out", "x", "--text", "empty"), 4, "no readable text"),
        (("train", "--out", "x", "--text", "corpus", "--vocabulary", "256"), 2, "at least 257"),
        (("train", "--out", "x", "--text", "corpus", "--special", "a b"), 2, "white space"),
        (("train", "--out", "x", "--text", "corpus", "--special", "<|endoftext|>"), 2, "there already"),
        (("train", "--out", "x", "--text", "corpus", "--pattern", "gpt5"), 2, "split pattern"),
        (("train", "--out", "x", "--text", "corpus", "--sample", "much"), 2, "--sample"),
        (("train", "--out", "tok", "--text", "corpus", "--vocabulary", "301"), 2, "--force"),
        (("encode", "corpus/notes/1.txt"), 4, "not a tokenizer.json"),
        (("encode", "nowhere"), 4, "no such file"),
        (("encode", "tok", "--text", "corpus"), 2, "go together"),
        (("decode", "tok", "300"), 4, "outside the vocabulary of 300"),
        (("decode", "tok", "-1x"), 2, ""),
        (("decode", "tok", "1.5"), 4, "is no id"),
        (("report", "tok", "--text", "corpus", "--against", "gone"), 4, "cl100k_base"),
        (("advise", "--params", "0"), 2, "positive"),
        (("advise", "--params", "100M", "--vocabularies", "4k"), 2, "--text"),
        (("advise", "--params", "100M", "--text", "corpus", "--vocabularies", "100"), 2, "from 257 up"),
        (("advise", "--params", "100M", "--law", "none"), 2, "tao-2024"),
    ],
)
def test_what_cannot_be_done_ends_with_one_sentence_and_its_code(
    typed: Any, trained: Any, home: Path, args: tuple[str, ...], code: int, message: str
) -> None:
    (home / "empty").mkdir(exist_ok=True)
    done = typed("tokenizer", *args)
    assert done.code == code, done.err
    assert message in done.err
    assert "bug in isoflop" not in done.err


def test_answers_are_one_json_object_each(typed: Any, trained: Any) -> None:
    for args in (("decode", "tok", "104"), ("engines", "--text", "corpus", "--vocabulary", "290")):
        told = json.loads(typed("tokenizer", *args, "--json").out)
        assert told["schema"] == f"isoflop/tokenizer.{args[0]}@1"
