"""The loop: pulling the plug anywhere changes nothing, and nothing that went wrong is called finished."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from tests.train.nano import BATCH, MODEL, curve, interrupt, nano, weights

from isoflop import files
from isoflop.errors import InputError, UsageError
from isoflop.specs.architecture import Routing
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.recipe import Recipe
from isoflop.specs.run import Run
from isoflop.specs.saving import Saving
from isoflop.specs.schedule import Schedule
from isoflop.train import journal, record, store
from isoflop.train.events import Event
from isoflop.train.loop import train
from isoflop.train.session import evaluation_steps


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return nano(tmp_path_factory.mktemp("shards"), steps=30)


@pytest.fixture(autouse=True)
def _every_step_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_REPORT_S", -1.0)


def _assert_equal_runs(a: Path, b: Path, first: Run, second: Run) -> None:
    assert first.loss_nats == second.loss_nats
    assert first.bits_per_byte == second.bits_per_byte
    ours, theirs = weights(a), weights(b)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert curve(a) == curve(b)


def test_muon_says_whose_learning_rate_it_takes(recipe: Recipe, tmp_path: Path) -> None:
    recipe = msgspec.structs.replace(
        recipe, optimizer=Optimizer(name="muon"), schedule=Schedule(name="cosine", final_fraction=0.1)
    )
    events: list[Event] = []
    train(recipe, folder=tmp_path / "whole", on_event=events.append)
    assert any("of AdamW with warmup-stable-decay: try others" in event.text for event in events)


def test_a_mixture_of_experts_counts_the_work_of_those_that_are_active(recipe: Recipe, tmp_path: Path) -> None:
    mixed = msgspec.structs.replace(MODEL, experts=Routing(count=4, active=2, shared=16))
    whole = train(msgspec.structs.replace(recipe, model=mixed), folder=tmp_path)
    assert whole.parameters is not None
    assert whole.parameters.idle == 2 * 3 * 16 * 32
    assert whole.compute_flop == 6.0 * whole.parameters.active * whole.n_tokens


def test_a_run_that_falls_back_to_the_checkpoint_before_ends_the_same(recipe: Recipe, tmp_path: Path) -> None:
    whole = train(recipe, folder=tmp_path / "whole")
    folder = tmp_path / "damaged"
    events: list[Event] = []
    interrupt(recipe, folder, 24)
    newest = max((folder / record.CHECKPOINTS).glob("step-*"))
    (newest / "model.safetensors").write_bytes(b"torn")
    again = train(recipe, folder=folder, on_event=events.append)
    assert any("skipped" in event.text for event in events)
    assert next(event.step for event in events if event.kind == "started") == 20
    _assert_equal_runs(tmp_path / "whole", folder, whole, again)


def test_a_finished_run_is_returned_and_not_trained_again(recipe: Recipe, tmp_path: Path) -> None:
    first = train(recipe, folder=tmp_path)
    events: list[Event] = []
    assert train(recipe, folder=tmp_path, on_event=events.append) == first
    assert events == []


def test_two_different_runs_do_not_share_a_folder(recipe: Recipe, tmp_path: Path) -> None:
    train(recipe, folder=tmp_path)
    with pytest.raises(UsageError, match="two different runs in one folder"):
        train(msgspec.structs.replace(recipe, seed=1), folder=tmp_path)


def test_the_second_starter_is_told_who_is_at_work(recipe: Recipe, tmp_path: Path) -> None:
    with record.claimed(tmp_path), pytest.raises(UsageError, match=f"process {os.getpid()} is already training here"):
        train(recipe, folder=tmp_path)


def test_the_run_says_what_was_measured(recipe: Recipe, tmp_path: Path) -> None:
    events: list[Event] = []
    run = train(recipe, folder=tmp_path, on_event=events.append, peak_flop_per_s=1e12)
    assert run.loss_nats is not None
    assert run.loss_nats < np.log(270) - 0.2
    assert run.parameters is not None
    assert run.n_params == run.parameters.total
    assert run.compute_flop == 6 * run.n_params * run.n_tokens
    assert run.mfu is not None
    assert run.tokens_per_s is not None
    assert run.model_flop is not None
    assert run.mfu == pytest.approx(run.model_flop / run.n_tokens * run.tokens_per_s / 1e12)
    assert run.validation is not None
    assert run.validation.startswith("validation:512@")
    assert [e.step for e in events if e.kind == "evaluation"] == [10, 20, 30]
    assert files.read_json(tmp_path / store.RUN, Run) == run
    rows = files.read_lines(tmp_path / store.METRICS, record.Row)
    assert [row.step for row in rows if row.loss_nats is not None] == list(range(1, 31))


def test_a_run_that_blows_up_is_called_diverged_with_its_step(recipe: Recipe, tmp_path: Path) -> None:
    wild = msgspec.structs.replace(recipe, optimizer=Optimizer(learning_rate=1e6, clip_norm=1e9))
    run = train(wild, folder=tmp_path)
    assert (run.status, run.loss_nats) == ("diverged", None)
    assert "diverged at step" in run.note
    assert train(wild, folder=tmp_path) == run


def test_missing_shards_are_answered_with_the_command_that_makes_them(recipe: Recipe, tmp_path: Path) -> None:
    absent = msgspec.structs.replace(recipe, shards=str(tmp_path / "none"))
    with pytest.raises(InputError, match="isoflop data tokenize --out"):
        train(absent, folder=tmp_path / "run")


def test_a_vocabulary_smaller_than_the_data_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    small = msgspec.structs.replace(recipe, model=msgspec.structs.replace(MODEL, vocabulary=100))
    with pytest.raises(UsageError, match=r"model\.vocabulary is 100"):
        train(small, folder=tmp_path / "run")


# Trains in lockstep: it tells each event and goes on when it gets a line.
LOCKSTEP = """
import sys, msgspec
from pathlib import Path
from isoflop.specs.recipe import Recipe
from isoflop.train import journal
from isoflop.train.loop import train

def tell(event):
    print(event.kind, event.step, flush=True)
    sys.stdin.readline()

journal._REPORT_S = -1.0
recipe = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Recipe)
train(recipe, folder=Path(sys.argv[2]), on_event=tell)
"""


def test_kill_at_random_moments_loses_nothing(recipe: Recipe, tmp_path: Path) -> None:
    """A process killed three times somewhere in a step or its saving ends where an undisturbed one does."""
    recipe = msgspec.structs.replace(recipe, n_tokens=150 * BATCH)
    whole = train(recipe, folder=tmp_path / "whole")
    files.write_json(tmp_path / "recipe.json", msgspec.structs.replace(recipe, checkpoint=Saving(every_steps=1)))
    folder, random, told, acknowledged = tmp_path / "killed", np.random.default_rng(0), 0, 0
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", LOCKSTEP, str(tmp_path / "recipe.json"), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            begun = process.stdout.readline().split()
            assert begun[0] == "started"
            assert int(begun[1]) >= acknowledged
            for _ in range(int(random.integers(10, 40))):
                begin = time.perf_counter()
                process.stdin.write("\n")
                process.stdin.flush()
                kind, step = process.stdout.readline().split()
                told = max(told, int(step))
                acknowledged = int(step) if kind == "saved" else acknowledged
                pace_s = time.perf_counter() - begin
            process.stdin.write("\n")
            process.stdin.flush()
            time.sleep(random.uniform(0.0, 1.0) * pace_s)  # it can come no further than to its next event
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    assert 3 <= acknowledged <= told < 150
    _assert_equal_runs(tmp_path / "whole", folder, whole, train(recipe, folder=folder))


def test_evaluations_are_spread_and_the_last_step_is_among_them(recipe: Recipe) -> None:
    assert evaluation_steps(recipe) == {10, 20, 30}
    assert evaluation_steps(msgspec.structs.replace(recipe, evaluations=99)) == set(range(1, 31))
