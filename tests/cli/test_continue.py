"""`isoflop continue` as a user meets it."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Isoflop = Callable[..., "subprocess.CompletedProcess[str]"]
Here = Callable[..., Any]

RECIPE = """
name = "nano"
shards = "{shards}"
n_tokens = 1_920
batch_tokens = 64
validation_tokens = 512
evaluations = 2
device = "cpu"
[model]
layers = 1
width = 16
heads = 2
kv_heads = 1
head_size = 8
hidden = 32
vocabulary = 270
context = 16
[optimizer]
learning_rate = 0.003
[schedule]
cooldown_fraction = 0
"""


@pytest.fixture(scope="module")
def runs(isoflop: Isoflop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trunk of 30 steps; its checkpoints are of steps 15 and 30. The text lies beside it."""
    folder = tmp_path_factory.mktemp("continue")
    words = ["law", "run", "token", "shard", "ladder", "fit", "plan", "loss", "model", "data", "step", "rate", "heat"]
    (folder / "text").mkdir()
    for i in range(1, 40):
        text = " ".join(words[(i * j) % len(words)] for j in range(1, 120))
        (folder / "text" / f"{i}.txt").write_text(text + "\n")
    shards = folder / "shards"
    done = isoflop("data", "tokenize", "--text", str(folder / "text"), "--out", str(shards), "--vocabulary", "270",
                   "--validation", "0.3")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder / "recipe.toml").write_text(RECIPE.format(shards=shards))
    done = isoflop("train", str(folder / "recipe.toml"), "--runs-dir", str(folder / "runs"))
    assert done.returncode == 0, done.stderr
    return folder / "runs"


def test_a_cooldown_branch_says_what_it_takes_trains_it_and_is_shown_with_its_origin(
    isoflop: Isoflop, runs: Path
) -> None:
    command = ("continue", "nano@15", "--anneal", "--tokens", "640", "--runs-dir", str(runs), "--json")
    planned = json.loads(isoflop(*command, "--dry-run").stdout)
    assert not (runs / "nano-15-anneal").exists()
    assert (planned["take"], planned["steps"], planned["cooldown_steps"]) == ("state", 10, 10)
    assert planned["first_learning_rate"] < planned["last_learning_rate"] == 0.003
    done = isoflop(*command)
    assert done.returncode == 0, done.stderr
    assert "all its state, the data order goes on; 10 steps" in done.stderr
    said = json.loads(done.stdout)
    assert (said["status"], said["n_tokens"]) == ("finished", 25 * 64)
    shown = isoflop("runs", "show", "nano-15-anneal", "--runs-dir", str(runs)).stdout
    assert "nano at step 15, its state" in shown
    # The recipe that it wrote, without its origin, is the run of one go.
    recipe = runs / "nano-15-anneal" / "recipe.toml"
    content = recipe.read_text()
    whole = runs.parent / "whole.toml"
    whole.write_text(content.partition("[origin]")[0])  # the last table of the file
    once = json.loads(isoflop("train", str(whole), "--runs-dir", str(runs), "--name", "once", "--json").stdout)
    assert once["loss_nats"] == said["loss_nats"]
    assert once["compute_flop"] == said["compute_flop"]


def test_other_data_in_the_same_tokens_and_a_longer_context(isoflop: Isoflop, runs: Path) -> None:
    new = runs.parent / "new"
    done = isoflop("data", "tokenize", "--text", str(runs.parent / "text"), "--out", str(new), "--validation", "0.5",
                   "--tokenizer", str(runs.parent / "shards"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = isoflop("continue", "nano", "--shards", str(new), "--context", "32", "--tokens", "2k", "--name", "new",
                   "--runs-dir", str(runs), "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "its weights, the rest anew; 31 steps" in done.stderr
    recipe = (runs / "new" / "recipe.toml").read_text()
    assert "context = 32" in recipe
    assert f"rope_theta = {1e4 * 2 ** (8 / 6):.6f}"[:-1] in recipe


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["none", "--anneal"], 4, "none: no such checkpoint"),
        (["nano@7", "--anneal"], 4, "no checkpoint of step 7; there are: "),
        (["nano"], 2, "say how many more tokens: --tokens 2e6"),
        (["nano", "--tokens", "0"], 2, "--tokens: '0' must be positive and finite"),
        (["nano", "--tokens", "-5"], 2, "--tokens: '-5'"),
        (["nano", "--tokens", "63"], 2, "less than one step of 64 tokens"),
        (["nano", "--anneal", "--context", "32"], 2, "--anneal is a branch of the same run"),
        (["nano", "--tokens", "640", "--shape", "linear"], 2, "it goes with --anneal"),
        (["nano", "--tokens", "640", "--rewarm", "--peak-share", "0"], 2, "a positive share"),
        (["nano", "--anneal", "--set", "model.width=32"], 2, "model.width is 32, and was 16; its weights are of that"),
        (["nano", "--anneal", "--set", "optimizer.name=muon"], 2, "optimizer.name is muon, and was adamw"),
        (["nano", "--anneal", "--set", "model.wdith=32"], 2, "did you mean 'model.width'"),
        (["nano", "--anneal", "--name", "nano"], 2, "two different runs in one folder"),
        (["nano", "--tokens", "640", "--shards", "nowhere"], 4, "nowhere: no such folder"),
        (["nano", "--tokens", "640", "--context", "0"], 2, "context is 0; it must be at least 1"),
        (["nano", "--tokens", "640", "--rope-theta", "nan"], 2, "rope_theta is nan; it must be positive and finite"),
        (["nano", "--tokens", "640", "--context", "33"], 2, "batch_tokens 64 is not a multiple of the context 33"),
    ],
)
def test_what_cannot_go_on_is_one_clear_error(
    here: Here, runs: Path, arguments: list[str], code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOFLOP_TRAINING_ENVIRONMENT", "1")  # or it would begin this process anew
    done = here("continue", *arguments, "--runs-dir", str(runs))
    assert done.code == code, done.err
    assert said in done.err
    assert "Traceback" not in done.err
