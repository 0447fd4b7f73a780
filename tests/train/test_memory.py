"""A run that really runs out of memory finds parts that fit, and ends where one with room for all ends."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from msgspec.structs import replace

from isoflop import files
from isoflop.data.batch import Batch
from isoflop.data.read import Document
from isoflop.data.tokenization import tokenize
from isoflop.errors import StoppedError, UsageError
from isoflop.model.decoder import Decoder as Model
from isoflop.specs.architecture import Decoder
from isoflop.specs.engine import Engine
from isoflop.specs.recipe import Recipe
from isoflop.specs.run import Run
from isoflop.specs.saving import Saving
from isoflop.train import checkpoint, journal, micro, record, store, task
from isoflop.train.events import Event
from isoflop.train.loop import train

MODEL = Decoder(layers=4, width=64, heads=2, kv_heads=2, head_size=32, hidden=192, vocabulary=270, context=128)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    words = ["law", "run", "token", "shard", "ladder", "fit", "plan", "loss", "model", "data", "step", "rate", "heat"]
    texts = [" ".join(words[(i * j) % len(words)] for j in range(1, 400)) + "\n" for i in range(1, 60)]
    folder = tmp_path_factory.mktemp("shards")
    documents = [Document(f"{i}.txt", text) for i, text in enumerate(texts)]
    tokenize(lambda: documents, folder=folder, vocabulary=270, validation_fraction=0.3, source="words in a circle")
    return Recipe(
        name="nano", shards=str(folder), model=MODEL, n_tokens=2 * 64 * 128, batch_tokens=64 * 128, device="cpu",
        validation_tokens=1024, evaluations=1,
        checkpoint=Saving(background=False),  # a thread's own heap would count against the limit
    )  # fmt: skip


TRAIN = """
import resource, sys
from pathlib import Path
import msgspec
from isoflop.specs.recipe import Recipe
from isoflop.train.loop import train

recipe, folder, room = msgspec.json.decode(sys.argv[1], type=Recipe), Path(sys.argv[2]), int(sys.argv[3])
import isoflop.train.learner  # and torch with it: what follows is the run's own memory
if room:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room,) * 2)
train(recipe, folder=folder, on_event=lambda event: event.text and print(event.text))
"""


def ended(recipe: Recipe, folder: Path, *, room_bytes: int) -> tuple[Run, list[str]]:
    given = [msgspec.json.encode(recipe).decode(), str(folder), str(room_bytes)]
    ran = subprocess.run([sys.executable, "-c", TRAIN, *given], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    run = files.read_json(folder / store.RUN, Run)
    return run, [line for line in ran.stdout.splitlines() if "memory" in line and "at once" in line]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the limit is set by Linux's own count")
def test_under_a_limit_of_memory_a_run_finds_parts_that_fit(recipe: Recipe, tmp_path: Path) -> None:
    free, unsaid = ended(recipe, tmp_path / "free", room_bytes=0)
    tight, said = ended(recipe, tmp_path / "tight", room_bytes=150 * 2**20)
    assert free.engine is not None
    assert tight.engine is not None
    assert (free.engine.rows, unsaid) == (64, [])
    assert tight.engine.rows <= 32
    assert len(said) == {32: 1, 16: 2, 8: 3, 4: 4, 2: 5, 1: 6}[tight.engine.rows]
    assert "memory ran out with 64 sequences at once" in said[0]
    assert tight.loss_nats == pytest.approx(free.loss_nats, rel=1e-6)


class Tight:
    """Room for two sequences only, from the tenth batch on; asks for an end where it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, end: int | None = None) -> None:
        self.events: list[Event] = []
        self.tried: list[int] = []
        self._end, self._step, self._usual = end, 0, task.loss
        monkeypatch.setattr(task, "loss", self._loss)

    def hear(self, event: Event) -> None:
        self.events.append(event)
        self._step = max(self._step, event.step)

    def should_stop(self) -> bool:
        return self._end is not None and self._step >= self._end

    def _loss(self, recipe: Recipe, model: Model, part: Batch, device: torch.device) -> Any:
        self.tried.append(len(part.inputs_ST))
        if self._step >= 10 and self.tried[-1] > 2:
            raise MemoryError
        return self._usual(recipe, model, part, device)

    def said(self) -> list[str]:
        return [event.text for event in self.events if "memory ran out" in event.text]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found = checkpoint.load(max((folder / record.CHECKPOINTS).glob("step-*")))
    return {f"{group}/{name}": value for group, rows in found.tensors.items() for name, value in rows.items()}


@pytest.mark.parametrize("end", [6, 17])
def test_stopped_before_or_after_memory_ran_out_a_run_ends_as_one_not_stopped(
    recipe: Recipe, end: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_REPORT_S", -1.0)  # every step is told
    small = replace(recipe, model=replace(MODEL, layers=1, width=16, heads=1, kv_heads=1, head_size=16, hidden=32))
    small = replace(small, n_tokens=24 * 8 * 128, batch_tokens=8 * 128)
    whole = Tight(monkeypatch)
    expected = train(small, folder=tmp_path / "whole", on_event=whole.hear)
    monkeypatch.undo()
    monkeypatch.setattr(journal, "_REPORT_S", -1.0)
    cut = Tight(monkeypatch, end=end)
    with pytest.raises(StoppedError):
        train(small, folder=tmp_path / "cut", on_event=cut.hear, should_stop=cut.should_stop)
    monkeypatch.undo()
    monkeypatch.setattr(journal, "_REPORT_S", -1.0)
    again = Tight(monkeypatch)
    found = train(small, folder=tmp_path / "cut", on_event=again.hear)
    assert found.engine == expected.engine == Engine(precision="fp32", compiled=False, rows=2)
    assert found.loss_nats == expected.loss_nats
    ours, theirs = weights(tmp_path / "cut"), weights(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert [len(each.said()) for each in (whole, cut, again)] == ([2, 0, 2] if end < 10 else [2, 2, 0])
    assert set(again.tried) == ({8, 4, 2} if end < 10 else {2})


def test_parts_begin_no_larger_than_the_count_of_memory_allows(recipe: Recipe) -> None:
    def begin(available_bytes: float | None, **change: Any) -> tuple[int, str]:
        given = replace(recipe, **change)
        return micro.begin_with(given, precision="fp32", tokens=16384, available_bytes=available_bytes)

    assert begin(None) == begin(1e12) == (64, "")
    whole, half, quarter = (micro.counted(recipe, rows=rows, precision="fp32") for rows in (64, 32, 16))
    assert whole > half > quarter
    assert begin(whole)[0] == 32  # a tenth is left to what the process holds besides
    assert begin(1.2 * half) == (
        32,
        f"64 would not fit into the {1.2 * half / 1e9:.2g} GB available, by the count of memory",
    )
    assert begin(half)[0] == 16
    assert begin(1.0)[0] == 1
    assert begin(1.0, micro_tokens=600) == (4, "")  # the recipe's own word, rounded down to sequences
    assert begin(None, micro_tokens=10**9) == (64, "")


def test_parts_without_a_whole_sequence_are_refused(recipe: Recipe) -> None:
    with pytest.raises(UsageError, match="micro_tokens is 127; a part holds at least one sequence, 128 tokens"):
        replace(recipe, micro_tokens=127)
