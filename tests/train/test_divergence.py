"""Planted troubles: batches that hurt, weights that are gone, rates that are absurd; and what a run makes of them."""

import math
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
import torch
from tests.train.nano import BATCH, nano, weights

from isoflop.errors import InputError, StoppedError
from isoflop.specs.divergence import Divergence
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.recipe import Recipe
from isoflop.specs.run import Run
from isoflop.specs.saving import Saving
from isoflop.specs.schedule import Schedule
from isoflop.train import checkpoint, record, store
from isoflop.train.continuation import Trunk, anew, anneal
from isoflop.train.divergence import Anchors, Rollback, Watch, moved
from isoflop.train.events import Event
from isoflop.train.learner import Learner
from isoflop.train.loop import train
from isoflop.train.session import Session

NAN = float("nan")


def _watched(watch: Watch, losses: list[float], norms: list[float] | None = None) -> list[str]:
    """Why each step was left out, or what trouble it brought, or ""."""
    said = []
    for step, loss in enumerate(losses):
        norm = norms[step] if norms else 1.0
        refused = watch.refusal(loss_nats=loss, grad_norm=norm)
        trouble = watch.trouble(step, loss_nats=loss, refused=refused)
        said.append(f"trouble from {trouble.began}: {trouble.reason}" if trouble else refused)
    return said


@pytest.mark.parametrize(
    ("losses", "word"),
    [
        ([NAN], "not finite"), ([float("inf")], "not finite"), ([30.0], "three times"),
        ([5.0] * 20 + [2.0] * 200 + [5.5] * 200, "after it had"),
    ],
)  # fmt: skip
def test_the_watch_names_each_way_to_diverge(losses: list[float], word: str) -> None:
    said = _watched(Watch(vocabulary=270, steps=1000), losses)
    assert word in next(text for text in said if text)


def test_a_spike_that_heals_is_no_trouble() -> None:
    assert not any(_watched(Watch(vocabulary=270, steps=1000), [5.5] * 50 + [3.0] * 200 + [8.0] * 5 + [3.0] * 200))


def test_a_gradient_that_is_not_finite_is_left_out_though_its_loss_is() -> None:
    assert "not finite" in Watch(vocabulary=270, steps=1000).refusal(loss_nats=3.0, grad_norm=float("inf"))


def test_trouble_is_the_eighth_step_left_out_of_128_and_began_with_the_first() -> None:
    watch = Watch(vocabulary=270, steps=1000)
    losses = [NAN if step % 16 == 3 else 3.0 for step in range(200)]
    said = _watched(watch, losses)
    first = next(step for step, text in enumerate(said) if text.startswith("trouble"))
    assert (first, said[first].partition(":")[0]) == (3 + 7 * 16, "trouble from 3")
    assert watch.n_left_out > 8
    rare = [NAN if step % 20 == 3 else 3.0 for step in range(400)]
    assert not any(text.startswith("trouble") for text in _watched(Watch(vocabulary=270, steps=1000), rare))


def test_a_spike_is_six_sigma_above_the_window_whichever_of_loss_and_norm_it_is_in() -> None:
    wave = [3.0 + 0.1 * math.sin(step) for step in range(200)]  # a standard deviation of .1 / sqrt(2)
    rule = Divergence(spike_sigma=6.0)
    for height, found in ((0.4, False), (0.45, True)):  # 6 sigma are .424
        for losses, norms in (([*wave, 3.0 + height], [*wave, 3.0]), ([*wave, 3.0], [*wave, 3.0 + height])):
            said = _watched(Watch(vocabulary=270, steps=1000, rule=rule), losses, norms)
            assert not any(said[:-1])
            assert bool(said[-1]) == found
    assert not any(_watched(Watch(vocabulary=270, steps=1000), [*wave, 3.5]))


def test_what_lasts_is_a_spike_only_at_first() -> None:
    """The text becomes harder: the window takes that in, and the run is not stopped for it."""
    wave = [3.0 + 0.1 * math.sin(step) for step in range(128)]
    said = _watched(Watch(vocabulary=270, steps=1000, rule=Divergence(spike_sigma=6.0)), wave + [x + 0.6 for x in wave])
    assert 1 <= sum(map(bool, said)) < 8
    assert not any(text.startswith("trouble") for text in said)


def test_an_anchor_is_a_hundred_steps_before_the_trouble_and_never_before_the_beginning() -> None:
    anchors = Anchors.of(Watch(vocabulary=270, steps=10_000))
    assert anchors.every == 500
    assert [anchors.before(began, first=0) for began in (0, 99, 599, 600, 1100)] == [0, 0, 0, 500, 1000]
    assert anchors.before(620, first=510) == 510
    for step in range(0, 10_000, 37):  # whatever is noticed, where it sends back to has been kept
        for began in range(max(0, step - 500), step + 1, 13):
            assert anchors.before(began, first=0) in anchors.needed(step, first=0)
            assert anchors.before(began, first=123) in anchors.needed(step, first=123)
    assert len(anchors.needed(9_000, first=0)) <= 3


def test_batches_between_anchor_and_trouble_are_passed_over() -> None:
    assert moved([Rollback(at=130, to=100, reason=""), Rollback(at=150, to=100, reason="")]) == 80


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return nano(tmp_path_factory.mktemp("shards"), steps=60)


class _Poison:
    """Batches that turn every gradient to NaN, by the number of the batch; what else was asked for is put down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, poisoned: set[int]) -> None:
        self.asked: list[int] = []
        self.weights: list[torch.Tensor] = []
        whole = Session._step

        def poisoned_step(session: Session, learner: Learner) -> object:
            self.asked.append(session.counters.batch)
            first = next(iter(learner.model.parameters()))
            self.weights.append(first.detach().clone())
            hooks = ExitStack()
            if session.counters.batch in poisoned:
                hooks.callback(first.register_hook(lambda grad: grad * NAN).remove)  # type: ignore[no-untyped-call]
            with hooks:
                return whole(session, learner)

        monkeypatch.setattr(Session, "_step", poisoned_step)


def test_a_step_that_hurts_leaves_the_weights_untouched_and_the_run_finishes(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison, events = _Poison(monkeypatch, {20}), list[Event]()
    run = train(recipe, folder=tmp_path, on_event=events.append)
    assert (run.status, run.note) == ("finished", "1 steps left out")
    assert [event.text for event in events if "step 21 left out" in event.text]
    assert torch.equal(poison.weights[20], poison.weights[21])
    assert not torch.equal(poison.weights[21], poison.weights[22])
    assert all(math.isfinite(row.loss_nats or 0.0) for row in _rows(tmp_path))


def test_batches_that_keep_hurting_are_gone_past_and_the_run_says_so(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = _Poison(monkeypatch, {20, 21, 22})
    run = train(recipe, folder=tmp_path)
    assert run.status == "finished"
    assert "went back from step 23 to 0: 3 of the last 23 steps left out" in run.note
    assert poison.asked == [*range(23), *range(23, 83)]
    assert [row.step for row in _rows(tmp_path) if row.loss_nats is not None] == list(range(1, 61))


def _rows(folder: Path) -> list[record.Row]:
    return [msgspec.json.decode(line, type=record.Row) for line in (folder / "metrics.jsonl").read_bytes().splitlines()]


@pytest.mark.parametrize("stop", [5, 19, 21, 22, 24, 31, 47])
def test_interrupted_anywhere_around_a_rollback_the_end_is_the_same_to_the_bit(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """Poison recurs: the first rollback leads to a batch that hurts again, then past it."""
    recipe = msgspec.structs.replace(recipe, divergence=Divergence(patience=2, anchor_steps=10))
    poisoned = {20, 21, 40, 41}
    whole_poison = _Poison(monkeypatch, poisoned)
    whole = train(recipe, folder=tmp_path / "whole")
    assert whole.note.count("went back") == 2
    asked = list(whole_poison.asked)
    monkeypatch.undo()
    poison, calls = _Poison(monkeypatch, poisoned), [0]

    def enough() -> bool:
        calls[0] += 1
        return len(poison.asked) == stop

    with pytest.raises(StoppedError):
        train(recipe, folder=tmp_path / "cut", should_stop=enough)
    assert poison.asked == asked[:stop]
    again = train(recipe, folder=tmp_path / "cut")
    assert poison.asked == asked
    assert (again.loss_nats, again.note) == (whole.loss_nats, whole.note)
    ours, theirs = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_killed_between_two_writes_of_a_rollback_the_next_start_finishes_it(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Poison(monkeypatch, {20, 21, 22})
    whole = train(recipe, folder=tmp_path / "whole")

    class KilledError(Exception):
        pass

    def killed(folder: Path) -> None:
        if folder.exists():
            raise KilledError

    often = msgspec.structs.replace(recipe, checkpoint=Saving(every_steps=7, keep=9))
    with monkeypatch.context() as inside:
        inside.setattr(checkpoint, "discard", killed)
        with pytest.raises(KilledError):
            train(often, folder=tmp_path / "cut")
    assert checkpoint.listing(tmp_path / "cut")[-1].step == 21
    again = train(recipe, folder=tmp_path / "cut")
    assert (again.loss_nats, again.note) == (whole.loss_nats, whole.note)


def test_an_absurd_learning_rate_ends_as_diverged_after_three_rollbacks(recipe: Recipe, tmp_path: Path) -> None:
    wild = msgspec.structs.replace(recipe, optimizer=Optimizer(learning_rate=1e6, clip_norm=1e9))
    events: list[Event] = []
    run = train(wild, folder=tmp_path, on_event=events.append)
    assert (run.status, run.loss_nats) == ("diverged", None)
    assert run.note.startswith("diverged at step")
    assert run.note.count("went back") == 3
    assert sum("Back to step 0" in event.text for event in events) == 3
    assert train(wild, folder=tmp_path) == run


def test_weights_that_are_gone_never_finish(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last update ruins them: no loss of a step shows it, the evaluation does."""
    whole = Session._step

    def ruin(session: Session, learner: Learner) -> object:
        found = whole(session, learner)
        if session.counters.step == 60:
            with torch.no_grad():
                next(iter(learner.model.parameters())).fill_(NAN)
        return found

    monkeypatch.setattr(Session, "_step", ruin)
    run = train(recipe, folder=tmp_path)
    assert run.status == "diverged"
    assert "validation loss nan: not finite" in run.note


def test_a_damaged_list_of_rollbacks_is_not_gone_by(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = _Poison(monkeypatch, {20, 21, 22})
    with pytest.raises(StoppedError):
        train(recipe, folder=tmp_path, should_stop=lambda: len(poison.asked) == 40)
    path = tmp_path / "checkpoints" / "rollbacks.json"
    path.write_bytes(path.read_bytes().replace(b'"at": 23', b'"at": 24'))
    with pytest.raises(InputError, match=r"rollbacks\.json: changed since it was written"):
        train(recipe, folder=tmp_path)


def test_the_time_that_a_rollback_takes_back_is_named_and_belongs_to_nothing_else(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps before the rollback wait 20 ms each; what is kept of the run has not a millisecond of that."""
    poison, whole = _Poison(monkeypatch, {20, 21, 22}), Session._step

    def slowly(session: Session, learner: Learner) -> object:
        if len(poison.asked) < 23:
            time.sleep(0.02)
        return whole(session, learner)

    monkeypatch.setattr(Session, "_step", slowly)
    run = train(recipe, folder=tmp_path)
    assert run.time_shares is not None
    assert run.wall_s is not None
    assert run.time_shares["lost"] * run.wall_s >= 23 * 0.02
    assert sum(run.time_shares.values()) == pytest.approx(1.0)
    first = next(row for row in _rows(tmp_path) if row.spent is not None)
    assert first.spent is not None
    assert first.spent.lost_s >= 23 * 0.02


def test_a_run_that_is_stopped_still_says_that_it_went_back(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = _Poison(monkeypatch, {20, 21, 22})
    with pytest.raises(StoppedError):
        train(recipe, folder=tmp_path, should_stop=lambda: len(poison.asked) == 40)
    run = store.read(tmp_path)
    assert run is not None
    assert run.status == "interrupted"
    assert "stopped at step 17 of 60, saved; run the same command again" in run.note
    assert "went back from step 23 to 0" in run.note


STABLE = Schedule(warmup_fraction=0.1, cooldown_fraction=0)
ONCE = Divergence(patience=2, rollbacks=1)


def _trunk(recipe: Recipe, folder: Path) -> Trunk:
    """A run of 60 steps that went back from step 21 to 0, and is 21 batches further in its data than its step says."""
    recipe = msgspec.structs.replace(recipe, schedule=STABLE, divergence=ONCE)
    run = train(recipe, folder=folder)
    assert run.note.startswith("went back from step 21 to 0: 2 of the last 21 steps left out")
    assert run.note.endswith("; 1 steps left out")
    return Trunk(checkpoint=f"{folder}@40", run=folder.name, recipe=recipe, step=40, learning_rate=3e-3)


def test_a_branch_off_a_run_that_went_back_has_its_data_order_and_meters_of_its_own(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = _Poison(monkeypatch, {3, 20, 21})
    branch = anneal(_trunk(recipe, tmp_path / "trunk"), n_tokens=8 * BATCH)
    poison.asked.clear()
    run = train(branch, folder=tmp_path / "branch")
    assert poison.asked == list(range(61, 69))
    once = train(msgspec.structs.replace(branch, origin=None), folder=tmp_path / "once")
    ours, theirs = weights(tmp_path / "once"), weights(tmp_path / "branch")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (run.loss_nats, run.n_tokens, run.unique_tokens) == (once.loss_nats, once.n_tokens, once.unique_tokens)
    assert (run.note, once.note.startswith("went back")) == ("", True)
    assert run.time_shares is not None
    assert sum(run.time_shares.values()) == pytest.approx(1.0)
    assert "lost" not in run.time_shares


def test_a_branch_goes_back_by_its_own_rule_and_as_often_as_that_allows(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its trunk has used up its one rollback; the branch is in trouble at its fourth step already."""
    poisoned = {3, 20, 21}
    poison = _Poison(monkeypatch, poisoned)
    trunk = _trunk(recipe, tmp_path / "trunk")
    poisoned.add(64)
    branch = msgspec.structs.replace(
        anneal(trunk, n_tokens=8 * BATCH), divergence=Divergence(patience=1, rollbacks=1, window=16)
    )
    poison.asked.clear()
    run = train(branch, folder=tmp_path / "branch")
    assert run.status == "finished"
    assert run.note.startswith("went back from step 44 to 40: 1 of the last 16 steps left out")
    assert poison.asked == [*range(61, 65), *range(65, 73)]


def test_weights_of_a_run_that_went_back_go_on_behind_all_it_has_read(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Poison(monkeypatch, {3, 20, 21})
    again = anew(_trunk(recipe, tmp_path / "trunk"), n_tokens=8 * BATCH)
    run = train(again, folder=tmp_path / "again")
    assert run.origin is not None
    assert run.origin.skipped_steps == 61
    assert run.unique_tokens is not None
    assert run.unique_tokens <= run.n_tokens == 48 * BATCH


def test_a_run_without_trouble_is_the_same_whatever_the_rule(recipe: Recipe, tmp_path: Path) -> None:
    runs: list[Run] = []
    for rule in (Divergence(), Divergence(rollbacks=0, anchor_steps=7, patience=1)):
        changed = msgspec.structs.replace(recipe, divergence=rule)
        runs.append(train(changed, folder=tmp_path / str(len(runs))))
    assert runs[0].loss_nats == runs[1].loss_nats
    assert recipe.steps * BATCH == runs[0].n_tokens
