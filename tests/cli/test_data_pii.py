"""`isoflop data pii`, as a user runs it."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

TEXT = "Ask a@b.org\nor\xa0call +49 30 1234567, card 4111 1111 1111 1111\n"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from isoflop.cli import main; main()", "data", "pii", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_answer_names_kind_line_and_characters(tmp_path: Path) -> None:
    (tmp_path / "page.txt").write_text(TEXT)
    answer = json.loads(run(tmp_path / "page.txt", "--json").stdout)
    assert answer["schema"] == "isoflop/data.pii@1"
    lines = TEXT.split("\n")
    assert [(row["kind"], lines[row["line"] - 1][row["start"] : row["end"]]) for row in answer["found"]] == [
        ("email", "a@b.org"),
        ("phone", "+49 30 1234567"),
        ("card", "4111 1111 1111 1111"),
    ]
    assert [row["text"] for row in answer["found"]] == ["a@b.org", "+49 30 1234567", "4111 1111 1111 1111"]
    assert answer["counts"] == {"card": 1, "email": 1, "iban": 0, "ip": 0, "phone": 1, "ssn": 0}
    only = json.loads(run(tmp_path / "page.txt", "--only", "card", "--json").stdout)
    assert [row["kind"] for row in only["found"]] == ["card"]


def test_people_get_a_table(tmp_path: Path) -> None:
    (tmp_path / "page.txt").write_text(TEXT)
    done = run(tmp_path / "page.txt")
    assert "1 card, 1 email, 1 phone" in " ".join(done.stdout.split())
    assert "a@b.org" in done.stdout


def test_documents_of_json_lines_are_named(tmp_path: Path) -> None:
    rows = [{"id": "first", "text": "nothing"}, {"id": "second", "text": "x\na@b.org"}]
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    found = json.loads(run(tmp_path / "a.jsonl.gz", "--json").stdout)["found"]
    assert found == [{"kind": "email", "line": 2, "start": 0, "end": 7, "text": "a@b.org", "document": "second"}]


def test_bytes_that_are_no_text_are_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    (tmp_path / "torn.txt").write_bytes("a\ufffd a@b.org ".encode() + b"\xff\xfe c@d.org \xe2\x82")
    answer = json.loads(run(tmp_path / "torn.txt", "--json").stdout)
    assert [row["text"] for row in answer["found"]] == ["a@b.org", "c@d.org"]
    assert answer["invalid_utf8"] == 3


def test_a_wrong_file_or_kind_is_one_sentence(tmp_path: Path) -> None:
    missing = run(tmp_path / "none.txt")
    assert (missing.returncode, missing.stderr.count("\n")) == (4, 1)
    assert "no such file" in missing.stderr
    (tmp_path / "page.txt").write_text(TEXT)
    wrong = run(tmp_path / "page.txt", "--only", "emial")
    assert wrong.returncode == 2
    assert "did you mean 'email'" in wrong.stderr
