"""`isoflop train` as a user meets it: a process of its own, stopped, resumed, misused."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Isoflop = Callable[..., "subprocess.CompletedProcess[str]"]

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
"""


@pytest.fixture(scope="module")
def place(isoflop: Isoflop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
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
    return folder


def test_a_run_prints_one_json_object_and_is_not_trained_twice(
    isoflop: Isoflop, program: Isoflop, place: Path, tmp_path: Path
) -> None:
    command = ("train", str(place / "recipe.toml"), "--runs-dir", str(tmp_path), "--json")
    first = program(*command)
    assert first.returncode == 0, first.stderr
    said = json.loads(first.stdout)
    assert said["schema"] == "isoflop/train@1"
    assert (said["run_id"], said["status"], said["n_tokens"]) == ("nano", "finished", 1920)
    assert said["compute_flop"] == 6 * said["n_params"] * 1920
    assert said["resumed_from_step"] == 0
    assert 0 < said["mfu"] < 1
    again = json.loads(isoflop(*command).stdout)
    assert again["loss_nats"] == said["loss_nats"]
    assert again["resumed_from_step"] is None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_saves_and_the_same_command_goes_on(
    isoflop: Isoflop, place: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    # It says a line of 250 bytes after each of 30 steps, and the pipe holds 16 of them: it cannot be over unheard.
    runs = tmp_path / ("x" * 200)
    command = ["train", str(place / "recipe.toml"), "--runs-dir", str(runs), "--json", "--set", "evaluations=30"]
    with subprocess.Popen(
        [sys.executable, "-m", "isoflop", *command], stderr=subprocess.PIPE, bufsize=0, pipesize=4096
    ) as process:
        assert process.stderr is not None
        assert b"start" in process.stderr.readline()
        assert any(b"step 1/30 " in line for line in iter(process.stderr.readline, b""))
        process.send_signal(number)
        rest = process.stderr.read()
    assert process.returncode == code, rest
    assert b"saved; run the same command again to go on" in rest
    assert json.loads((runs / "nano" / "run.json").read_text())["status"] == "interrupted"
    done = isoflop(*command)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["resumed_from_step"] in range(1, 20)


# Found before torch: sends its process a signal in the middle of the import, then is torch.
SIGNALLED = """
import os, signal, sys
signal.raise_signal(int(os.environ["SIGNAL"]))
sys.path.remove(os.path.dirname(os.path.dirname(__file__)))
del sys.modules["torch"]
import torch
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_while_torch_is_imported_ends_in_one_line_and_leaves_nothing(
    program: Isoflop, place: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(SIGNALLED)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = ("train", str(place / "recipe.toml"), "--runs-dir", str(tmp_path / "runs"))
    done = program(*command, env={"PYTHONPATH": path, "SIGNAL": str(int(number))})
    assert done.returncode == code, done.stderr
    assert done.stderr.endswith("stopped before the first step; run the same command again to go on\n")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_diverged_run_ends_with_its_own_exit_code(isoflop: Isoflop, place: Path, tmp_path: Path) -> None:
    wild = ("--set", "optimizer.learning_rate=1e6", "--set", "optimizer.clip_norm=1e9")
    done = isoflop("train", str(place / "recipe.toml"), "--runs-dir", str(tmp_path), *wild)
    assert done.returncode == 5
    assert "diverged at step" in done.stderr
    assert json.loads((tmp_path / "nano" / "run.json").read_text())["status"] == "diverged"


@pytest.mark.parametrize(
    ("settings", "code", "sentence"),
    [
        (["optimizer.learning_rat=1"], 2, "did you mean 'optimizer.learning_rate'"),
        (["model.layer=1"], 2, "did you mean 'model.layers'"),
        (["model.layers=two"], 2, "model.layers: expected int, got str"),
        (["batch_tokens=65"], 2, "batch_tokens 65 is not a multiple of the context 16"),
        (["precision=fp12"], 2, "named 'fp12'; did you mean"),
        (["precision=fp16"], 2, "whose fp16 products reach 1 GFLOP/s"),
        (["layers"], 2, "write key=value"),
        (["shards=nowhere"], 4, "isoflop data tokenize --out nowhere"),
        (["device=cuda"], 2, "no CUDA device"),
    ],
)
def test_bad_recipes_are_answered_with_the_key(
    isoflop: Isoflop, place: Path, tmp_path: Path, settings: list[str], code: int, sentence: str
) -> None:
    changes = [word for setting in settings for word in ("--set", setting)]
    done = isoflop("train", str(place / "recipe.toml"), "--runs-dir", str(tmp_path), *changes)
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_key_is_named_with_its_table(isoflop: Isoflop, place: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.toml"
    short.write_text((place / "recipe.toml").read_text().replace("width = 16\n", ""))
    done = isoflop("train", str(short))
    assert done.returncode == 2
    assert "model.width is missing" in done.stderr


def test_a_name_that_leads_out_of_the_runs_folder_is_refused(isoflop: Isoflop, place: Path, tmp_path: Path) -> None:
    done = isoflop("train", str(place / "recipe.toml"), "--runs-dir", str(tmp_path / "runs"), "--name", "../elsewhere")
    assert done.returncode == 2
    assert "one folder's name" in done.stderr
    assert not (tmp_path / "elsewhere").exists()


def test_the_shipped_recipe_asks_for_its_shards_by_the_command_that_makes_them(
    isoflop: Isoflop, tmp_path: Path
) -> None:
    shipped = Path(__file__).resolve().parents[2] / "recipes" / "tiny.toml"
    absent = tmp_path / "absent"
    done = isoflop("train", str(shipped), "--runs-dir", str(tmp_path), "--set", f"shards={absent}")
    assert done.returncode == 4
    assert f"isoflop data tokenize --out {absent}" in done.stderr


def test_resume_never_and_must_refuse_the_folder_they_should(isoflop: Isoflop, place: Path, tmp_path: Path) -> None:
    command = ("train", str(place / "recipe.toml"), "--runs-dir", str(tmp_path), "--json")
    absent = isoflop(*command, "--resume", "must")
    assert absent.returncode == 2
    assert "holds no run to go on with" in absent.stderr
    assert isoflop(*command, "--resume", "never").returncode == 0
    again = isoflop(*command, "--resume", "never")
    assert again.returncode == 2
    assert "holds a run that is finished" in again.stderr


def test_a_run_carried_from_a_base_says_from_where(isoflop: Isoflop, place: Path, tmp_path: Path) -> None:
    carried = ("--set", "parametrisation.name=completep", "--set", "parametrisation.base_width=4")
    command = ("train", str(place / "recipe.toml"), "--runs-dir", str(tmp_path), "--json")
    done = isoflop(*command, *carried)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "finished"
    assert "completep: width 4, depth 1 times the base's" in done.stderr
    wrong = isoflop(*command, "--set", "parametrisation.name=mup")
    assert wrong.returncode == 2
    assert 'parametrisation "mup" needs base_width' in wrong.stderr
