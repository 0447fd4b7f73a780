"""`isoflop train --dry-run`: what a recipe would take, without torch and without shards."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isoflop.count.memory_peak import memory
from isoflop.count.parameters import parameters
from isoflop.count.text import flop_per_text_token, law_flop_per_text_token
from isoflop.plan.speed import throughput
from isoflop.specs.cluster import Device
from isoflop.specs.layout import Layout, Training
from isoflop.specs.recipe_file import load
from isoflop.tables import find

Here = Callable[..., Any]
RECIPES = Path(__file__).resolve().parents[2] / "recipes"
TINY = RECIPES / "tiny.toml"
ALL = sorted(RECIPES.glob("*.toml"))
LIKE = {"decoder": "tiny", "mixture": "mixture", "encoder": "bert-like", "encoder-decoder": "t5-like"}


def test_it_says_what_counting_says(here: Here) -> None:
    told = here("train", str(TINY), "--dry-run", "--json").json
    model = load(TINY).model
    assert told["schema"] == "isoflop/train.dry-run@1"
    assert told["n_params"] == parameters(model).total
    assert (told["steps"], told["n_tokens"]) == (600_000 // 512, 600_000 // 512 * 512)
    assert told["compute_flop"] == 6 * told["n_params"] * told["n_tokens"]
    layout = Layout(sharding="ddp", recompute="none", devices=1, micro_batch=4, sequence=128)
    need = memory(model, layout, Training(precision="fp32", loss_head="chunked"))
    assert told["memory_bytes"] == need.total_bytes
    assert told["memory_bytes_lo"] < told["memory_bytes"] < told["memory_bytes_hi"]


def test_a_large_batch_is_taken_in_parts_and_needs_no_more_memory_than_one_of_them(here: Here) -> None:
    large, twice = (
        here("train", str(TINY), "--dry-run", "--json", "--set", f"batch_tokens={size}").json for size in (2**16, 2**17)
    )
    assert [told["layout"]["accumulation"] for told in (large, twice)] == [4, 8]
    assert large["memory_bytes"] == twice["memory_bytes"]


def test_devices_named_give_speed_time_and_whether_it_fits(here: Here) -> None:
    told = here("train", str(TINY), "--dry-run", "--json", "--gpus", "1xH100").json
    device = find("devices", Device, "H100")
    layout = Layout(sharding="ddp", recompute="none", devices=1, micro_batch=4, sequence=128)
    speed = throughput(device, load(TINY).model, layout, Training(precision="fp32", loss_head="chunked"))
    assert told["tokens_per_s"] == speed.tokens_per_s_per_device.value
    assert told["wall_s"] == pytest.approx(told["n_tokens"] / told["tokens_per_s"])
    assert told["fits"] is True
    assert not told["without"]


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_every_recipe_that_is_shipped_is_foreseen(
    here: Here, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where there are no shards and no runs yet
    recipe = load(path)
    told = here("train", str(path), "--dry-run", "--json").json
    n_tokens = recipe.steps * recipe.batch_tokens
    assert (told["recipe"], told["n_params"]) == (recipe.name, parameters(recipe.model).total)
    assert told["memory_bytes_lo"] < told["memory_bytes"] < told["memory_bytes_hi"]
    if not recipe.data.stages:
        assert told["model_flop"] == pytest.approx(flop_per_text_token(recipe) * n_tokens)
    assert told["compute_flop"] == pytest.approx(law_flop_per_text_token(recipe) * n_tokens)
    asked = [f"{source.shards}: no such folder" for source in recipe.sources]
    asked += [f"{recipe.origin.checkpoint}: no such"] if recipe.origin else []
    assert [problem.startswith(start) for problem, start in zip(told["missing"], asked, strict=True)]


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_every_recipe_that_is_shipped_fits_the_gpus_it_is_laid_out_for_and_has_a_time(here: Here, path: Path) -> None:
    recipe = load(path)
    devices = recipe.layout.devices if recipe.layout else 1
    told = here("train", str(path), "--dry-run", "--json", "--gpus", f"{devices}xH100").json
    assert told["fits"] is True
    assert told["wall_s"] == pytest.approx(told["n_tokens"] / told["tokens_per_s"])
    peak = find("devices", Device, "H100").dense_flop_per_s["bf16"]
    if devices > 1:  # the small ones are all overhead on such a device
        assert 0.1 < told["model_flop"] / told["wall_s"] / (devices * peak) < 0.6


@pytest.mark.parametrize("name", LIKE.values(), ids=LIKE)
def test_ids_that_stand_in_place_of_text_are_asked_for_before_training_is(
    here: Here, name: str, tmp_path: Path
) -> None:
    (tmp_path / "text").mkdir()
    for number in range(20):
        (tmp_path / "text" / f"{number}.txt").write_text(f"All the {number} words that there are to be said. " * 20)
    shards = tmp_path / "shards"
    text = here("data", "tokenize", "--text", str(tmp_path / "text"), "--out", str(shards), "--vocabulary", "280",
                "--json").json["vocabulary"]  # fmt: skip
    needed = text + load(RECIPES / f"{name}.toml").row.extra_ids
    asked = [
        here("train", str(RECIPES / f"{name}.toml"), "--dry-run", "--json", "--set", f"shards={shards}", "--set",
             f"model.vocabulary={vocabulary}").json["missing"]
        for vocabulary in (needed, needed - 1)
    ]  # fmt: skip
    assert asked[0] == []
    assert f"set it to at least {needed}" in asked[1][0]


def commands() -> list[list[str]]:
    """`isoflop train` of a shipped recipe, wherever README, docs and the recipes themselves say it."""
    root = RECIPES.parent
    text = "\n".join(path.read_text() for path in (root / "README.md", *(root / "docs").glob("*.md"), *ALL))
    lines = re.findall(r"^#? *isoflop (train recipes/.*)$", text.replace("\\\n", ""), flags=re.MULTILINE)
    return [shlex.split(line, comments=True) for line in dict.fromkeys(lines)]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_that_is_written_down_is_one_that_trains(
    here: Here, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(RECIPES.parent)
    said = here(*words, "--dry-run")
    assert said.code == 0, said.err


def test_a_processor_nobody_measured_gets_a_reason_and_no_number(here: Here, monkeypatch: pytest.MonkeyPatch,
                                                                tmp_path: Path) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    said = here("train", str(TINY), "--dry-run")
    assert "no prediction of tokens/s: nobody measured this processor; `isoflop calibrate`" in said.out
    told = here("train", str(TINY), "--dry-run", "--json").json
    assert told["tokens_per_s"] is None
    assert told["wall_s"] is None


def test_shards_that_are_missing_are_said_and_are_no_error(here: Here, tmp_path: Path) -> None:
    said = here("train", str(TINY), "--dry-run", "--set", f"shards={tmp_path / 'absent'}")
    assert said.code == 0
    assert "missing:" in said.out
    assert "isoflop data tokenize --out" in said.out


def test_devices_without_a_dry_run_are_refused(here: Here) -> None:
    said = here("train", str(TINY), "--gpus", "1xH100")
    assert said.code == 2
    assert "--dry-run" in said.err


def test_a_dry_run_imports_no_torch() -> None:
    code = (
        "import sys; from isoflop.cli import app\n"
        f"app(['train', {str(TINY)!r}, '--dry-run'], standalone_mode=False)\n"
        "assert not {'torch', 'scipy', 'altair'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, timeout=600)
