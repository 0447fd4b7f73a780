"""docs/train.md does what it says."""

import json
import re
from pathlib import Path

import pytest
from tests.inside import inside
from tests.pages import commands, holds

from isoflop import registry
from isoflop.train.seconds import Seconds

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "train.md").read_text()
RECIPE = """
name = "nano"
shards = "shards"
n_tokens = 2_560
batch_tokens = 64
validation_tokens = 256
evaluations = 1
device = "cpu"
[model]
layers = 1
width = 16
heads = 2
kv_heads = 1
head_size = 8
hidden = 32
vocabulary = 300
context = 16
[optimizer]
learning_rate = 0.003
"""


def isoflop(*words: str, at: Path) -> str:
    done = inside(*words, at=at)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts, the recipe of the page, and a second run to tell from the first."""
    place = tmp_path_factory.mktemp("page")
    words = ["law", "run", "token", "shard", "ladder", "fit", "plan", "loss", "model", "data", "step", "rate", "heat"]
    (place / "text").mkdir()
    for i in range(1, 40):
        text = " ".join(words[(i * j) % len(words)] for j in range(1, 120))
        (place / "text" / f"{i}.txt").write_text(text + "\n")
    (place / "recipe.toml").write_text(RECIPE)
    return place


def test_every_command_prints_what_the_page_shows(home: Path) -> None:
    assert len(commands(PAGE)) >= 9
    for words, pieces in commands(PAGE):
        if words[:2] == ["runs", "list"]:
            isoflop("train", "recipe.toml", "--name", "other", "--set", "optimizer.learning_rate=0.03", at=home)
        holds(isoflop(*words, at=home), pieces, command=words)


def test_the_page_names_every_sink_and_every_phase() -> None:
    for name in registry.members("isoflop.train.sinks"):
        assert re.search(rf"\| `{name}[\[:`]", PAGE)
    for phase in Seconds.__struct_fields__:
        assert phase.removesuffix("_s") in PAGE


def test_the_page_names_every_key_of_the_answer(home: Path) -> None:
    said = json.loads(isoflop("train", "recipe.toml", "--json", at=home).splitlines()[0])
    for key in said.keys() - {"schema"}:
        assert f"`{key}`" in PAGE
