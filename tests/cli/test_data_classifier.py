"""`isoflop data classifier`, as a user runs it."""

import json
import re
from pathlib import Path

import pytest
from tests.cli.conftest import Here


@pytest.fixture
def examples(tmp_path: Path) -> list[str]:
    """Two labels that share most of their words; one of them in two files."""
    given = []
    for file, label in (("a", "sea"), ("b", "sea"), ("c", "hill")):
        rows = [{"id": f"{file}{i}", "text": f"The {label} is <b>wide</b> today, walk {i} told."} for i in range(30)]
        (tmp_path / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        given.append(f"{label}={tmp_path / file}.jsonl")
    return given


def test_what_was_trained_is_told_with_its_calibration_and_read_again(
    here: Here, examples: list[str], tmp_path: Path
) -> None:
    out = str(tmp_path / "model")
    done = here("data", "classifier", "train", *examples, "--out", out, "--json")
    assert done.code == 0, done.err
    assert done.json["schema"] == "isoflop/data.classifier.train@1"
    assert done.json["n_train"] + done.json["n_calibrate"] + done.json["n_judged"] == 90
    assert done.json["accuracy"] == 1
    sea = done.json["labels"]["sea"]
    assert (sea["auc"], sea["wrongly_dropped"]) == (1, [])
    assert 0 <= sea["calibration_error"] < 0.2
    again = here("data", "classifier", "report", out, "--json")
    assert {**again.json, "schema": ""} == {**done.json, "schema": ""}
    assert "What a least probability of sea keeps" in here("data", "classifier", "report", out).out


def test_its_page_needs_no_network(here: Here, examples: list[str], tmp_path: Path) -> None:
    pytest.importorskip("altair", reason="charts need the extra 'report'")
    file = tmp_path / "page.html"
    done = here("data", "classifier", "train", *examples, "--out", str(tmp_path / "model"), "--html", str(file))
    assert done.code == 0, done.err
    shown = re.sub(r"<script.*?</script>", "", file.read_text(), flags=re.DOTALL)
    assert 'id="reliability-sea"' in shown
    assert "A classifier of sea, hill" in shown
    assert not re.search(r"(src|href)=.https?:", shown)


def test_wrong_use_ends_with_2_and_wrong_data_with_4(here: Here, examples: list[str], tmp_path: Path) -> None:
    train = ("data", "classifier", "train")
    out = ("--out", str(tmp_path / "model"))
    assert here(*train, "sea", *out).code == 2
    one = here(*train, examples[0], *out)
    assert (one.code, "two labels or more" in one.err) == (2, True)
    assert here(*train, examples[0], f"hill={tmp_path / 'none.jsonl'}", *out).code == 4
    assert here(*train, *examples, "--out", str(tmp_path)).code == 2
    assert here("data", "classifier", "report", str(tmp_path)).code == 4
