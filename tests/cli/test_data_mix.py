"""A mixture chosen for real, as small as it gets, and docs/mix.md beside what happens."""

import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from isoflop.files import read_json, write_json
from isoflop.laws.mixture_table import read
from isoflop.specs import recipe_file
from isoflop.specs.recipe_file import load
from isoflop.train.choose import Choice
from isoflop.train.ladder import MACHINE, Setup
from isoflop.train.meter import Machine, Rate
from isoflop.train.mix import MixForecast

SMALL = (
    "--budget", "2e11", "--proxies", "9", "--vocabulary", "290", "--set", "model.context=32", "--set",
    "batch_tokens=128", "--set", "n_tokens=6400", "--set", "validation_tokens=1536", "--set", "model.layers=1",
    "--set", "device=cpu",
)  # fmt: skip
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "mix.md").read_text()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three languages of syllables, of three sizes."""
    folder = tmp_path_factory.mktemp("corpus")
    for seed, (name, letters, vowels, count) in enumerate(
        (("north", "bdg", "aei", 24), ("south", "ptk", "ouy", 16), ("west", "mnl", "aou", 8))
    ):
        dice = random.Random(seed)
        words = [a + b + c for a in letters for b in vowels for c in letters]
        (folder / name).mkdir()
        for i in range(count):
            at, said = dice.randrange(27), []
            for _ in range(600):
                at = (at * 3 + dice.choice((1, 1, 1, 2))) % 27
                said.append(words[at])
            (folder / name / f"{i}.txt").write_text(" ".join(said))
    return folder


def settle(folder: Path) -> None:
    """Say how the cores are used, so that no test measures it."""
    rate = Rate(precision="fp32", processes=1, threads=1, flop_per_s=1e11)
    machine = Machine(torch="", cuda=None, accelerators=[], cores=1, rates=[rate], copy_bytes_per_s=1e10, how="said")
    choice = Choice(workers=1, threads=1, reason="one process with one thread, for a test")
    write_json(folder / "mix" / MACHINE, Setup(machine=machine, choice=choice))


@pytest.fixture(scope="module")
def mixed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Everything once: 9 proxies, the choice, its check."""

    folder = tmp_path_factory.mktemp("runs")
    settle(folder)
    done = subprocess.run(
        [sys.executable, "-m", "isoflop", "data", "mix", str(corpus), "--runs-dir", str(folder), "--json", *SMALL],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return folder, json.loads(done.stdout)


def test_the_answer_holds_runs_law_proportions_forecast_and_checks(mixed: tuple[Path, dict[str, Any]]) -> None:
    answer = mixed[1]
    assert answer["schema"] == "isoflop/data.mix@1"
    assert [run["kind"] for run in answer["runs"]].count("proxy") == 8
    assert {run["status"] for run in answer["runs"]} == {"finished"}
    assert sum(each["share"] for each in answer["proportions"].values()) == pytest.approx(1)
    for each in answer["proportions"].values():
        assert each["tried_lo"] - 1e-9 <= each["flat_lo"] <= each["share"] <= each["flat_hi"] <= each["tried_hi"] + 1e-9
        assert each["lo"] <= each["share"] <= each["hi"]
    assert [each["mixture"] for each in answer["checks"]] == ["chosen", "natural", "uniform", "temperature", "unimax"]
    assert answer["law"]["noise_freedom"] == 1


def test_the_loss_that_counts_is_the_weighted_loss_of_the_runs(mixed: tuple[Path, dict[str, Any]]) -> None:
    answer = mixed[1]
    runs = {run["id"]: run for run in answer["runs"]}
    for check in answer["checks"]:
        losses = runs[check["runs"][0]]["losses"]
        assert check["measured_nats"] == pytest.approx(sum(losses.values()) / 3)
        assert check["held"] == (check["forecast_nats_lo"] <= check["measured_nats"] <= check["forecast_nats_hi"])
    flop = {round(run["compute_flop"]) for run in answer["runs"]}
    assert len(flop) == 1, "compute was not equal"


def test_the_forecast_was_written_before_any_run_of_the_check(mixed: tuple[Path, dict[str, Any]]) -> None:
    folder, answer = mixed
    said = read_json(folder / "mix" / "forecast.json", MixForecast)
    assert said.blind
    began = [
        json.loads((folder / "mix" / run["id"] / "run.json").read_text())["stamp"]["time"]
        for run in answer["runs"]
        if run["kind"] == "check"
    ]
    assert said.written <= min(began)


def test_the_same_command_again_trains_nothing_and_says_the_same(
    mixed: tuple[Path, dict[str, Any]], corpus: Path, here: Any
) -> None:
    folder, before = mixed
    done = here("data", "mix", str(corpus), "--runs-dir", str(folder), "--json", *SMALL)
    assert done.code == 0, done.err
    for key in ("proportions", "checks", "forecast", "runs"):
        assert done.json[key] == before[key], key


def test_the_table_and_the_recipe_can_be_used(mixed: tuple[Path, dict[str, Any]], tmp_path: Path, here: Any) -> None:
    folder, before = mixed
    assert len(read([Path(before["table"])]).labels) == 9
    done = here("data", "mix", "--runs", before["table"], "--json")
    assert done.code == 0, done.err
    for name, each in done.json["proportions"].items():
        assert each["share"] == pytest.approx(before["proportions"][name]["share"], abs=1e-9)
    recipe = load(folder / "mix" / before["runs"][0]["id"] / "recipe.toml")
    text = Path(before["recipe"]).read_text()
    (tmp_path / "recipe.toml").write_text(
        'name = "x"\nn_tokens = 4096\nbatch_tokens = 128\n' + text + "\n[model]\n"
        + "\n".join(f"{key} = {getattr(recipe.model, key)}" for key in (
            "layers", "width", "heads", "kv_heads", "head_size", "hidden", "vocabulary", "context"))
    )  # fmt: skip
    assert [source.name for source in recipe_file.load(tmp_path / "recipe.toml").sources] == ["north", "south", "west"]


def test_the_page_needs_no_network_and_names_every_domain_and_mixture(mixed: tuple[Path, dict[str, Any]]) -> None:
    html = Path(mixed[1]["report"]).read_text()
    assert 'src="http' not in html
    assert all(name in html for name in ("north", "south", "west", "temperature", "unimax", "share-0", "comparison"))


def test_regmix_is_advised_on_and_judged_without_training(shared_data: Path, tmp_path: Path, here: Any) -> None:
    folder = shared_data / "regmix"
    few = []
    for name in ("train_mixture_1m.csv", "train_pile_loss_1m.csv"):
        rows = (folder / name).read_text().splitlines()[:65]
        few.append(tmp_path / name)
        few[-1].write_text("\n".join(rows) + "\n")
    done = here(
        "data", "mix", "--runs", str(few[0]), "--runs", str(few[1]), "--target", "pile_cc", "--json", "--test",
        str(folder / "test_mixture_1m.csv"), "--test", str(folder / "test_pile_loss_1m.csv"),
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.json["test"]["spearman_mean"] >= 0.95
    assert done.json["test"]["spearman_target"] >= 0.95
    best = max(done.json["proportions"].items(), key=lambda pair: pair[1]["share"])
    assert best[0] == "train_the_pile_pile_cc"


def test_dry_run_shows_runs_and_cost_and_writes_nothing(corpus: Path, tmp_path: Path, here: Any) -> None:
    folder = tmp_path / "none"
    done = here(
        "data", "mix", str(corpus), "--dry-run", "--runs-dir", str(folder), "--tokens", "100K", "--json", *SMALL
    )
    assert done.code == 0, done.err
    assert len(done.json["runs"]) == 9
    assert done.json["compute_flop"] == pytest.approx(14 * done.json["run_flop"])
    assert done.json["domains"]["west"]["most"] < 1
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "give domains to train on, or --runs"),
        (["CORPUS/north/0.txt"], 4, "1 domain"),
        (["CORPUS", "--budget", "1e6"], 3, "the smallest is"),
        (["CORPUS", "--budget", "-5"], 2, "must be positive"),
        (["CORPUS", "--tokens", "0", *SMALL], 2, "positive"),
        (["CORPUS", "--epochs", "nan", *SMALL], 2, "positive"),
        (["CORPUS", "--proxies", "5"], 2, "Raise --proxies"),
        (["CORPUS", "--target", "nort", *SMALL], 0, ""),
        (["CORPUS", "--target", "east", *SMALL], 2, "no loss named 'east'"),
        (["CORPUS", "--tokens", "1T"], 3, "raise --epochs"),
        (["CORPUS", "--test", "x.csv"], 2, "--test judges a law of --runs"),
        (["--runs", "/nowhere.csv"], 4, "/nowhere.csv"),
    ],
)
def test_bad_input_ends_with_its_sentence_and_code(
    arguments: list[str], code: int, said: str, corpus: Path, tmp_path: Path, here: Any
) -> None:
    words = [word.replace("CORPUS", str(corpus)) for word in arguments]
    rest = ["--dry-run", "--runs-dir", str(tmp_path)] if "--runs" not in words else []
    done = here("data", "mix", *words, *rest)
    assert done.code == code, done.err
    assert said in done.err
    assert "Traceback" not in done.err


def test_the_page_of_the_manual_names_what_there_is(mixed: tuple[Path, dict[str, Any]], here: Any) -> None:
    folder, answer = mixed
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE))
    known = here("data", "mix", "--help").out
    assert options, "the page shows no option"
    assert all(option in known for option in options), options
    for name in re.findall(r"`(mix/[\w.]+)`", PAGE):
        assert (folder / name).exists(), name
    for key in re.findall(r"`(\w+)`: ", PAGE):
        assert key in answer or key in answer["proportions"]["north"] or key in answer["law"], key
