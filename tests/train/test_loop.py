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

from isoflop import files
from isoflop.data.read import Document
from isoflop.data.tokenization import tokenize
from isoflop.errors import InputError, StoppedError, UsageError
from isoflop.specs.architecture import Decoder, Routing
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.recipe import Recipe
from isoflop.specs.run import Run
from isoflop.specs.schedule import Schedule
from isoflop.train import checkpoint, journal, record, store
from isoflop.train.divergence import Watch
from isoflop.train.events import Event
from isoflop.train.loop import train
from isoflop.train.session import evaluation_steps

CONTEXT = 16
BATCH = 4 * CONTEXT
MODEL = Decoder(layers=1, width=16, heads=2, kv_heads=1, head_size=8, hidden=32, vocabulary=270, context=CONTEXT)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = ["law", "run", "token", "shard", "ladder", "fit", "plan", "loss", "model", "data", "step", "rate", "heat"]
    texts = [" ".join(words[(i * j) % len(words)] for j in range(1, 120)) + "\n" for i in range(1, 30)]
    documents = [Document(f"{i}.txt", text) for i, text in enumerate(texts)]
    folder = tmp_path_factory.mktemp("shards")
    tokenize(lambda: documents, folder=folder, vocabulary=270, validation_fraction=0.3, source="words in a circle")
    return folder


@pytest.fixture(scope="module")
def recipe(shards: Path) -> Recipe:
    return Recipe(
        name="nano",
        shards=str(shards),
        model=MODEL,
        n_tokens=30 * BATCH,
        batch_tokens=BATCH,
        optimizer=Optimizer(learning_rate=3e-3),
        device="cpu",
        validation_tokens=512,
        evaluations=3,
    )


class _Plug:
    """Asks for an end once the run has reported so many steps; give it both places."""

    def __init__(self, step: int) -> None:
        self.step, self.seen = step, 0

    def hear(self, event: Event) -> None:
        self.seen = max(self.seen, event.step)

    def pulled(self) -> bool:
        return self.seen >= self.step


@pytest.fixture(autouse=True)
def _every_step_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_REPORT_S", -1.0)


def _interrupt(recipe: Recipe, folder: Path, step: int) -> None:
    plug = _Plug(step)
    with pytest.raises(StoppedError):
        train(recipe, folder=folder, on_event=plug.hear, should_stop=plug.pulled)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    last = max((folder / record.CHECKPOINTS).glob("step-*"))
    found = checkpoint.load(last)
    return {f"{group}/{name}": value for group, rows in found.tensors.items() for name, value in rows.items()}


def _curve(folder: Path) -> list[tuple[object, ...]]:
    rows = files.read_lines(folder / store.METRICS, record.Row)
    timed = {"wall_s", "tokens_per_s", "mfu", "spent", "memory_bytes", "process_bytes"}
    return [tuple(getattr(row, name) for name in row.__struct_fields__ if name not in timed) for row in rows]


def _assert_equal_runs(a: Path, b: Path, first: Run, second: Run) -> None:
    assert first.loss_nats == second.loss_nats
    assert first.bits_per_byte == second.bits_per_byte
    ours, theirs = _weights(a), _weights(b)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert _curve(a) == _curve(b)


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_interrupted_at_any_step_and_resumed_equals_uninterrupted_to_the_bit(
    recipe: Recipe, seed: int, tmp_path: Path
) -> None:
    recipe = msgspec.structs.replace(recipe, seed=seed)
    whole = train(recipe, folder=tmp_path / "whole")
    assert whole.status == "finished"
    for step in np.random.default_rng(seed).integers(0, 30, size=3):
        folder = tmp_path / f"cut-{step}"
        _interrupt(recipe, folder, int(step))
        stopped = store.read(folder)
        assert stopped is not None
        assert (stopped.status, stopped.n_tokens) == ("interrupted", step * BATCH)
        _assert_equal_runs(tmp_path / "whole", folder, whole, train(recipe, folder=folder))


def test_muon_on_a_cosine_is_resumed_to_the_bit_and_says_whose_rate_it_takes(recipe: Recipe, tmp_path: Path) -> None:
    recipe = msgspec.structs.replace(
        recipe, optimizer=Optimizer(name="muon"), schedule=Schedule(name="cosine", final_fraction=0.1)
    )
    events: list[Event] = []
    whole = train(recipe, folder=tmp_path / "whole", on_event=events.append)
    assert any("of AdamW with warmup-stable-decay: try others" in event.text for event in events)
    _interrupt(recipe, tmp_path / "cut", 13)
    _assert_equal_runs(tmp_path / "whole", tmp_path / "cut", whole, train(recipe, folder=tmp_path / "cut"))


def test_a_mixture_of_experts_resumes_to_the_bit(recipe: Recipe, tmp_path: Path) -> None:
    mixed = msgspec.structs.replace(MODEL, experts=Routing(count=4, active=2, shared=16))
    recipe = msgspec.structs.replace(recipe, model=mixed)
    whole = train(recipe, folder=tmp_path / "whole")
    _interrupt(recipe, tmp_path / "cut", 7)
    _assert_equal_runs(tmp_path / "whole", tmp_path / "cut", whole, train(recipe, folder=tmp_path / "cut"))
    assert whole.parameters is not None
    assert whole.parameters.idle == 2 * 3 * 16 * 32
    assert whole.compute_flop == 6.0 * whole.parameters.active * whole.n_tokens


def test_a_run_that_falls_back_to_the_checkpoint_before_ends_the_same(recipe: Recipe, tmp_path: Path) -> None:
    whole = train(recipe, folder=tmp_path / "whole")
    folder = tmp_path / "damaged"
    events: list[Event] = []
    _interrupt(recipe, folder, 24)
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


# Trains in lockstep: it tells each event and goes on when it gets a line. Every step is saved.
LOCKSTEP = """
import sys, msgspec
from pathlib import Path
from isoflop.specs.recipe import Recipe
from isoflop.train import journal, keeper
from isoflop.train.loop import train

def tell(event):
    print(event.kind, event.step, flush=True)
    sys.stdin.readline()

keeper._SAVE_S, keeper._SAVE_SHARE, journal._REPORT_S = 0.0, 1e9, -1.0
recipe = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Recipe)
train(recipe, folder=Path(sys.argv[2]), on_event=tell)
"""


def test_kill_at_random_moments_loses_nothing(recipe: Recipe, tmp_path: Path) -> None:
    """A process killed four times somewhere in a step or its saving ends where an undisturbed one does."""
    recipe = msgspec.structs.replace(recipe, n_tokens=150 * BATCH)
    whole = train(recipe, folder=tmp_path / "whole")
    files.write_json(tmp_path / "recipe.json", recipe)
    folder, random, told = tmp_path / "killed", np.random.default_rng(0), 0
    for _ in range(4):
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
            assert int(begun[1]) >= told - 1  # the step told last was saved, or was being saved
            for _ in range(int(random.integers(5, 20))):
                begin = time.perf_counter()
                process.stdin.write("\n")
                process.stdin.flush()
                told = int(process.stdout.readline().split()[1])
                pace_s = time.perf_counter() - begin
            process.stdin.write("\n")
            process.stdin.flush()
            time.sleep(random.uniform(0.0, 1.0) * pace_s)  # it can come no further than to its next event
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    assert 4 <= told < 150
    _assert_equal_runs(tmp_path / "whole", folder, whole, train(recipe, folder=folder))


def test_evaluations_are_spread_and_the_last_step_is_among_them(recipe: Recipe) -> None:
    assert evaluation_steps(recipe) == {10, 20, 30}
    assert evaluation_steps(msgspec.structs.replace(recipe, evaluations=99)) == set(range(1, 31))


@pytest.mark.parametrize(
    ("losses", "word"),
    [([float("nan")], "not finite"), ([30.0], "three times"), ([5.0] * 20 + [2.0] * 200 + [5.5] * 200, "after it had")],
)
def test_the_watch_names_each_way_to_diverge(losses: list[float], word: str) -> None:
    watch = Watch(vocabulary=270, steps=1000)
    verdicts = [watch.verdict(loss_nats=loss, grad_norm=1.0) for loss in losses]
    assert word in next(verdict for verdict in verdicts if verdict)


def test_a_spike_that_heals_is_no_divergence() -> None:
    watch = Watch(vocabulary=270, steps=1000)
    losses = [5.5] * 50 + [3.0] * 200 + [8.0] * 5 + [3.0] * 200
    assert not any(watch.verdict(loss_nats=loss, grad_norm=1.0) for loss in losses)
