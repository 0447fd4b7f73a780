"""Branches in a sweep: they begin while their trunk trains on, and what is deleted or killed changes no run."""

import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from tests.train.nano import BATCH, nano
from tests.train.resting import Brake

from isoflop.errors import UsageError
from isoflop.specs.divergence import Divergence
from isoflop.specs.recipe import Recipe
from isoflop.specs.run import Run
from isoflop.specs.saving import Saving
from isoflop.specs.schedule import Schedule
from isoflop.train import checkpoint, store
from isoflop.train.branch import Branch, Rung
from isoflop.train.loop import train
from isoflop.train.sweep import SweepEvent, sweep

POINTS, TRUNK, COOLDOWN = (10, 35, 60), 60, 8


def go(rungs: list[Rung], folder: Path, *, workers: int = 2) -> tuple[list[Run], list[SweepEvent]]:
    events: list[SweepEvent] = []
    runs = sweep(rungs, runs_dir=folder, workers=workers, threads=1, peak_flop_per_s=None, on_event=events.append)
    return runs, events


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A run that warms up and stays at its peak."""
    recipe = nano(tmp_path_factory.mktemp("data") / "shards", steps=TRUNK)
    return msgspec.structs.replace(
        recipe, name="trunk", schedule=Schedule(warmup_fraction=0.1, cooldown_fraction=0.0), evaluations=1
    )


def branches(trunk: Recipe) -> list[Rung]:
    return [Branch(name=f"at{step}", trunk=trunk, step=step, cooldown_steps=COOLDOWN) for step in POINTS]


class Ladder(NamedTuple):
    rungs: list[Rung]
    folder: Path
    runs: list[Run]
    events: list[SweepEvent]


@pytest.fixture(scope="module")
def ladder(trunk: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Ladder:
    """A trunk behind its three branches."""
    rungs: list[Rung] = [*branches(trunk), trunk]
    folder = tmp_path_factory.mktemp("ladder")
    return Ladder(rungs, folder, *go(rungs, folder))


def test_a_branch_is_the_run_of_its_length_trained_in_one_go(ladder: Ladder, tmp_path: Path) -> None:
    for rung, run in zip(ladder.rungs[:-1], ladder.runs[:-1], strict=True):
        assert isinstance(rung, Branch)
        assert run.status == "finished"
        assert run.n_tokens == rung.n_tokens == (rung.step + COOLDOWN) * BATCH
        assert run.origin is not None
        assert (run.origin.key, run.origin.step, run.origin.take) == (ladder.runs[-1].key, rung.step, "state")
        alone = train(msgspec.structs.replace(rung.recipe(), origin=None), folder=tmp_path / rung.name)
        assert run.loss_nats == alone.loss_nats
        assert run.unique_tokens == alone.unique_tokens


def test_the_trunk_keeps_the_points_alone_and_its_key_does_not_know_of_them(ladder: Ladder, trunk: Recipe) -> None:
    kept = [entry.step for entry in checkpoint.listing(ladder.folder / ladder.runs[-1].id)]
    assert set(POINTS) <= set(kept)
    assert len(kept) <= len(POINTS) + 3  # the newest two, and the beginning, which a rollback may go to
    data = ladder.runs[-1].stamp.inputs["shards"] if ladder.runs[-1].stamp else ""
    assert trunk.key(data_sha256=data) == ladder.runs[-1].key


def test_the_same_ladder_again_does_no_work_though_all_checkpoints_are_gone(ladder: Ladder, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(ladder.folder, copy)
    for run in ladder.runs:
        shutil.rmtree(copy / run.id / "checkpoints")
    runs, events = go(ladder.rungs, copy)
    assert runs == ladder.runs
    assert [e.kind for e in events] == ["skipped"] * len(runs)


def test_a_lost_trunk_is_trained_again_for_the_branches_that_miss_it(ladder: Ladder, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(ladder.folder, copy)
    for lost in (ladder.runs[-1].id, ladder.runs[1].id):
        shutil.rmtree(copy / lost)
    runs, events = go(ladder.rungs, copy, workers=1)
    assert [run.loss_nats for run in runs] == [run.loss_nats for run in ladder.runs]
    assert [run.key for run in runs] == [run.key for run in ladder.runs]
    assert {e.run_id for e in events if e.kind == "skipped"} == {ladder.runs[0].id, ladder.runs[2].id}


def test_a_point_that_an_ended_trunk_did_not_keep_is_told_and_the_others_go_on(
    ladder: Ladder, trunk: Recipe, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(ladder.folder, copy)
    late = Branch(name="late", trunk=trunk, step=22, cooldown_steps=3)
    more = Branch(name="more", trunk=trunk, step=10, cooldown_steps=3)
    runs, _ = go([late, more], copy, workers=1)
    assert [run.status for run in runs] == ["failed", "finished"]
    assert "keeps no whole checkpoint of step 22; remove its folder" in runs[0].note
    shutil.rmtree(copy / ladder.runs[-1].id)
    again, _ = go([late, more], copy, workers=1)
    assert [run.status for run in again] == ["finished", "finished"]
    assert runs[0].key not in {run.key for run in store.read_sweep(copy)}


def test_a_branch_of_a_state_that_its_trunk_has_taken_back_is_trained_again(ladder: Ladder, tmp_path: Path) -> None:
    """As when a trunk goes back after the branch has begun: its checkpoint of that step is then another."""
    copy = tmp_path / "copy"
    shutil.copytree(ladder.folder, copy)
    where = copy / ladder.runs[-1].id / "checkpoints" / f"step-{POINTS[0]:08d}"
    before = checkpoint.load(where)
    tensors = {group: {name: t.clone() for name, t in rows.items()} for group, rows in before.tensors.items()}
    next(iter(tensors["model"].values())).mul_(1.01)
    checkpoint.save(
        where.parent,
        step=POINTS[0],
        key=before.manifest.key,
        tensors=tensors,
        state=before.manifest.state,
        recipe=before.manifest.recipe,
        keep=checkpoint.Keep(every=1),
    )
    runs, _ = go(ladder.rungs, copy, workers=1)
    assert runs[1:] == ladder.runs[1:]
    assert runs[0].status == "finished"
    assert runs[0].key != ladder.runs[0].key
    assert runs[0].loss_nats != ladder.runs[0].loss_nats
    assert ladder.runs[0].key not in {run.key for run in store.read_sweep(copy)}


def test_a_trunk_that_diverges_takes_the_branches_beyond_with_it_and_no_other(trunk: Recipe, tmp_path: Path) -> None:
    """Its rate is so high that every step from the second on is absurd; from step 1 it may still branch off."""
    wild = msgspec.structs.replace(
        trunk,
        optimizer=msgspec.structs.replace(trunk.optimizer, learning_rate=1e9),
        schedule=Schedule(warmup_fraction=0.0, cooldown_fraction=0.0),
        divergence=Divergence(patience=20, window=20, rollbacks=0),
    )
    far = Branch(name="far", trunk=wild, step=40, cooldown_steps=3)
    calm = Branch(name="calm", trunk=trunk, step=10, cooldown_steps=3)
    near = Branch(name="near", trunk=wild, step=5, cooldown_steps=3)
    runs, events = go([wild, far, near, calm], tmp_path, workers=1)
    assert runs[0].status == "diverged"
    assert [runs[1].status, runs[3].status] == ["failed", "finished"]
    assert f"its trunk {runs[0].id} ended at step" in runs[1].note
    assert runs[2].status in {"finished", "diverged"}
    assert {e.run_id for e in events if e.kind == "failed"} == {runs[1].id}
    assert store.read(tmp_path / runs[1].id) is None  # it never began


def test_a_branch_begins_while_its_trunk_trains_on(
    trunk: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trunk rests after its first evaluation, at step 20, until the branch from step 10 has ended."""
    (tmp_path / "brake").mkdir()
    brake, ended = Brake(tmp_path / "brake"), list[str]()
    monkeypatch.setattr(sys, "executable", str(brake.python))

    def hear(event: SweepEvent) -> None:
        if event.kind == "finished":
            ended.append(event.run_id)
            if len(ended) == 1:
                brake.release()

    resting = msgspec.structs.replace(trunk, evaluations=3)
    early = Branch(name="early", trunk=resting, step=10, cooldown_steps=2)
    runs = sweep([early, resting], runs_dir=tmp_path, workers=2, threads=1, peak_flop_per_s=None, on_event=hear)
    assert ended == [run.id for run in runs]


def test_equal_branches_of_two_trunks_are_one_run(trunk: Recipe, tmp_path: Path) -> None:
    """Trunks that differ in their length alone stand at one state when they branch off."""
    longer = msgspec.structs.replace(
        trunk, n_tokens=2 * trunk.n_tokens, schedule=Schedule(warmup_fraction=0.05, cooldown_fraction=0.0)
    )
    twins: list[Rung] = [
        Branch(name=f"of{each.steps}", trunk=each, step=10, cooldown_steps=2) for each in (trunk, longer)
    ]
    runs, _ = go(twins, tmp_path)
    assert runs[0] == runs[1]
    assert runs[0].status == "finished"


def test_a_branch_is_refused_before_anything_is_trained(trunk: Recipe) -> None:
    with pytest.raises(UsageError, match="trunk has steps 1 to 60"):
        Branch(name="b", trunk=trunk, step=61, cooldown_steps=2)
    with pytest.raises(UsageError, match="cooldown_steps is 0"):
        Branch(name="b", trunk=trunk, step=5, cooldown_steps=0)
    with pytest.raises(UsageError, match="never stable"):
        Branch(
            name="b", trunk=msgspec.structs.replace(trunk, schedule=Schedule(name="cosine")), step=9, cooldown_steps=2
        )
    ruled = msgspec.structs.replace(trunk, optimizer=msgspec.structs.replace(trunk.optimizer, learning_rate=None))
    with pytest.raises(UsageError, match=r"set optimizer\.learning_rate"):
        Branch(name="b", trunk=ruled, step=9, cooldown_steps=2)
    with pytest.raises(UsageError, match=r"checkpoint\.keep_at is \[0\]"):
        Saving(keep_at=(0,))
