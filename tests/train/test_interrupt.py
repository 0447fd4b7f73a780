"""Signals to real processes: saved within a step, and the exit code that the scheduler reads."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import torch
from tests.train.nano import BATCH, nano, weights

from isoflop.errors import PreemptedError, StoppedError
from isoflop.specs.recipe import Recipe
from isoflop.train import checkpoint, record, store
from isoflop.train.interrupt import listening
from isoflop.train.loop import train


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return msgspec.structs.replace(nano(tmp_path_factory.mktemp("shards"), steps=400), evaluations=20)


def _stopped(recipe: Recipe, place: Path, *, after_lines: int, signals: list[int]) -> tuple[int, str]:
    """Exit code and what was said of `isoflop train`, signalled after so many lines of its log."""
    record.write_recipe(place, recipe)
    command = [sys.executable, "-m", "isoflop", "train", str(place / "recipe.toml"), "--runs-dir", str(place)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = [process.stderr.readline() for _ in range(after_lines)]
        for number in signals:
            process.send_signal(number)
        lines += process.stderr.readlines()
    return process.returncode, "".join(lines)


def test_a_scheduler_may_stop_a_run_again_and_again_and_its_end_is_the_same_to_the_bit(
    recipe: Recipe, tmp_path: Path
) -> None:
    """SIGUSR1 as Slurm's warning, and SIGTERM on top of it: exit 75, and the step reached is on the disk."""
    whole, before = train(recipe, folder=tmp_path / "whole"), 0
    attacks = [(1, [signal.SIGUSR1]), (9, [signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1])]
    for after_lines, signals in attacks:
        code, said = _stopped(recipe, tmp_path, after_lines=after_lines, signals=[int(number) for number in signals])
        assert code == 75, said
        stopped = re.search(r"stopped at step (\d+) of 400, saved; run the same command again", said)
        assert stopped, said
        step = int(stopped[1])
        if step:  # at 0 there is nothing to save yet
            newest = checkpoint.listing(tmp_path / "nano")[-1]
            assert (newest.step, newest.damage) == (step, "")
        run = store.read(tmp_path / "nano")
        assert run is not None
        assert (run.status, run.n_tokens) == ("interrupted", step * BATCH)
        assert step >= before
        before = step
    assert before
    again = train(recipe, folder=tmp_path / "nano")
    assert again.loss_nats == whole.loss_nats
    ours, theirs = weights(tmp_path / "whole"), weights(tmp_path / "nano")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_keyboard_is_130() -> None:
    with listening() as wish:
        signal.raise_signal(signal.SIGINT)
        assert wish
        assert isinstance(wish.error("there"), StoppedError)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_what_came_first_decides_and_a_second_ctrl_c_is_taken_at_its_word(number: signal.Signals) -> None:
    with listening() as wish:
        for each in (number, signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.raise_signal(each)
        assert isinstance(wish.error("there"), PreemptedError)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(number) is signal.SIG_DFL


def test_whoever_listens_inside_hears_what_came_before() -> None:
    with listening() as outer:
        signal.raise_signal(signal.SIGUSR1)
        with listening() as inner:
            assert inner is outer
            assert inner
        assert signal.getsignal(signal.SIGUSR1) == outer.note
