"""Many runs on one machine: what is done is not done again, and pulling the plug loses nothing."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import msgspec
import pytest
from tests.train.resting import HANG_S, REST, Brake

from isoflop.data.read import Document
from isoflop.data.tokenization import tokenize
from isoflop.errors import IsoflopError, ResourceError, UsageError
from isoflop.specs.architecture import Decoder
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.recipe import Recipe
from isoflop.specs.run import Run
from isoflop.train import store
from isoflop.train.choose import Alone, choose_threads, decide, fastest
from isoflop.train.places import run_id
from isoflop.train.sweep import SweepEvent, sweep

CONTEXT = 32
BATCH = 8 * CONTEXT
LONG = 300
FIRST_EVALUATION = LONG // 5
PEAK = 1e11


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few kilobytes of text that a nano model can learn something from."""
    words = ["law", "run", "token", "shard", "ladder", "fit", "plan", "loss", "model", "data", "step", "rate", "heat"]
    texts = [" ".join(words[(i * j) % len(words)] for j in range(1, 200)) + "\n" for i in range(1, 40)]
    documents = [Document(f"{i}.txt", text) for i, text in enumerate(texts)]
    folder = tmp_path_factory.mktemp("shards")
    tokenize(lambda: documents, folder=folder, vocabulary=280, validation_fraction=0.3, source="words in a circle")
    return folder


@pytest.fixture(scope="module")
def rung(shards: Path) -> Callable[..., Recipe]:
    """A recipe of so many steps."""

    def make(steps: int, *, learning_rate: float = 3e-3, seed: int = 0, width: int = 32) -> Recipe:
        model = Decoder(
            layers=1, width=width, heads=1, kv_heads=1, head_size=32, hidden=64, vocabulary=280, context=CONTEXT
        )
        return Recipe(
            name=f"w{width}-s{steps}",
            shards=str(shards),
            model=model,
            n_tokens=steps * BATCH,
            batch_tokens=BATCH,
            optimizer=Optimizer(learning_rate=learning_rate),
            seed=seed,
            device="cpu",
            validation_tokens=1024,
            evaluations=5,
        )

    return make


class Log(list[SweepEvent]):
    """Keeps every event, and does something at the first that fits."""

    def __init__(
        self, *, when: Callable[[SweepEvent], bool] = lambda e: False, then: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__()
        self.when, self.then, self.fired = when, then, 0

    def __call__(self, event: SweepEvent) -> None:
        self.append(event)
        if self.when(event):
            self.fired += 1
            self.then()


def go(recipes: list[Recipe], folder: Path, log: Log, *, workers: int = 1) -> list[Run]:
    return sweep(recipes, runs_dir=folder, workers=workers, threads=1, peak_flop_per_s=PEAK, on_event=log)


def workers_of(parent: int) -> list[int]:
    """Worker processes of a process, by their command lines."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            line = (process / "cmdline").read_bytes()
            above = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if b"isoflop.train.worker" in line and above == parent:
            found.append(int(process.name))
    return found


def children() -> list[int]:
    """Worker processes of this one."""
    return workers_of(os.getpid())


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def brake(tmp_path: Path) -> Brake:
    (tmp_path / "brake").mkdir()
    return Brake(tmp_path / "brake")


class Swept(NamedTuple):
    """A sweep that ended: what was asked, where, what came back and what was said."""

    recipes: list[Recipe]
    folder: Path
    runs: list[Run]
    log: Log


@pytest.fixture(scope="module")
def swept(rung: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """Two good runs, one that diverges, one that cannot be trained, and the longest, which others are held against."""
    narrow = msgspec.structs.replace(rung(20).model, vocabulary=100)
    recipes = [
        rung(20),
        rung(60, learning_rate=1e9),
        rung(40),
        msgspec.structs.replace(rung(30), model=narrow),
        rung(LONG),
        rung(LONG, seed=1),
    ]
    folder, log = tmp_path_factory.mktemp("runs"), Log()
    return Swept(recipes, folder, go(recipes, folder, log), log)


@pytest.fixture(scope="module")
def whole(swept: Swept) -> list[Run]:
    """The runs that every interrupted one below must equal, by seed."""
    return swept.runs[4:]


def test_runs_come_back_in_the_order_given_and_are_trained_longest_first(swept: Swept) -> None:
    assert [run.steps for run in swept.runs] == [20, 60, 40, 30, LONG, LONG]
    assert [run.status for run in swept.runs] == ["finished", "diverged", "finished", "failed", "finished", "finished"]
    assert [e.steps for e in swept.log if e.kind in {"finished", "diverged", "failed"}] == [LONG, LONG, 60, 40, 30, 20]
    assert swept.log[-1].fraction == 1.0
    assert swept.log[-1].done == swept.log[-1].total == 6
    assert all(0 <= a.fraction <= b.fraction for a, b in pairwise(swept.log))


def test_what_went_wrong_is_told_in_a_sentence_and_nothing_of_it_has_a_loss(swept: Swept) -> None:
    diverged, failed = swept.runs[1], swept.runs[3]
    assert diverged.loss_nats is None
    assert "diverged at step" in diverged.note
    assert failed.loss_nats is None
    assert "vocabulary" in failed.note
    told = {e.kind: e.reason for e in swept.log if e.reason}
    assert told["diverged"] == diverged.note
    assert told["failed"] == failed.note


def test_each_run_lies_in_a_folder_of_its_name_and_key_and_in_runs_jsonl(swept: Swept) -> None:
    for run, recipe in zip(swept.runs, swept.recipes, strict=True):
        assert run.key is not None
        assert run.id == f"{recipe.name}-{run.key[:8]}"
        assert store.read(swept.folder / run.id) == run
    assert store.read_sweep(swept.folder) == swept.runs


def test_mfu_and_speed_are_measured(whole: list[Run]) -> None:
    run = whole[0]
    assert run.tokens_per_s is not None
    assert run.tokens_per_s > 0
    assert run.model_flop is not None
    assert run.mfu == pytest.approx(run.model_flop / run.n_tokens * run.tokens_per_s / PEAK)


def test_a_second_sweep_does_no_work(swept: Swept, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    monkeypatch.setattr(sys, "executable", "/no/python/here")  # not even a worker is started
    assert go([swept.recipes[i] for i in (4, 1, 0)], swept.folder, log) == [swept.runs[i] for i in (4, 1, 0)]
    assert [e.kind for e in log] == ["skipped"] * 3
    assert log[-1].fraction == 1.0


def test_another_name_for_the_same_recipe_is_the_same_run(swept: Swept) -> None:
    renamed = msgspec.structs.replace(swept.recipes[0], name="another")
    assert go([renamed, swept.recipes[0]], swept.folder, Log()) == [swept.runs[0]] * 2


def test_runs_jsonl_keeps_the_runs_of_an_earlier_sweep_in_the_folder(swept: Swept) -> None:
    go(swept.recipes[:1], swept.folder, Log())
    assert sorted(run.id for run in store.read_sweep(swept.folder)) == sorted(run.id for run in swept.runs)


def kill_workers() -> None:
    """Pull the plug of every worker of this process."""
    for pid in children():
        os.kill(pid, signal.SIGKILL)


def test_a_killed_worker_costs_nothing_but_time_and_a_run_that_kills_two_has_failed(
    rung: Callable[..., Recipe], whole: list[Run], brake: Brake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill() -> None:
        kill_workers()
        if log.fired == 3:
            brake.release()

    unlucky, deadly = rung(LONG), rung(LONG, seed=1, width=64)
    log = Log(when=lambda e: e.kind == "evaluation" and log.fired < 3, then=kill)
    monkeypatch.setattr(sys, "executable", str(brake.python))
    runs = go([rung(20), unlucky, deadly], tmp_path / "runs", log)
    assert [run.status for run in runs] == ["finished", "finished", "failed"]
    # The deadly one is the longest and goes first: two deaths, then one more for the unlucky one, which goes on.
    assert log.fired == 3
    retries = [e for e in log if e.kind == "retry"]
    assert [e.run_id for e in retries] == [runs[2].id, runs[1].id]
    assert all("SIGKILL" in e.reason for e in retries)
    begun = [(e.run_id, e.step) for e in log if e.kind == "started"]
    assert begun[:4] == [(run.id, step) for run in (runs[2], runs[1]) for step in (0, FIRST_EVALUATION)]
    assert runs[1].loss_nats == whole[0].loss_nats
    assert "SIGKILL" in runs[2].note
    assert runs[2].loss_nats is None
    assert store.read(tmp_path / "runs" / runs[2].id) == runs[2]
    assert children() == []


def stillborn(folder: Path, *, which: Iterable[int]) -> Path:
    """A Python of whose processes those, counted from 1, end before they have begun."""
    folder.mkdir(exist_ok=True)
    python = folder / "python"
    python.write_text(
        f"""#!/bin/sh
until mkdir {shlex.quote(str(folder))}/$((n += 1)) 2>/dev/null; do :; done
case " {" ".join(map(str, which))} " in *" $n "*) echo "no such node" >&2; exit 7;; esac
exec {shlex.quote(sys.executable)} "$@"
"""
    )
    python.chmod(0o755)
    return python


def test_workers_lost_before_they_took_a_run_cost_it_nothing(
    rung: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log()
    # The first's run goes to the third, and is lost a second time.
    monkeypatch.setattr(sys, "executable", str(stillborn(tmp_path / "bin", which=[1, 3])))
    runs = go([rung(20), rung(21)], tmp_path / "runs", log, workers=2)
    assert [run.status for run in runs] == ["finished", "finished"]
    assert [e.kind for e in log if e.kind in {"retry", "started"}] == ["retry", "retry", "started", "started"]


def test_where_no_worker_starts_the_sweep_says_why_and_ends(
    rung: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(stillborn(tmp_path / "bin", which=range(1, 99))))
    with pytest.raises(IsoflopError, match=r"3 workers were lost before they took a run; the last: .*no such node"):
        go([rung(20), rung(21)], tmp_path / "runs", Log(), workers=2)
    assert store.read_sweep(tmp_path / "runs") == []


PARENT = """
import sys
from pathlib import Path
import click, msgspec
from isoflop.cli.shell import guarded
from isoflop.specs.recipe import Recipe
from isoflop.train.sweep import sweep

recipes = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=list[Recipe])
sys.executable = sys.argv[3]

def go(words):
    sweep(recipes, runs_dir=Path(sys.argv[2]), workers=2, threads=1, peak_flop_per_s=None,
          on_event=lambda event: print(event.kind, event.run_id, flush=True))

guarded(click.Command("sweep", callback=go, params=[click.Argument(["words"], nargs=-1)], add_help_option=False))
"""


class Parent:
    """A real process that sweeps, for pulling its plug. Its workers rest in the middle of their runs."""

    def __init__(self, recipes: list[Recipe], folder: Path, *, brake: Brake) -> None:
        folder.mkdir(exist_ok=True)
        listed = folder / "recipes.json"
        listed.write_bytes(msgspec.json.encode(recipes))
        self.process = subprocess.Popen(
            [sys.executable, "-c", PARENT, str(listed), str(folder), str(brake.python)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> "Parent":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def read_until(self, *kinds: str, runs: int = 1) -> None:
        """Until so many runs have shown an event of these kinds."""
        assert self.process.stdout is not None
        seen = set()
        for line in self.process.stdout:
            kind, run_id = line.split()
            if kind in kinds:
                seen.add(run_id)
            if len(seen) == runs:
                return
        raise AssertionError(f"it ended before {runs} runs had shown {kinds}: {self.process.communicate()}")

    def end(self) -> tuple[int, str]:
        """Exit code and what was on stderr."""
        _, stderr = self.process.communicate(timeout=HANG_S)
        return self.process.returncode, stderr

    def workers(self) -> list[int]:
        return workers_of(self.process.pid)


def test_ctrl_c_saves_leaves_nobody_behind_and_goes_on_to_the_same_result(
    rung: Callable[..., Recipe], whole: list[Run], brake: Brake, tmp_path: Path
) -> None:
    recipes, folder = [rung(LONG), rung(LONG, seed=1)], tmp_path / "runs"
    with Parent(recipes, folder, brake=brake) as parent:
        parent.read_until("evaluation", runs=2)
        workers = parent.workers()
        assert len(workers) == 2
        os.killpg(parent.process.pid, signal.SIGINT)  # what a terminal does: the whole group hears it
        returncode, stderr = parent.end()
    assert returncode == 130
    assert stderr.startswith("StoppedError: stopped with all runs saved in")
    assert len(stderr.splitlines()) == 1
    assert not any(alive(pid) for pid in workers)
    saved = store.runs(folder)
    assert [run.status for run in saved] == ["interrupted", "interrupted"]
    log = Log()
    runs = go(recipes, folder, log)
    assert [run.status for run in runs] == ["finished", "finished"]
    assert [run.loss_nats for run in runs] == [run.loss_nats for run in whole]
    begun = {e.run_id: e.step for e in log if e.kind == "started"}
    assert begun == {run.id: run.n_tokens // BATCH for run in saved}
    assert all(FIRST_EVALUATION <= step <= FIRST_EVALUATION + REST for step in begun.values())


def test_ctrl_c_before_a_run_has_begun_leaves_nothing_broken(
    rung: Callable[..., Recipe], swept: Swept, brake: Brake, tmp_path: Path
) -> None:
    with Parent([rung(20)], tmp_path / "runs", brake=brake) as parent:
        parent.read_until("tick", "started")  # by the first tick the worker has rarely imported torch
        os.killpg(parent.process.pid, signal.SIGINT)
        returncode, stderr = parent.end()
    assert returncode == 130
    assert len(stderr.splitlines()) == 1
    assert {run.status for run in store.runs(tmp_path / "runs")} <= {"interrupted"}
    (run,) = go([rung(20)], tmp_path / "runs", Log())
    assert run.loss_nats == swept.runs[0].loss_nats


def test_sigterm_is_an_orderly_stop_too(rung: Callable[..., Recipe], brake: Brake, tmp_path: Path) -> None:
    with Parent([rung(LONG)], tmp_path / "runs", brake=brake) as parent:
        parent.read_until("evaluation")
        (worker,) = parent.workers()
        parent.process.terminate()
        returncode, stderr = parent.end()
    assert returncode == 75
    assert len(stderr.splitlines()) == 1
    assert not alive(worker)
    assert [run.status for run in store.runs(tmp_path / "runs")] == ["interrupted"]


def test_two_sweeps_do_not_share_a_folder_and_a_killed_one_leaves_it_whole(
    rung: Callable[..., Recipe], whole: list[Run], brake: Brake, tmp_path: Path
) -> None:
    with Parent([rung(LONG)], tmp_path / "runs", brake=brake) as parent:
        parent.read_until("evaluation")
        (worker,) = parent.workers()
        with pytest.raises(ResourceError, match=f"another sweep .process {parent.process.pid}. is at work"):
            go([rung(20)], tmp_path / "runs", Log())
        parent.process.kill()
        parent.end()
    log = Log()
    (run,) = go([rung(LONG)], tmp_path / "runs", log)  # at once: the orphaned worker is still saving
    assert not alive(worker)
    assert next(e for e in log if e.kind == "started").step >= FIRST_EVALUATION
    assert run.loss_nats == whole[0].loss_nats


def test_a_full_disk_ends_the_sweep_and_with_room_again_it_goes_on(
    rung: Callable[..., Recipe], swept: Swept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file of a worker may grow beyond 16 KB, so no checkpoint is written whole."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nulimit -f 32\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    with monkeypatch.context() as full:
        full.setattr(sys, "executable", str(python))
        with pytest.raises(ResourceError, match="the disk is full"):
            go([rung(20), rung(40)], tmp_path / "runs", Log())
    assert children() == []
    runs = go([rung(20), rung(40)], tmp_path / "runs", Log())
    assert [run.loss_nats for run in runs] == [swept.runs[0].loss_nats, swept.runs[2].loss_nats]


def test_a_recipe_for_another_number_of_threads_is_refused(rung: Callable[..., Recipe], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is for 2 threads, the workers have 1"):
        go([msgspec.structs.replace(rung(20), threads=2)], tmp_path, Log())


@pytest.mark.parametrize(("name", "folder"), [("n98k-d2M", "n98k-d2M-1a2b3c4d"), ("a b:ü", "a-b-ü-1a2b3c4d")])
def test_a_folder_is_named_by_the_recipe_and_the_key(rung: Callable[..., Recipe], name: str, folder: str) -> None:
    assert run_id(msgspec.structs.replace(rung(20), name=name), key="1a2b3c4d5e6f7a8b") == folder


@pytest.mark.parametrize(
    ("together", "apart", "workers", "words"),
    [
        (1000.0, 1320.0, 4, "4 one-thread processes: x1.32"),
        (1320.0, 1000.0, 1, "one process with 4 threads: x1.32"),
        (1000.0, 990.0, 4, "x0.99"),
    ],
)
def test_the_faster_way_wins_and_a_tie_goes_to_separate_processes(
    together: float, apart: float, workers: int, words: str
) -> None:
    choice = decide(cores=4, together_tokens_per_s=together, apart_tokens_per_s=apart)
    assert (choice.workers, choice.threads) == (workers, 4 // workers)
    assert words in choice.reason


@pytest.mark.parametrize(
    ("rates", "threads", "asked"),
    [
        ({2: 16_500.0, 1: 9_300.0}, 2, [2, 1]),
        ({2: 17_187.0, 1: 42_880.0}, 1, [2, 1]),
        ({12: 10.0, 6: 20.0, 3: 30.0, 1: 29.0}, 3, [12, 6, 3, 1]),
        ({8: 10.0, 4: 9.0, 2: 99.0}, 8, [8, 4]),
        ({1: 5.0}, 1, [1]),
    ],
)
def test_a_run_alone_has_the_threads_it_is_fastest_with(
    rates: dict[int, float], threads: int, asked: list[int]
) -> None:
    tried: list[int] = []

    def rate(count: int) -> float:
        tried.append(count)
        return rates[count]

    assert fastest(rate, cores=max(rates)) == Alone(threads=threads, tokens_per_s=rates[threads])
    assert tried == asked


def test_the_threads_of_a_run_alone_are_tried_on_the_run_itself(rung: Callable[..., Recipe]) -> None:
    found = choose_threads(rung(20), cores=2, seconds=0.2)
    assert found.threads in {1, 2}
    assert found.tokens_per_s is not None
    assert found.tokens_per_s > 100
    with pytest.raises(IsoflopError, match=r"a measurement failed: .*vocabulary"):
        choose_threads(
            msgspec.structs.replace(rung(20), model=msgspec.structs.replace(rung(20).model, vocabulary=100)), cores=2
        )
