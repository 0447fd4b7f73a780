"""A ladder of trunks and branches for real, as small as it gets: killed, gone on with, read by the law's command."""

import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from isoflop.data.shards import open_shards
from isoflop.files import read_json, read_lines
from isoflop.laws.fitted import Fit
from isoflop.plan.trunks import laid
from isoflop.specs import ladder_file, recipe_file
from isoflop.specs.run import Run
from isoflop.train import store
from isoflop.train.choose import decide
from isoflop.train.ladder import MACHINE, Forecast, Setup

SMALL = """
sizes = 3
smallest_params = 7000
size_step = 1.5
ratios = [0.5, 1, 2]
tokens_per_param = 3
held_out = 2
seeds = 2
seeded_sizes = 1
swept_rates = 3
swept_step = 6
swept_sizes = 2
layers = 1
vocabulary = 300
context = 32
batch_tokens = 256
warmup_steps = 5
least_steps = 20
least_cooldown_steps = 8
validation_tokens = 4096
"""
ROLES = {"tuning": 6, "trunk": 4, "fit": 12, "held_out": 1}


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "ladder.toml"
    path.write_text(SMALL)
    return path


def command(text: Path, folder: Path, plan: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "isoflop", "ladder", "--text", str(text), "--runs-dir", str(folder), "--plan", str(plan),
        *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def climbed(text: Path, plan: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A ladder interrupted by Ctrl-C in the middle of its runs and started again."""
    folder = tmp_path_factory.mktemp("ladder")
    first = subprocess.Popen(
        command(text, folder, plan, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    said = _until_a_run_is_done(first)
    os.killpg(first.pid, signal.SIGINT)
    out, err = first.communicate(timeout=600)
    assert first.returncode == 130, said + err
    assert out == ""
    assert "Traceback" not in said + err
    again = subprocess.run(
        command(text, folder, plan, "--json", "--resume", "must"), capture_output=True, text=True, timeout=600,
        check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert "Traceback" not in again.stderr
    payload: dict[str, Any] = json.loads(again.stdout)
    return folder, payload


def _until_a_run_is_done(process: "subprocess.Popen[str]") -> str:
    """What it says up to the line that the first end of a run leaves."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("1/6 done"):
            return "".join(said)
    pytest.fail(f"no run finished: {''.join(said)}")


def test_every_run_finishes_in_its_role_and_only_points_are_fitted(climbed: tuple[Path, dict[str, Any]]) -> None:
    folder, payload = climbed
    assert payload["schema"] == "isoflop/ladder@1"
    assert {run["status"] for run in payload["runs"]} == {"finished"}
    roles = [run["role"] for run in payload["runs"]]
    tuned = roles.count("tuning")
    assert ROLES["tuning"] <= tuned <= ROLES["tuning"] + 2 * 3  # more rates where the best was the last one
    assert {role: roles.count(role) for role in ROLES if role != "tuning"} == {
        role: count for role, count in ROLES.items() if role != "tuning"
    }
    law = read_json(folder / "ladder" / "law.json", Fit)
    assert set(law.residuals) == {run["id"] for run in payload["runs"] if run["role"] == "fit"}
    assert len(law.dropped) == ROLES["trunk"]


def test_the_forecast_was_written_before_the_proof_began(climbed: tuple[Path, dict[str, Any]]) -> None:
    folder, payload = climbed
    said = read_json(folder / "ladder" / "forecast.json", Forecast)
    proof = next(run for run in payload["runs"] if run["role"] == "held_out")
    assert said.blind
    assert datetime.fromisoformat(said.written) <= datetime.fromisoformat(proof["stamp"]["time"])
    told = payload["forecast"]
    assert said.measured_nats == proof["loss_nats"] == told["measured"]
    assert told["loss_nats_lo"] < told["loss_nats"] < told["loss_nats_hi"]


def test_compute_is_counted_once_and_held_against_separate_runs(climbed: tuple[Path, dict[str, Any]]) -> None:
    runs, payload = climbed[1]["runs"], climbed[1]
    spent = [run["compute_flop"] if run.get("spent_flop") is None else run["spent_flop"] for run in runs]
    assert payload["compute_flop"] == pytest.approx(sum(spent))
    apart = sum(run["compute_flop"] for run in runs if run["role"] == "fit")
    own = sum(flop for flop, run in zip(spent, runs, strict=True) if run["role"] in ("fit", "trunk"))
    assert payload["saved_fraction"] == pytest.approx(1 - own / apart)
    # 0.8 x 2 of trunk and a fifth of 0.5 + 1 + 2, over 3.5; whole steps, and cooldowns of 8 at least
    assert own / apart == pytest.approx((1.6 + 0.7) / 3.5, abs=0.02)


def test_one_process_or_many_was_measured(climbed: tuple[Path, dict[str, Any]]) -> None:
    made = read_json(climbed[0] / "ladder" / MACHINE, Setup)
    choice, cores = made.choice, made.machine.cores
    if cores == 1:
        assert (choice.workers, choice.threads) == (1, 1)
        return
    assert (choice.workers, choice.threads) in {(1, cores), (cores, 1)}
    assert choice.together_tokens_per_s is not None
    assert choice.apart_tokens_per_s is not None
    assert min(choice.together_tokens_per_s, choice.apart_tokens_per_s) > 100
    assert choice == decide(
        cores=cores,
        together_tokens_per_s=choice.together_tokens_per_s,
        apart_tokens_per_s=choice.apart_tokens_per_s,
    )


def test_the_kept_out_run_has_the_threads_that_were_fastest_for_it(climbed: tuple[Path, dict[str, Any]]) -> None:
    made = read_json(climbed[0] / "ladder" / MACHINE, Setup)
    assert made.alone is not None
    assert (made.alone.tokens_per_s or 0.0) > 100
    proof = next(run for run in climbed[1]["runs"] if run["role"] == "held_out")
    assert recipe_file.load(climbed[0] / "ladder" / proof["id"] / store.RECIPE).threads == made.alone.threads


def test_every_convention_of_n_and_c_is_in_every_run(climbed: tuple[Path, dict[str, Any]]) -> None:
    for run in store.runs(climbed[0] / "ladder"):
        assert run.parameters is not None
        assert run.architecture is not None
        width, vocabulary, context = run.architecture.width, 300, 32
        counted = [run.parameters.by(way) for way in ("total", "non_embedding", "matmul")]
        assert counted[0] == run.n_params == counted[1] + vocabulary * width
        assert run.compute_flop == pytest.approx(6 * run.n_params * run.n_tokens)
        seen = run.architecture.heads * run.architecture.head_size
        exact = 6 * counted[2] + 12 * seen * context  # one layer: scores and sums, forward and twice back
        assert (run.whole_model_flop or run.model_flop) == pytest.approx(exact * run.n_tokens)
        assert run.bits_per_byte is not None


def test_seeds_differ_and_tell_the_noise(climbed: tuple[Path, dict[str, Any]]) -> None:
    payload = climbed[1]
    assert payload["noise"]["n_points"] == 3
    assert payload["noise"]["freedom"] == 3
    assert 0 < payload["noise"]["sd"] < 0.2
    assert payload["learning_rate"]["b"] == pytest.approx(-1 / 3, abs=0.2)


def test_a_branch_is_a_run_of_its_trunk_and_fresh(climbed: tuple[Path, dict[str, Any]]) -> None:
    runs = {run.id: run for run in store.runs(climbed[0] / "ladder")}
    branches = [run for run in runs.values() if run.role == "fit"]
    for run in branches:
        assert run.origin is not None
        assert run.origin.fresh
        trunk = runs[run.origin.run]
        assert (trunk.role, trunk.seed, trunk.learning_rate) == ("trunk", run.seed, run.learning_rate)


def test_law_fit_reads_the_points_and_says_what_it_leaves_out(climbed: tuple[Path, dict[str, Any]], here: Any) -> None:
    done = here("law", "fit", str(climbed[0] / "ladder" / "runs.jsonl"), "--json")
    assert done.code == 0, done.err
    assert done.json["n_runs"] == 12
    reasons = {line.partition(": ")[2] for line in done.json["dropped"]}
    assert reasons == {
        "a trunk of branches: its rate never decayed",
        "trained to find a learning rate",
        "kept out of the fit as its proof",
    }


def test_the_page_shows_runs_rates_and_proof(climbed: tuple[Path, dict[str, Any]]) -> None:
    html = Path(climbed[1]["report"]).read_text()
    assert all(run["id"] in html for run in climbed[1]["runs"])
    assert "Learning rates tried" in html
    assert f"{climbed[1]['forecast']['measured']:.3f}"[:5] in html
    assert 'src="http' not in html


def test_another_ladder_in_the_folder_and_a_wrong_resume_are_refused(
    climbed: tuple[Path, dict[str, Any]], text: Path, plan: Path, tmp_path: Path, here: Any
) -> None:
    same = ["ladder", "--text", str(text), "--plan", str(plan)]
    for more, said in (
        (["--runs-dir", str(climbed[0]), "--set", "size_step=1.6"], "whose size_step is 1.5, and here it is 1.6"),
        (["--runs-dir", str(climbed[0]), "--resume", "never"], "a ladder lies here already"),
        (["--runs-dir", str(tmp_path / "none"), "--resume", "must"], "no ladder to go on with"),
    ):
        done = here(*same, *more)
        assert done.code == 2, done.err
        assert said in done.err
    assert not (tmp_path / "none").exists()


def test_dry_run_shows_runs_cost_and_gain_and_trains_nothing(tmp_path: Path, here: Any) -> None:
    done = here("ladder", "--dry-run", "--runs-dir", str(tmp_path / "runs"), "--budget", "5e14", "--json")
    payload = done.json
    assert [rung["role"] for rung in payload["rungs"]].count("fit") == 45
    assert payload["compute_flop"] == pytest.approx(sum(rung["spent_flop"] for rung in payload["rungs"]))
    assert 3.5e14 < payload["compute_flop"] <= 5.05e14
    assert payload["saved_fraction"] > 0.38
    assert payload["log_loss_sd"] < payload["smallest_alone_log_loss_sd"]
    assert payload["wall_s"] is None
    assert payload["rules"]["cooldown"]["source"]
    assert not (tmp_path / "runs").exists()


def test_dry_run_of_a_ladder_begun_knows_its_time(climbed: tuple[Path, dict[str, Any]], plan: Path, here: Any) -> None:
    payload = here("ladder", "--dry-run", "--runs-dir", str(climbed[0]), "--plan", str(plan), "--json").json
    assert payload["wall_s"] > 0


def test_text_that_is_read_again_is_counted_and_said(climbed: tuple[Path, dict[str, Any]], here: Any) -> None:
    unique = open_shards(climbed[0] / "shards").header.splits["train"].n_tokens
    for budget in ("5e13", "5e14"):
        payload = here("ladder", "--dry-run", "--runs-dir", str(climbed[0]), "--budget", budget, "--json").json
        longest = max(rung["n_tokens"] for rung in payload["rungs"])
        assert f", {longest / unique:.1f} times the" in payload["text"]
        assert "Beyond 4 times repeated tokens are worth less" in payload["text"]


@pytest.mark.parametrize("design", ["grid", "designed"])
def test_other_designs_cost_what_they_say(design: str, here: Any, tmp_path: Path) -> None:
    payload = here(
        "ladder", "--dry-run", "--runs-dir", str(tmp_path), "--design", design, "--budget", "3e14", "--json"
    ).json
    assert payload["design"] == design
    roles = {rung["role"] for rung in payload["rungs"]}
    assert roles == ({"tuning", "fit", "held_out"} | ({"trunk"} if design == "designed" else set()))
    assert (payload["saved_fraction"] > 0) == (design == "designed")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--budget", "1e6"], 3, "the smallest costs"),
        (["--budget", "-5"], 2, "must be positive"),
        (["--budget", "3 days"], 2, "is a time"),
        (["--text", "/nowhere"], 4, "/nowhere"),
        (["--set", "size=3"], 2, "did you mean"),
        (["--set", "sizes=2"], 2, "swept_sizes is 3, of the 2 sizes there are"),
        (["--executor-set", "x"], 2, "write KEY=VALUE"),
    ],
)
def test_bad_input_ends_with_its_sentence_and_code(
    arguments: list[str], code: int, said: str, tmp_path: Path, here: Any
) -> None:
    done = here("ladder", "--runs-dir", str(tmp_path / "runs"), *arguments)
    assert done.code == code, done.err
    assert said in done.err
    assert "Traceback" not in done.err


def test_runs_of_a_ladder_are_of_one_type(climbed: tuple[Path, dict[str, Any]]) -> None:
    told = read_lines(climbed[0] / "ladder" / "runs.jsonl", Run)
    assert {run.id for run in told} == {run["id"] for run in climbed[1]["runs"]}


LEAST = ("seeds=1", "seeded_sizes=0", "swept_rates=0")


def elsewhere(climbed: Path, plan: Path, text: Path, folder: Path, *more: str) -> dict[str, Any]:
    """A ladder without rates and repeats, on the machine that is measured already."""
    (folder / "ladder").mkdir()
    shutil.copy(climbed / "ladder" / "machine.json", folder / "ladder")
    settings = [word for setting in LEAST for word in ("--set", setting)]
    done = subprocess.run(
        command(text, folder, plan, "--json", *settings, *more),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    payload: dict[str, Any] = json.loads(done.stdout)
    assert {run["status"] for run in payload["runs"]} == {"finished"}
    assert payload["forecast"]["blind"]
    assert payload["forecast"]["measured"] > 0
    return payload


def test_a_grid_is_trained_as_runs_of_their_own(
    climbed: tuple[Path, dict[str, Any]], plan: Path, text: Path, tmp_path: Path
) -> None:
    payload = elsewhere(
        climbed[0], plan, text, tmp_path, "--design", "grid", "--workers", "1", "--set", "sizes=2",
        "--set", "tokens_per_param=1.5",
    )  # fmt: skip
    assert [run["role"] for run in payload["runs"]].count("fit") == 6
    assert {run["role"] for run in payload["runs"]} == {"fit", "held_out"}
    assert payload["saved_fraction"] == 0
    assert all(run.get("origin") is None for run in payload["runs"])


def test_a_designed_ladder_is_trained_on_a_ray_cluster_of_this_machine(
    climbed: tuple[Path, dict[str, Any]], plan: Path, text: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    payload = elsewhere(
        climbed[0], plan, text, tmp_path, "--design", "designed", "--executor", "ray", "--workers", "1",
        "--set", "designed_share=0.62", "--set", "tokens_per_param=1.5",
    )  # fmt: skip
    points = [run for run in payload["runs"] if run["role"] == "fit"]
    assert 7 <= len(points) <= 9
    assert all(run["origin"]["fresh"] for run in points)
    full = laid(ladder_file.load(plan, settings=[*LEAST, "tokens_per_param=1.5"]))
    assert payload["points_flop"] <= 0.62 * full.separate_flop
    assert payload["forecast"]["compute_flop"] == pytest.approx(full.proof.separate_flop())
