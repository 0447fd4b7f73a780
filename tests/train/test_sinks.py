"""Sinks: real ones where they are installed; one that fails, blocks or is late harms no run."""

import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest

from isoflop import files, registry
from isoflop.data.read import Document
from isoflop.data.tokenization import tokenize
from isoflop.errors import StoppedError, UnknownNameError, UsageError
from isoflop.specs.architecture import Decoder
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.recipe import Recipe
from isoflop.train import outlet, record, store
from isoflop.train.events import Event
from isoflop.train.loop import train
from isoflop.train.sinks import Opening, Sink, codecarbon

CONTEXT = 16
MODEL = Decoder(layers=1, width=16, heads=2, kv_heads=1, head_size=8, hidden=32, vocabulary=270, context=CONTEXT)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    words = ["law", "run", "token", "shard", "ladder", "fit", "plan", "loss", "model", "data", "step", "rate", "heat"]
    documents = [
        Document(f"{i}.txt", " ".join(words[(i * j) % len(words)] for j in range(1, 120)) + "\n") for i in range(1, 30)
    ]
    folder = tmp_path_factory.mktemp("shards")
    tokenize(lambda: documents, folder=folder, vocabulary=270, validation_fraction=0.3, source="words in a circle")
    return Recipe(
        name="nano", shards=str(folder), model=MODEL, n_tokens=12 * 64, batch_tokens=64,
        optimizer=Optimizer(learning_rate=3e-3), device="cpu", validation_tokens=512, evaluations=2,
    )  # fmt: skip


def interrupt(recipe: Recipe, folder: Path, *, sinks: list[str], lines: int) -> None:
    """Stop it once so many lines are written."""

    def enough() -> bool:
        return len(curve(folder)) >= lines

    with pytest.raises(StoppedError):
        train(recipe, folder=folder, sinks=sinks, should_stop=enough)


def curve(folder: Path) -> list[record.Row]:
    path = folder / store.METRICS
    return files.read_lines(path, record.Row) if path.exists() else []


def opening(folder: Path, step: int = 0) -> Opening:
    return Opening(folder=folder, run_id="run", key="key", config={}, setting="", from_step=step)


class Heard:
    """A sink that remembers; the first calls wait for `gate`."""

    rewinds = False

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.status = ""
        self.gate = threading.Event()
        self.gate.set()

    def rewind(self, step: int) -> None:
        raise AssertionError("it cannot")

    def tell(self, step: int, values: Mapping[str, float]) -> None:
        self.gate.wait()
        self.steps.append(step)

    def close(self, status: str) -> None:
        self.status = status


def out(sink: Callable[[], Sink], folder: Path, step: int = 0) -> outlet.Outlet:
    return outlet.Outlet("heard", sink, folder=folder, from_step=step)


def rows(steps: range) -> list[record.Row]:
    return [record.Row(step=step, n_tokens=64 * step, wall_s=1.0, loss_nats=5.0) for step in steps]


def test_no_step_is_told_twice_and_none_is_left_out_after_a_resume(tmp_path: Path) -> None:
    sink = Heard()
    first = out(lambda: sink, tmp_path)
    for row in rows(range(1, 8)):
        first.tell(row)
    first.close("interrupted")
    again = out(lambda: sink, tmp_path, step=4)
    for row in rows(range(1, 12)):
        again.tell(row)
    again.close("finished")
    assert sink.steps == list(range(1, 12))
    assert sink.status == "finished"


def test_sinks_that_hurry_do_not_make_another_forget_what_it_was_told(tmp_path: Path) -> None:
    slow, line = Heard(), rows(range(1, 2))[0]
    first = out(lambda: slow, tmp_path)
    first.tell(line)
    first.close("interrupted")
    hurried = [outlet.Outlet(f"hurried-{i}", Heard, folder=tmp_path, from_step=1) for i in range(4)]
    for row in rows(range(1, 200)):
        for each in hurried:
            each.tell(row)
    for _ in range(20):
        again = out(lambda: slow, tmp_path, step=1)
        again.tell(line)
        again.close("interrupted")
    for each in hurried:
        each.close("finished")
    assert slow.steps == [1]


def test_a_sink_that_blocks_holds_nobody_up_and_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet, "_CLOSING_S", 0.05)
    sink = Heard()
    sink.gate.clear()
    blocked = out(lambda: sink, tmp_path)
    for row in rows(range(1, 100)):
        blocked.tell(row)  # a tell that waited would hang here for good
    blocked.close("finished")
    assert "did not end" in blocked.error
    sink.gate.set()


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Another package's sink, registered as an entry point would, whose second line ends the interpreter's patience."""
    (tmp_path / "their_sink.py").write_text(
        "NEEDS, EXTRA = 'json', 'none'\n"
        "class Theirs:\n"
        "    rewinds = False\n"
        "    def tell(self, step, values): raise SystemExit(f'no room for step {step}')\n"
        "def open(opening): return Theirs()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    known = registry.members
    monkeypatch.setattr(registry, "members", lambda kind: {**known(kind), "theirs": "their_sink"})
    monkeypatch.delitem(sys.modules, "their_sink", raising=False)
    return "theirs"


def test_a_sink_that_fails_is_told_once_and_the_run_is_the_same(recipe: Recipe, broken: str, tmp_path: Path) -> None:
    said: list[Event] = []
    with_it = train(recipe, folder=tmp_path / "with", sinks=[broken], on_event=said.append)
    without = train(recipe, folder=tmp_path / "without")
    notes = [event.text for event in said if "sink" in event.text]
    assert len(notes) == 1
    assert "SystemExit: no room for step 1" in notes[0]
    assert with_it.status == "finished"
    assert with_it.loss_nats == without.loss_nats
    assert with_it.key == without.key


def test_a_sink_that_closes_slowly_does_not_keep_a_stopped_run_from_saying_so(
    recipe: Recipe, broken: str, tmp_path: Path
) -> None:
    """A scheduler kills what has not ended in time: by then `run.json` must say more than "running"."""
    (tmp_path / "their_sink.py").write_text(
        "import json\n"
        "NEEDS, EXTRA = 'json', 'none'\n"
        "class Theirs:\n"
        "    rewinds = False\n"
        "    def __init__(self, folder): self.folder = folder\n"
        "    def tell(self, step, values): pass\n"
        "    def close(self, status):\n"
        "        found = json.loads((self.folder / 'run.json').read_bytes())['status']\n"
        "        (self.folder / 'seen').write_text(found)\n"
        "def open(opening): return Theirs(opening.folder)\n"
    )
    interrupt(recipe, tmp_path / "run", sinks=[broken], lines=3)
    assert (tmp_path / "run" / "seen").read_text() == "interrupted"


def test_what_two_parts_from_one_step_have_burnt_stands_in_two_files(tmp_path: Path) -> None:
    """A rollback goes back to a step that a part began at before."""
    names = []
    for _ in range(3):
        path = codecarbon.own_file(tmp_path, 0)
        path.write_bytes(b"{}")
        names.append(path.name)
    assert names == ["from-step-0.json", "from-step-0-again-2.json", "from-step-0-again-3.json"]


def test_sinks_are_asked_for_by_name_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet, "find_spec", lambda _: object())
    environment = {"ISOFLOP_SINKS": "wandb:theirs, trackio"}
    assert outlet.asked(["wandb:mine"], environment=environment) == ["wandb:mine", "trackio"]
    with pytest.raises(UnknownNameError, match="did you mean 'wandb'"):
        outlet.asked(["wand"], environment={})


def test_a_sink_that_is_not_installed_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install 'isoflop\[carbon\]'"):
        outlet.asked(["codecarbon:DEU"], environment={})


def test_every_sink_keeps_the_contract() -> None:
    members = registry.members("isoflop.train.sinks")
    assert {"tensorboard", "wandb", "trackio", "codecarbon"} <= members.keys()
    for name in members:
        module = registry.load("sink", name, "isoflop.train.sinks")
        assert module.NEEDS
        assert module.EXTRA
        assert callable(module.open)


def test_tensorboard_reads_back_the_curve_of_an_interrupted_run_with_no_step_twice(
    recipe: Recipe, tmp_path: Path
) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard")
    interrupt(recipe, tmp_path, sinks=["tensorboard"], lines=5)
    # As after kill -9 later than the checkpoint: the sink has heard of steps that the run will take again.
    told = msgspec.json.decode((tmp_path / ".told.json").read_bytes())
    at = told["tensorboard"][0]
    from isoflop.train.sinks import tensorboard

    sink = tensorboard.open(opening(tmp_path))
    sink.tell(at + 1, {"train/loss_nats": 99.0})
    sink.close("interrupted")
    (tmp_path / ".told.json").write_bytes(msgspec.json.encode({"tensorboard": (at + 1, 0)}))
    time.sleep(1.1)  # event files are ordered by the second in their names
    assert train(recipe, folder=tmp_path, sinks=["tensorboard"]).status == "finished"
    read = reader.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    ours = [(row.step, row.loss_nats) for row in curve(tmp_path) if row.loss_nats is not None]
    theirs = [(event.step, event.value) for event in read.Scalars("train/loss_nats")]
    assert [step for step, _ in theirs] == [step for step, _ in ours]
    assert [value for _, value in theirs] == pytest.approx([value for _, value in ours])
    assert [event.step for event in read.Scalars("validation/loss_nats")] == [6, 12]
