"""What is started together fits into the memory there is, by the same count that foresees a run."""

from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from tests.train.nano import BATCH, nano

from isoflop.specs.recipe import Recipe
from isoflop.specs.schedule import Schedule
from isoflop.train import executors, packing
from isoflop.train.branch import Branch, Rung, own_flop
from isoflop.train.executors import Asked
from isoflop.train.executors.local import Local
from isoflop.train.packing import PROCESS_BYTES, Packing, needs_bytes
from isoflop.train.places import Places
from isoflop.train.predicted import layout_of, predict, usual_engine
from isoflop.train.sweep import SweepEvent, sweep

HERE = "this machine"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return nano(tmp_path_factory.mktemp("data") / "shards", steps=30)


def test_a_worker_needs_what_is_predicted_for_its_run_and_its_process(recipe: Recipe) -> None:
    engine = usual_engine(recipe, kind="cpu")
    foreseen = predict(recipe, engine=engine, layout=layout_of(recipe, rows=engine.rows), device=None)
    assert foreseen.memory_bytes is not None
    assert needs_bytes(recipe, kind="cpu") == PROCESS_BYTES + foreseen.memory_bytes


@pytest.mark.parametrize(("room", "beside", "fits"), [(2.1, 1, True), (2.1, 2, False), (3.1, 2, True), (0.1, 0, True)])
def test_runs_fit_beside_each_other_as_long_as_their_needs_do_and_one_alone_always(
    recipe: Recipe, room: float, beside: int, fits: bool
) -> None:
    packed = Packing({HERE: room * needs_bytes(recipe, kind="cpu")})
    assert packed.fits(recipe, memory=HERE, beside=[recipe] * beside) is fits
    assert packed.fits(recipe, memory="another", beside=[recipe] * beside)


@pytest.mark.parametrize(("room", "most"), [(1.5, 1), (2.5, 2)])
def test_two_workers_never_hold_more_than_the_room_there_is(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: float, most: int
) -> None:
    """The machine is said to have room for one run and a half, or for two and a half."""

    class Small(Local):
        def __init__(self, **rest: object) -> None:
            super().__init__(**rest)  # type: ignore[arg-type]
            self.room_bytes = {HERE: room * needs_bytes(recipe, kind="cpu")}

    monkeypatch.setattr(executors.local, "Local", Small)
    at_once, seen = set[str](), 0

    def hear(event: SweepEvent) -> None:
        nonlocal seen
        if event.kind == "finished":
            at_once.discard(event.run_id)
        elif event.kind not in {"skipped", "tick"} and event.done < event.total:
            at_once.add(event.run_id)
        seen = max(seen, len(at_once))

    recipes = [msgspec.structs.replace(recipe, seed=seed, n_tokens=400 * BATCH) for seed in range(3)]
    runs = sweep(recipes, runs_dir=tmp_path, workers=2, threads=1, peak_flop_per_s=None, on_event=hear)
    assert [run.status for run in runs] == ["finished"] * 3
    assert seen == most


def test_a_trunk_weighs_as_much_as_the_longest_chain_that_hangs_on_it(recipe: Recipe, tmp_path: Path) -> None:
    """A trunk of 30 steps whose branch takes 40 more from step 20 is 60 long: between runs of 50 and of 70."""
    trunk = msgspec.structs.replace(recipe, schedule=Schedule(warmup_fraction=0.1, cooldown_fraction=0.0))
    branch = Branch(name="branch", trunk=trunk, step=20, cooldown_steps=40)
    alone: list[Rung] = [msgspec.structs.replace(recipe, n_tokens=steps * BATCH) for steps in (50, 70)]
    places = Places([*alone, trunk, branch], runs_dir=tmp_path)
    order = sorted(places.all, key=lambda place: place.ahead_flop, reverse=True)
    assert [place.rung for place in order] == [alone[1], trunk, alone[0], branch]
    step = own_flop(recipe) / 30
    assert [round(place.ahead_flop / step) for place in order] == [70, 60, 50, 40]
    assert all(a.ahead_flop > b.ahead_flop for a, b in pairwise(order))


def test_more_workers_than_gpus_are_refused_unless_they_shall_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from isoflop.errors import UsageError
    from isoflop.train.cores import Gpu
    from isoflop.train.executors import local

    monkeypatch.setattr(local, "gpus", lambda: [Gpu(name="0", memory_bytes=8e10), Gpu(name="3", memory_bytes=8e10)])
    asked = Asked(workers=4, threads=1, runs_dir=tmp_path, gpu=True)
    with pytest.raises(UsageError, match="4 workers on 2 GPUs: ask for at most 2, or for more on each"):
        local.open(asked)
    shared = local.open(msgspec.structs.replace(asked, per_gpu=2))
    assert {name for name in shared.room_bytes if name.startswith("GPU")} == {"GPU 0", "GPU 3"}
    assert packing.PROCESS_BYTES < shared.room_bytes["GPU 0"] == 8e10
