"""`isoflop data contamination`, as a user runs it, with items planted in the text."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Isoflop = Callable[..., "subprocess.CompletedProcess[str]"]
RNG = np.random.default_rng(8)


def _text(n: int) -> str:
    return " ".join("".join(map(chr, RNG.integers(97, 123, 6))) for _ in range(n))


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A corpus of two texts, and a set of which one item stands in a text, one in none, and one is short."""
    question = _text(30)
    (tmp_path / "corpus").mkdir()
    for i in range(40):
        (tmp_path / "corpus" / f"{i}.txt").write_text(f"{_text(50)} {question.upper()} {_text(50)}")
    rows = [
        {"id": "seen", "question": _text(10), "choices": [question.replace(" ", ", ")]},
        {"id": "new", "question": _text(40), "choices": [_text(3)]},
        {"id": "short", "question": "What is 2 + 2?"},
    ]
    (tmp_path / "set.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def _tokenized(isoflop: Isoflop, folder: Path, *more: str) -> str:
    shards = str(folder / "shards")
    done = isoflop("data", "tokenize", "--text", str(folder / "corpus"), "--out", shards, "--vocabulary", "270", *more)
    assert done.returncode == 0, done.stderr
    return shards


def test_every_item_has_its_verdict_and_the_passage_found(isoflop: Isoflop, planted: Path) -> None:
    shards = _tokenized(isoflop, planted, "--index-words", "13")
    done = isoflop("data", "contamination", shards, "--items", str(planted / "set.jsonl"), "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["schema"], answer["words"], answer["indexed"]) == ("isoflop/data.contamination@1", 13, [])
    (one,) = answer["sets"]
    assert [one[f"n_{name}"] for name in ("items", "contaminated", "clean", "too_short")] == [3, 1, 1, 1]
    seen, new, short = one["items"]
    assert (seen["verdict"], new["verdict"], short["verdict"]) == ("contaminated", "clean", "too short")
    # 30 of its 40 words, of which its name is none: 18 runs of 13.
    assert (seen["n_words"], seen["n_runs"], seen["n_found"], seen["longest"]) == (40, 28, 18, 30)
    assert seen["covered"] == 0.75
    assert seen["passage"].count(", ") == 29


def test_an_index_that_is_not_there_is_made_and_kept(isoflop: Isoflop, planted: Path) -> None:
    shards = _tokenized(isoflop, planted)
    ask = ("data", "contamination", shards, "--items", str(planted / "set.jsonl"), "--json")
    first, again = isoflop(*ask), isoflop(*ask)
    assert json.loads(first.stdout)["indexed"] == [shards]
    assert json.loads(again.stdout)["indexed"] == []
    assert json.loads(first.stdout)["sets"] == json.loads(again.stdout)["sets"]
    shorter = json.loads(isoflop(*ask, "--words", "4").stdout)
    assert (shorter["words"], shorter["indexed"]) == (4, [shards])
    assert "index of runs of 4 words" in " ".join(isoflop("data", "verify", shards).stdout.split())


def test_people_see_the_passage_and_what_could_not_be_judged(isoflop: Isoflop, planted: Path) -> None:
    shards = _tokenized(isoflop, planted)
    done = isoflop("data", "contamination", shards, shards, "--items", str(planted / "set.jsonl"), "--most", "0.7")
    told = " ".join(done.stdout.split())
    assert "seen: 75% of 40 words, such as" in told
    assert "1 of 3 items have fewer than 13 words and were not looked for" in told
    most = isoflop("data", "contamination", shards, "--items", str(planted / "set.jsonl"), "--most", "0.8", "--json")
    assert json.loads(most.stdout)["sets"][0]["n_contaminated"] == 0


def test_a_damaged_index_is_found_by_verify(isoflop: Isoflop, planted: Path) -> None:
    shards = _tokenized(isoflop, planted, "--index-words", "13")
    file = Path(shards) / "contamination" / "runs-00000.bin"
    content = bytearray(file.read_bytes())
    content[5] ^= 1
    file.write_bytes(content)
    done = isoflop("data", "verify", shards)
    assert done.returncode == 4
    assert "runs-00000.bin: not the bytes that were written" in done.stderr
    file.write_bytes(content[:-8])
    cut = isoflop("data", "verify", shards)
    assert (cut.returncode, "bytes where" in cut.stderr) == (4, True)
    again = isoflop("data", "contamination", shards, "--items", str(planted / "set.jsonl"), "--json")
    assert json.loads(again.stdout)["indexed"] == [shards]
    assert isoflop("data", "verify", shards).returncode == 0


def test_a_run_that_cannot_be_is_refused_before_anything_is_written_over(isoflop: Isoflop, planted: Path) -> None:
    shards = Path(_tokenized(isoflop, planted))
    before = {file: file.read_bytes() for file in shards.iterdir()}
    (planted / "corpus" / "more.txt").write_text(_text(100))
    done = isoflop("data", "tokenize", "--text", str(planted / "corpus"), "--out", str(shards), "--vocabulary", "270",
                   "--index-words", "1", "--force")  # fmt: skip
    assert (done.returncode, "runs of 1 words" in done.stderr) == (2, True)
    assert {file: file.read_bytes() for file in shards.iterdir()} == before
    alone = isoflop("tokenizer", "encode", str(shards), "--index-words", "13")
    assert (alone.returncode, "--index-words goes with" in alone.stderr) == (2, True)


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--words", "1"], 2, "runs of 1 words"),
        (["--most", "1"], 2, "threshold 1"),
        (["--items", "absent.jsonl"], 4, "absent.jsonl"),
    ],
)
def test_bad_input_says_what_and_ends_with_its_code(
    isoflop: Isoflop, planted: Path, more: list[str], code: int, said: str
) -> None:
    shards = _tokenized(isoflop, planted)
    done = isoflop("data", "contamination", shards, "--items", str(planted / "set.jsonl"), *more)
    assert done.returncode == code
    assert said in done.stderr
    (planted / "torn.jsonl").write_text('{"id": "a", "question": "b"}\n{"id": ')
    torn = isoflop("data", "contamination", shards, "--items", str(planted / "torn.jsonl"))
    assert (torn.returncode, "line 2" in torn.stderr) == (4, True)
