"""Where a run is trained changes none of its digits, and whoever is killed there costs nothing but time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from tests.train.nano import BATCH, nano

from isoflop import registry
from isoflop.errors import UsageError
from isoflop.specs.recipe import Recipe
from isoflop.specs.run import Run
from isoflop.specs.schedule import Schedule
from isoflop.train import executors, store
from isoflop.train.branch import Branch, Rung
from isoflop.train.cores import Gpu, visible
from isoflop.train.executors import Asked, Executor
from isoflop.train.executors.slurm import JOBS
from isoflop.train.sweep import SweepEvent, sweep

LONG = 800  # steps: whoever is killed at the beginning is killed long before the end
SETTINGS = {"slurm": {"cluster": "local"}}
Listener = Callable[[SweepEvent], None]


def go(
    rungs: list[Rung], folder: Path, executor: str, *, listen: Listener | None = None
) -> tuple[list[Run], list[str]]:
    """The runs, and what was told of all, without the steps."""
    told: list[str] = []

    def hear(event: SweepEvent) -> None:
        if event.kind not in {"tick", "step", "note"}:
            told.append(event.kind)
        if listen is not None:
            listen(event)

    runs = sweep(
        rungs,
        runs_dir=folder,
        workers=2,
        threads=1,
        peak_flop_per_s=None,
        on_event=hear,
        executor=executor,
        settings=SETTINGS.get(executor),
    )
    return runs, told


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    recipe = nano(tmp_path_factory.mktemp("data") / "shards", steps=30)
    return msgspec.structs.replace(
        recipe, name="trunk", schedule=Schedule(warmup_fraction=0.1, cooldown_fraction=0.0), evaluations=1
    )


@pytest.fixture(scope="module")
def long(trunk: Recipe) -> Recipe:
    return msgspec.structs.replace(trunk, name="long", n_tokens=LONG * BATCH)


@pytest.fixture(scope="module")
def rungs(trunk: Recipe, long: Recipe) -> list[Rung]:
    return [long, Branch(name="at10", trunk=trunk, step=10, cooldown_steps=4), trunk]


@pytest.fixture(scope="module")
def here(rungs: list[Rung], tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """The runs as this machine's own workers train them."""
    return go(rungs, tmp_path_factory.mktemp("local"), "local")[0]


@pytest.fixture(scope="module")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    """A Ray cluster of this machine, which every sweep below joins."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    started = executors.start("ray", Asked(workers=2, threads=1, runs_dir=tmp_path_factory.mktemp("ray")))
    yield started
    started.close()


def same(runs: list[Run], others: list[Run]) -> bool:
    """Whether they are the same runs, to the bit."""
    print(*(f"{run.id}: {run.status} {run.note}" for run in runs), sep="\n")  # a failed one says why
    facts = [
        [(r.id, r.key, r.status, r.loss_nats, r.n_tokens, r.compute_flop) for r in each] for each in (runs, others)
    ]
    return facts[0] == facts[1]


def processes(word: str) -> list[int]:
    """Processes of this machine with that word in their command lines."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdecimal() and word.encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def test_there_are_three_and_each_says_what_it_needs() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "sweep.md").read_text()
    names = set(registry.members("isoflop.train.executors"))
    assert {"local", "ray", "slurm"} <= names
    assert all(f"| `{name}` |" in page for name in names)
    with pytest.raises(UsageError, match="no executor named 'slrum'; did you mean 'slurm'"):
        executors.check("slrum")


def test_a_missing_package_is_named_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"executor 'ray' needs ray: pip install 'isoflop\[ray\]'"):
        executors.check("ray")


@pytest.mark.parametrize(("name", "setting"), [("local", "partition"), ("ray", "partition"), ("slurm", "partitoin")])
def test_an_unknown_setting_is_refused(name: str, setting: str, tmp_path: Path) -> None:
    pytest.importorskip({"ray": "ray", "slurm": "submitit"}.get(name, "msgspec"))
    with pytest.raises(UsageError, match=f"no setting of this executor named '{setting}'"):
        executors.start(name, Asked(workers=1, threads=1, runs_dir=tmp_path, settings={setting: "x"}))


def test_ray_trains_the_same_runs_and_an_actor_that_is_killed_costs_a_retry(
    ray_cluster: Executor, rungs: list[Rung], here: list[Run], tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill(event: SweepEvent) -> None:
        if event.kind == "started" and event.steps == LONG and not killed:
            killed.extend(processes("ray::Outpost"))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    runs, told = go(rungs, tmp_path, "ray", listen=kill)
    assert killed
    assert "retry" in told
    assert same(runs, here)


def test_slurm_jobs_train_the_same_runs_and_one_that_is_preempted_goes_on(
    rungs: list[Rung], here: list[Run], tmp_path: Path
) -> None:
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    stopped: list[int] = []

    def preempt(event: SweepEvent) -> None:
        if event.kind == "started" and event.steps == LONG and not stopped:
            stopped.extend(worker_of(tmp_path, event.run_id))
            for pid in stopped:
                os.kill(pid, signal.SIGTERM)

    runs, told = go(rungs, tmp_path, "slurm", listen=preempt)
    assert stopped
    assert told.count("retry") == 1
    assert same(runs, here)


def worker_of(folder: Path, run_id: str) -> list[int]:
    """The worker processes below a run's job."""
    job = int(msgspec.json.decode((folder / JOBS / run_id / "job.json").read_bytes())["job"])
    return [pid for pid in processes("isoflop.train.worker") if job in ancestors(pid)]


def ancestors(pid: int) -> list[int]:
    """The processes above one."""
    above = []
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        above.append(pid)
    return above


PARENT = """
import sys
from pathlib import Path
import msgspec
from isoflop.specs.recipe import Recipe
from isoflop.train.sweep import sweep

recipe = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Recipe)
sweep([recipe], runs_dir=Path(sys.argv[2]), workers=1, threads=1, peak_flop_per_s=None, executor="slurm",
      settings={"cluster": "local"}, on_event=lambda event: print(event.kind, flush=True))
"""


def test_a_sweep_that_was_killed_finds_its_slurm_job_at_work_and_reads_on(
    long: Recipe, here: list[Run], tmp_path: Path
) -> None:
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    (tmp_path / "recipe.json").write_bytes(msgspec.json.encode(long))
    command = [sys.executable, "-c", PARENT, str(tmp_path / "recipe.json"), str(tmp_path / "runs")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        for line in parent.stdout:
            if line == "started\n":
                break
        parent.kill()
    (box,) = (box for box in (tmp_path / "runs" / JOBS).iterdir() if (box / "job.json").exists())
    job = (box / "job.json").read_bytes()
    runs, told = go([long], tmp_path / "runs", "slurm")
    assert told.count("started") == 1
    assert (box / "job.json").read_bytes() == job
    assert same(runs, here[:1])


def test_a_job_whose_time_is_up_saves_and_puts_itself_back_into_the_queue(
    long: Recipe, here: list[Run], tmp_path: Path
) -> None:
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    warned: list[int] = []

    def warn(event: SweepEvent) -> None:
        if event.kind == "started" and not warned:
            (worker,) = worker_of(tmp_path, event.run_id)
            warned.append(ancestors(worker)[0])
            os.kill(warned[0], signal.SIGUSR2)

    runs, told = go([long], tmp_path, "slurm", listen=warn)
    assert told.count("retry") == 0  # the job is the same, and the sweep did not have to do anything
    assert told.count("started") == 2
    assert same(runs, here[:1])


def test_a_second_worker_waits_for_the_first_and_has_its_run(long: Recipe, here: list[Run], tmp_path: Path) -> None:
    """As after a sweep on a cluster was killed, whose jobs no other process knows of."""
    runs: list[Run] = []
    with Path(os.devnull).open("wb") as nowhere:
        first = subprocess.Popen(
            [sys.executable, "-m", "isoflop.train.worker"], stdin=subprocess.PIPE, stdout=nowhere, env=os.environ
        )
        assert first.stdin is not None
        request = {"do": "train", "folder": str(tmp_path / here[0].id), "recipe": msgspec.to_builtins(long)}
        first.stdin.write(msgspec.json.encode(request) + b"\n")
        first.stdin.flush()
        while store.read(tmp_path / here[0].id) is None:
            time.sleep(0.01)
        runs, told = go([long], tmp_path, "local")
        first.communicate()
    assert told == ["finished"]
    assert same(runs, here[:1])


LISTED = "0, GPU-aa, 81559\n1, GPU-bb, 81559\n2, GPU-cc, 40960\n"


@pytest.mark.parametrize(
    ("asked", "names"),
    [(None, ["0", "1", "2"]), ("2,0", ["2", "0"]), ("GPU-bb", ["1"]), ("", []), ("1,7,0", ["1"]), ("-1", [])],
)
def test_gpus_are_those_left_visible_in_their_order(asked: str | None, names: list[str]) -> None:
    found = visible(LISTED, asked=asked)
    assert [gpu.name for gpu in found] == names
    assert Gpu(name="2", memory_bytes=40960 * 2**20) in visible(LISTED, asked=None)


def test_a_machine_without_a_driver_has_none() -> None:
    assert visible("", asked=None) == []
    assert visible("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", asked=None) == []
