"""Writing beside training: what is told, what is lost when the disk is full, what is held against damage."""

import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import torch
from tests.train.nano import curve, interrupt, nano, weights

from isoflop.errors import InputError, ResourceError
from isoflop.specs.recipe import Recipe
from isoflop.specs.saving import Saving
from isoflop.train import checkpoint, journal, manifest, snapshot, soundness, store
from isoflop.train.events import Event
from isoflop.train.loop import train
from isoflop.train.manifest import Member
from isoflop.train.writer import Writer


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setattr(journal, "_REPORT_S", -1.0)
    return nano(tmp_path / "shards", steps=30)


def _often(recipe: Recipe, **how: object) -> Recipe:
    return msgspec.structs.replace(recipe, checkpoint=Saving(every_steps=1, **how))  # type: ignore[arg-type]


def test_training_goes_on_while_a_checkpoint_is_written_and_it_is_told_when_it_is_there(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writing of step 12's checkpoint waits for step 13: were training to wait for it, neither would end."""
    gate, heard, whole = threading.Event(), list[tuple[str, int]](), checkpoint.save

    def slow(parent: Path, *, step: int, **rest: object) -> Path:
        if step == 12:
            assert gate.wait(60)
        return whole(parent, step=step, **rest)  # type: ignore[arg-type]

    def hear(event: Event) -> None:
        heard.append((event.kind, event.step))
        if event.kind == "saved":
            assert any(entry.step == event.step for entry in checkpoint.listing(tmp_path / "run"))
        if (event.kind, event.step) == ("step", 13):
            gate.set()

    monkeypatch.setattr(checkpoint, "save", slow)
    changed = msgspec.structs.replace(recipe, checkpoint=Saving(every_steps=12))
    assert train(changed, folder=tmp_path / "run", on_event=hear).status == "finished"
    assert heard.index(("step", 13)) < heard.index(("saved", 12))
    for step in (10, 20, 30):  # on the disk before it is evaluated
        assert heard.index(("saved", step)) < heard.index(("evaluation", step))


def test_the_copy_is_of_its_step_though_the_weights_move_on(recipe: Recipe, tmp_path: Path) -> None:
    """Every step's checkpoint, written beside training, is the one written while training waits."""
    keep = {"keep": 99}
    train(_often(recipe, **keep), folder=tmp_path / "beside")
    train(_often(recipe, background=False, **keep), folder=tmp_path / "waiting")
    beside, waiting = (checkpoint.listing(tmp_path / name) for name in ("beside", "waiting"))
    assert [entry.step for entry in beside] == [entry.step for entry in waiting] == list(range(31))
    for one, other in zip(beside, waiting, strict=True):
        assert one.manifest is not None
        assert other.manifest is not None
        assert one.manifest.members == other.manifest.members
        assert one.manifest.metrics == other.manifest.metrics


def test_where_memory_is_short_training_waits_and_says_so(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "memory_of_machine", lambda: (1e9, 10_000.0))
    events: list[Event] = []
    run = train(_often(recipe), folder=tmp_path / "run", on_event=events.append)
    assert run.status == "finished"
    assert sum("memory is short" in event.text for event in events) == 1


def test_what_fails_in_the_thread_is_raised_once_in_the_loop() -> None:
    def fail() -> None:
        raise ResourceError("full")

    writer, then = Writer(), list[str]()
    writer.start(fail, lambda: then.append("told"))
    with pytest.raises(ResourceError, match="full"):
        writer.wait()
    writer.start(lambda: None, lambda: then.append("told"))
    writer.wait()
    assert then == ["told"]


@contextmanager
def _files_of_at_most(n_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("background", [True, False])
def test_a_full_disk_stops_the_run_and_loses_no_step_that_was_told(
    recipe: Recipe, tmp_path: Path, background: bool
) -> None:
    whole = train(recipe, folder=tmp_path / "whole")
    told: list[int] = []

    def hear(event: Event) -> None:
        if event.kind == "saved":
            told.append(event.step)
        if event.kind == "step" and event.step == 17:
            resource.setrlimit(resource.RLIMIT_FSIZE, (8000, resource.RLIM_INFINITY))

    with _files_of_at_most(resource.RLIM_INFINITY), pytest.raises(ResourceError, match="the disk is full") as caught:
        train(_often(recipe, background=background), folder=tmp_path / "run", on_event=hear)
    assert caught.value.exit_code == 6
    assert 15 <= told[-1] <= 17
    run = store.read(tmp_path / "run")
    assert run is not None
    assert run.status == "failed"
    assert checkpoint.listing(tmp_path / "run")[-1].step == told[-1]
    events: list[Event] = []
    again = train(recipe, folder=tmp_path / "run", on_event=events.append)
    assert events[0].step == told[-1]
    assert again.loss_nats == whole.loss_nats
    ours, theirs = weights(tmp_path / "whole"), weights(tmp_path / "run")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_full_disk_at_the_very_last_save_is_no_finished_run(recipe: Recipe, tmp_path: Path) -> None:
    """The step is done, and its checkpoint is not there: the run failed with code 6, and is finished by the next."""
    whole = train(recipe, folder=tmp_path / "whole")

    def hear(event: Event) -> None:
        if (event.kind, event.step) == ("step", 30):
            resource.setrlimit(resource.RLIMIT_FSIZE, (8000, resource.RLIM_INFINITY))

    with _files_of_at_most(resource.RLIM_INFINITY), pytest.raises(ResourceError, match="the disk is full") as caught:
        train(recipe, folder=tmp_path / "run", on_event=hear)
    assert caught.value.exit_code == 6
    run = store.read(tmp_path / "run")
    assert run is not None
    assert (run.status, run.loss_nats) == ("failed", None)
    assert train(recipe, folder=tmp_path / "run").loss_nats == whole.loss_nats


def test_an_old_checkpoint_that_cannot_be_taken_away_is_named(recipe: Recipe, tmp_path: Path) -> None:
    """A file stands where the old one would be moved to; the new one is whole all the same."""
    interrupt(recipe, tmp_path / "run", 14)
    old = checkpoint.listing(tmp_path / "run")[1]  # the first is step 0, which a rollback may need
    old.folder.with_name(f".{old.folder.name}.removing").write_bytes(b"")
    with pytest.raises(ResourceError, match="cannot write here"):
        train(_often(recipe), folder=tmp_path / "run")
    newest = checkpoint.listing(tmp_path / "run")[-1]
    assert checkpoint.load(newest.folder).manifest.step > 14


def test_a_checkpoint_that_the_disk_gives_back_no_more_is_passed_over(recipe: Recipe, tmp_path: Path) -> None:
    """/proc/self/mem is a regular file of no bytes whose reading is an input/output error."""
    whole = train(recipe, folder=tmp_path / "whole")
    interrupt(recipe, tmp_path / "run", 14)
    entry = checkpoint.listing(tmp_path / "run")[-1]
    assert entry.manifest is not None
    members = {name: Member(sha256=member.sha256, n_bytes=0) for name, member in entry.manifest.members.items()}
    for name in members:
        (entry.folder / name).unlink()
        (entry.folder / name).symlink_to("/proc/self/mem")
    manifest.write(entry.folder, msgspec.structs.replace(entry.manifest, members=members))
    events: list[Event] = []
    assert train(recipe, folder=tmp_path / "run", on_event=events.append).loss_nats == whole.loss_nats
    assert any("cannot be read (Input/output error)" in event.text for event in events)


@pytest.mark.parametrize(
    "damage",
    [b'{"step": 3, "n_tok\n', b"\0" * 64, b"\0" * 64 + b"\n", b'{"step": "x"}\n', b"\xff\n"],
    ids=["cut off", "zeros", "a line of zeros", "another type", "no text"],
)
def test_a_damaged_last_line_of_the_curve_costs_that_line_alone(recipe: Recipe, tmp_path: Path, damage: bytes) -> None:
    train(recipe, folder=tmp_path / "whole")
    interrupt(recipe, tmp_path / "run", 14)
    path = tmp_path / "run" / store.METRICS
    path.write_bytes(path.read_bytes() + damage)
    events: list[Event] = []
    train(recipe, folder=tmp_path / "run", on_event=events.append)
    said = [event.text for event in events if event.text.startswith("left out of the curve")]
    assert len(said) == 1
    assert "metrics.jsonl line" in said[0]
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(recipe: Recipe, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(ResourceError, match="cannot write here"):
        train(recipe, folder=closed / "run")


def test_when_every_checkpoint_is_damaged_the_run_is_not_begun_again(recipe: Recipe, tmp_path: Path) -> None:
    interrupt(recipe, tmp_path / "run", 14)
    for entry in checkpoint.listing(tmp_path / "run"):
        (entry.folder / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match="checkpoints is whole"):
        train(recipe, folder=tmp_path / "run")


@pytest.mark.parametrize("name", ["train-00000.bin", "validation-00000.bin", "train-00000.ends.bin"])
def test_a_flipped_byte_in_a_shard_is_found_before_the_first_step(recipe: Recipe, tmp_path: Path, name: str) -> None:
    _flip(Path(recipe.shards) / name)
    with pytest.raises(InputError, match=rf"{name}: damaged"):
        train(recipe, folder=tmp_path / "run")
    run = store.read(tmp_path / "run")
    assert run is not None
    assert (run.status, run.n_tokens) == ("failed", 0)


def test_a_shard_changed_between_two_starts_is_found(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(recipe, tmp_path / "run", 14)
    path = Path(recipe.shards) / "train-00000.bin"
    seen = path.stat()
    _flip(path)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    monkeypatch.setattr(soundness, "_seen", {})
    with pytest.raises(InputError, match=r"train-00000\.bin: damaged"):
        train(recipe, folder=tmp_path / "run")


@pytest.mark.parametrize(("change", "said"), [(lambda path: path.unlink(), "missing"), (None, "bytes where")])
def test_a_missing_or_short_shard_is_named(recipe: Recipe, tmp_path: Path, change: object, said: str) -> None:
    path = Path(recipe.shards) / "train-00000.bin"
    if callable(change):
        change(path)
    else:
        path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(InputError, match=rf"train-00000\.bin: .*{said}"):
        train(recipe, folder=tmp_path / "run")


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
