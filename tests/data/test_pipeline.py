"""The same bytes for any number of workers, after any kill, and nothing dropped without its reason."""

import gzip
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.data.archives import bomb, packed, page, record, served
from tests.data.left import hashes

from isoflop.data import pipeline, quality, table
from isoflop.data.read import Document, documents
from isoflop.errors import InputError, ResourceError, UnknownNameError, UsageError
from isoflop.specs.data_recipe import load

RECIPE = """
[[source]]
path = "crawl"
name = "web"
[[source]]
path = "rows"
[limits]
shard_bytes = 20000
document_bytes = 50000
[[stage]]
name = "visible"
[[stage]]
name = "length"
least = 40
[[stage]]
name = "exact"
"""
WHOLE_CORPUS = """
[[stage]]
name = "repeats"
unit = "passage"
words = 8
[[stage]]
name = "classifier"
model = "model"
label = "rows"
share = 0.9
"""
NEAR = '[[stage]]\nname = "near"\nrun_words = 3\n'


def sentence(i: int) -> str:
    return f"Document {i} speaks of things that only number {i * i} knows, at some length." * (1 + i % 5)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Sixty pages and 300 rows; every tenth row is short, every seventh a copy."""
    crawl, rows = tmp_path / "crawl", tmp_path / "rows"
    crawl.mkdir()
    rows.mkdir()
    for file in range(3):
        numbers = range(20 * file, 20 * file + 20)
        records = [record(served(page(sentence(i))), number=i) for i in numbers]
        (crawl / f"{file}.warc.gz").write_bytes(packed(*records))
    for file in range(6):
        lines = []
        for i in range(50 * file, 50 * file + 50):
            text = "short" if i % 10 == 0 else sentence(7) if i % 7 == 0 else sentence(1000 + i)
            lines.append(json.dumps({"text": text, "id": f"row{i}"}))
        (rows / f"{file}.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def whole_corpus(corpus: Path) -> Path:
    """The same with every kind of stage that judges the whole corpus."""
    examples = {
        "pages": [Document(f"p{i}", f"things {i} that pages say") for i in range(20)],
        "rows": [Document(f"r{i}", f"rows {i * i} are not like that") for i in range(20)],
    }
    quality.train(examples).save(corpus / "model")
    recipe = RECIPE + WHOLE_CORPUS + (NEAR if importlib.util.find_spec("rensa") else "")
    (corpus / "recipe.toml").write_text(recipe)
    return corpus


def run(corpus: Path, name: str, *, workers: int = 1, engine: str = "local") -> pipeline.Run:
    return pipeline.run(load(corpus / "recipe.toml"), corpus / name, workers=workers, engine=engine)


def test_every_document_is_kept_once_or_dropped_once_with_its_reason(corpus: Path) -> None:
    made = run(corpus, "out")
    # Rows 0, 10, ... 290 are short; of the other multiples of 7 one meets page 7, so all are copies.
    copies = sum(1 for i in range(300) if i % 7 == 0 and i % 10 != 0)
    assert made.stages[0].tally.came.documents == 360
    assert {reason: count.documents for reason, count in made.stages[2].tally.dropped.items()} == {"too short": 30}
    assert {r: count.documents for r, count in made.stages[3].tally.dropped.items()} == {"exact duplicate": copies}
    assert made.stages[3].tally.kept.documents == 360 - 30 - copies
    for stage in made.stages:
        folder = corpus / "out" / stage.folder
        dropped = [row for path in sorted((folder / "dropped").iterdir()) for row in table.rows(path)]
        assert len(dropped) == sum(count.documents for count in stage.tally.dropped.values())
        assert all(row["reason"] for row in dropped)
        assert stage.tally.came.documents == stage.tally.kept.documents + len(dropped)


def test_what_is_left_is_read_by_tokenize_in_the_order_of_the_sources(corpus: Path) -> None:
    run(corpus, "out")
    texts = [document.text for document in documents(corpus / "out" / "text")]
    expected = [sentence(i) for i in range(60)]
    expected += [sentence(1000 + i) for i in range(300) if i % 10 and i % 7]
    assert [text.strip().removeprefix("t\n") for text in texts] == [text.strip() for text in expected]


def test_any_number_of_workers_writes_the_same_bytes(whole_corpus: Path) -> None:
    made = run(whole_corpus, "one")
    run(whole_corpus, "three", workers=3)
    assert hashes(whole_corpus / "one") == hashes(whole_corpus / "three")
    assert made.stages[4].tally.kept.bytes < made.stages[4].tally.came.bytes  # every text says "speaks of things"
    ranked = made.stages[5].tally
    assert 0.9 * ranked.came.documents <= ranked.kept.documents < ranked.came.documents


def test_killed_in_the_middle_and_run_again_it_writes_the_same_bytes(whole_corpus: Path) -> None:
    corpus = whole_corpus
    run(corpus, "whole")
    program = "import sys; from pathlib import Path; from isoflop.data import pipeline; " \
              "from isoflop.specs.data_recipe import load; " \
              "pipeline.run(load(Path(sys.argv[1])), Path(sys.argv[2]), workers=2)"  # fmt: skip
    n_done = len(list((corpus / "whole").glob("*/*/*.json")))
    for wanted in (2, 2 * n_done // 3):
        command = [
            sys.executable,
            "-c",
            f"if __name__ == '__main__': {program}",
            corpus / "recipe.toml",
            corpus / "torn",
        ]
        running = subprocess.Popen([str(each) for each in command], start_new_session=True)
        while running.poll() is None and len(list((corpus / "torn").glob("*/*/*.json"))) < wanted:
            time.sleep(0.002)
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        assert not (corpus / "torn" / "stamp.json").exists() or running.returncode == 0
    run(corpus, "torn", workers=2)
    assert hashes(corpus / "torn") == hashes(corpus / "whole")


def test_a_finished_run_does_no_shard_again(corpus: Path) -> None:
    run(corpus, "out")
    before = {path: path.stat().st_mtime_ns for path in (corpus / "out").glob("*-*/*/*")}
    run(corpus, "out")
    assert before == {path: path.stat().st_mtime_ns for path in (corpus / "out").glob("*-*/*/*")}


def test_a_flipped_byte_in_a_shard_is_found_and_made_again(corpus: Path) -> None:
    run(corpus, "out")
    whole = hashes(corpus / "out")
    shard = next((corpus / "out" / "01-visible" / "kept").iterdir())
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    run(corpus, "out")
    assert hashes(corpus / "out") == whole


def test_another_option_does_again_only_what_follows_it(corpus: Path) -> None:
    run(corpus, "out")
    before = {path: path.stat().st_mtime_ns for path in (corpus / "out").glob("0[01]-*/*/*")}
    (corpus / "recipe.toml").write_text(RECIPE.replace("least = 40", "least = 1"))
    made = run(corpus, "out")
    assert not made.stages[2].tally.dropped
    assert before == {path: path.stat().st_mtime_ns for path in (corpus / "out").glob("0[01]-*/*/*")}
    run(corpus, "fresh")
    assert hashes(corpus / "out") == hashes(corpus / "fresh")


def test_a_source_that_changed_is_read_again_and_its_shards_taken_away(corpus: Path) -> None:
    run(corpus, "out")
    (corpus / "rows" / "5.jsonl.gz").unlink()
    (corpus / "crawl" / "1.warc.gz").write_bytes(packed(record(served(page("Another page " * 9)))))
    run(corpus, "out")
    run(corpus, "fresh")
    assert hashes(corpus / "out") == hashes(corpus / "fresh")


def test_bad_input_is_counted_and_the_run_goes_on(corpus: Path) -> None:
    (corpus / "crawl" / "cut.warc.gz").write_bytes((corpus / "crawl" / "0.warc.gz").read_bytes()[:-40])
    (corpus / "crawl" / "bomb.html.gz").write_bytes(bomb(200 << 20))
    (corpus / "crawl" / "deep.html").write_bytes(
        b"<div>" * 9_000 + b"deep down there is a text of forty signs and more"
    )
    (corpus / "crawl" / "false.warc").write_bytes(record(served(page("x")), length=10**10) + record(served(page("y"))))
    (corpus / "rows" / "bad.jsonl").write_bytes(b'{"body": 1}\n{"text": "' + b"x" * 200_000 + b'"}\n{"text": "\xff"}\n')
    made = run(corpus, "out", workers=2)
    assert {reason: count.documents for reason, count in made.stages[0].tally.dropped.items()} == {
        "WARC record: cut-off gzip": 1, "WARC record: false Content-Length": 1,
        "document too long": 2, "missing column": 1, "not UTF-8": 1,
    }  # fmt: skip
    assert len(made.warnings) == 5
    assert any("deep down" in document.text for document in documents(corpus / "out" / "text"))


def test_a_bomb_of_ten_gigabytes_takes_less_than_half_of_one(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    # Members one after the other unpack as one: 10 MB stand for 10 GB.
    (tmp_path / "in" / "bomb.html.gz").write_bytes(bomb(64 << 20) * 160)
    (tmp_path / "in" / "line.jsonl.gz").write_bytes(gzip.compress(b'{"text": "') + bomb(64 << 20) * 16)
    (tmp_path / "in" / "page.html").write_bytes(page("A page that is fine."))
    (tmp_path / "r.toml").write_text('[[source]]\npath = "in"\n[[stage]]\nname = "visible"\n')
    program = (
        "import sys; from pathlib import Path; from isoflop.data import pipeline; "
        "from isoflop.specs.data_recipe import load; "
        "made = pipeline.run(load(Path(sys.argv[1])), Path(sys.argv[2])); "
        "peak = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')); "
        "print(peak, made.stages[0].tally.dropped['document too long'])"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "r.toml", tmp_path / "out"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    kilobytes, _, counted = done.stdout.partition(" ")  # not getrusage's: that holds what forked the process
    assert int(kilobytes) < 500_000
    assert counted.startswith("Count(documents=2")


def test_nothing_left_is_bad_input_that_names_the_reasons(corpus: Path) -> None:
    (corpus / "recipe.toml").write_text(RECIPE.replace("least = 40", "least = 100000"))
    with pytest.raises(InputError, match="360 x too short"):
        run(corpus, "out")
    assert pipeline.load(corpus / "out").stages[-1].tally.kept.documents == 0


def test_pages_without_an_extracting_stage_are_a_warning(corpus: Path) -> None:
    (corpus / "recipe.toml").write_text('[[source]]\npath = "crawl"\n')
    assert "60 web pages have no text yet" in run(corpus, "out").warnings[-1]


def test_samples_are_the_same_ones_each_time_and_few(corpus: Path) -> None:
    shown = run(corpus, "out").stages[2].tally.samples
    assert {reason: len(samples) for reason, samples in shown.items()} == {"": 4, "too short": 4}
    assert shown == run(corpus, "other", workers=2).stages[2].tally.samples


def test_wrong_stages_options_engines_and_folders_are_told(corpus: Path) -> None:
    wrong = [("name = 'lenght'", UnknownNameError, "did you mean 'length'"),
             ("name = 'length'\nleats = 3", UnknownNameError, "did you mean 'least'"),
             ("name = 'length'\nleast = 'x'", UsageError, "stage length")]  # fmt: skip
    for text, kind, said in wrong:
        (corpus / "recipe.toml").write_text(f"[[source]]\npath = 'rows'\n[[stage]]\n{text}\n")
        with pytest.raises(kind, match=said):
            run(corpus, "out")
    (corpus / "recipe.toml").write_text(RECIPE)
    with pytest.raises(UnknownNameError, match="local"):
        run(corpus, "out", engine="locla")
    with pytest.raises(UsageError, match="holds files"):
        run(corpus, "rows")
    with pytest.raises(InputError, match="no finished run"):
        pipeline.load(corpus / "rows")


def test_two_runs_do_not_write_into_one_folder(corpus: Path) -> None:
    import fcntl

    (corpus / "out").mkdir()
    with (corpus / "out" / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ResourceError, match="another run"):
            run(corpus, "out")
