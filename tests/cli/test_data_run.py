"""`isoflop data run` and `isoflop data report`, as a user runs them."""

import json
import re
from pathlib import Path

import pytest
from tests.cli.conftest import Here
from tests.data.archives import packed, page, record, served

RECIPE = """
[[source]]
path = "in"
[[stage]]
name = "visible"
[[stage]]
name = "length"
least = 20
[[stage]]
name = "exact"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    """Six pages, two of them equal, one short, one not served; and a photo."""
    texts = ["The first page is long.", "The second page is long.", "The third <script> page is long.", "short"]
    bodies = [page(text.replace("<script>", "&lt;script&gt;")) for text in (*texts, texts[0])]
    records = [record(served(body), number=i) for i, body in enumerate(bodies)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.warc.gz").write_bytes(packed(*records, record(served(b"gone", status=404), number=9)))
    (tmp_path / "in" / "photo.png").write_bytes(b"\x89PNG")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return str(tmp_path / "recipe.toml")


def test_the_answer_is_one_json_object_that_counts_every_document(here: Here, recipe: str, tmp_path: Path) -> None:
    done = here("data", "run", recipe, "--out", str(tmp_path / "out"), "--workers", "1", "--json")
    assert done.code == 0, done.err
    assert done.json["schema"] == "isoflop/data.run@1"
    assert (done.json["n_documents_in"], done.json["n_documents"]) == (7, 3)
    dropped = {each["name"]: {r: c["n_documents"] for r, c in each["dropped"].items()} for each in done.json["stages"]}
    assert dropped == {
        "read": {"HTTP status": 1, "unknown kind of file": 1},
        "visible": {},
        "length": {"too short": 1},
        "exact": {"exact duplicate": 1},
    }
    assert "! read: 1 x unknown kind of file, e.g. photo.png (png)" in done.err
    again = here("data", "run", recipe, "--out", str(tmp_path / "out"), "--workers", "2", "--json")
    assert again.json == done.json


def test_what_it_leaves_can_be_tokenized(here: Here, recipe: str, tmp_path: Path) -> None:
    rows = [{"text": f"Row {i} is a row that is kept, as it is long and not yet seen."} for i in range(40)]
    (tmp_path / "in" / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert here("data", "run", recipe, "--out", str(tmp_path / "out"), "--workers", "1").code == 0
    text, shards = str(tmp_path / "out" / "text"), str(tmp_path / "shards")
    done = here("data", "tokenize", "--text", text, "--out", shards, "--vocabulary", "260", "--json")
    assert done.json["n_documents"] == 43, done.err


def test_people_read_a_table_and_a_page_that_needs_no_network(here: Here, recipe: str, tmp_path: Path) -> None:
    pytest.importorskip("altair", reason="charts need the extra 'report'")
    assert here("data", "run", recipe, "--out", str(tmp_path / "out"), "--workers", "1").code == 0
    file = tmp_path / "page.html"
    done = here("data", "report", str(tmp_path / "out"), "--html", str(file))
    assert done.code == 0, done.err
    assert "exact duplicate" in done.out
    written = file.read_text()
    shown = re.sub(r"<script.*?</script>", "", written, flags=re.DOTALL)
    assert "7 documents came, 3 go on" in shown
    assert 'id="flow"' in shown
    assert "The third &lt;script&gt; page is long." in shown
    assert "Dropped by exact" in shown
    assert not re.search(r"(src|href)=.https?:", shown)
    answer = here("data", "report", str(tmp_path / "out"), "--json").json
    assert answer["stages"] == json.loads(json.dumps(answer["stages"]))
    assert answer["schema"] == "isoflop/data.report@1"


def test_nothing_left_ends_with_4_and_a_wrong_recipe_with_2(here: Here, recipe: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    Path(recipe).write_text(RECIPE.replace("least = 20", "least = 2000"))
    done = here("data", "run", recipe, "--out", out, "--workers", "1")
    assert (done.code, "no document is left" in done.err) == (4, True)
    assert "too short" in here("data", "report", out).out
    Path(recipe).write_text(RECIPE.replace("least", "lest"))
    assert here("data", "run", recipe, "--out", out).code == 2
    assert here("data", "run", str(tmp_path / "none.toml"), "--out", out).code == 4
    assert here("data", "report", str(tmp_path)).code == 4
