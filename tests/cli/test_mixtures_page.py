"""docs/mixtures.md does what it says."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.pages import commands, holds

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "mixtures.md").read_text()
RECIPE = """
name = "mixed"
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


@pytest.fixture
def home(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three texts, and the recipe with the page's own table."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(text, "code")
    for name in ("prose", "more"):
        Path(name).mkdir()
    for number in range(40):
        (tmp_path / "prose" / f"prose-{number}.txt").write_text(f"Of the {number} things that a page may say. " * 40)
        (tmp_path / "more" / f"more-{number}.txt").write_text(f"And {number} times as much again, and more. " * 40)
    table = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)[0]
    Path("mixed.toml").write_text(RECIPE + table)
    return tmp_path


def test_every_command_prints_what_the_page_shows(
    home: Path, here: Callable[..., Any], isoflop: "Callable[..., subprocess.CompletedProcess[str]]"
) -> None:
    told = commands(re.sub(" +", " ", PAGE))
    assert len(told) == 7
    for words, pieces in told:
        if words[0] == "continue":
            here("data", "tokenize", "--text", "more", "--out", "shards/more", "--tokenizer", "shards/code")
        anew = words[0] == "continue" or words == ["train", "mixed.toml"]  # which may start their process again
        shown = isoflop(*words).stdout if anew else here(*words).out
        holds(re.sub(" +", " ", shown), pieces, command=words)
