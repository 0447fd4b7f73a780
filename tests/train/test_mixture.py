"""Mixtures and stages in training: to the bit over any resume, judged by every source, branched off a plain trunk."""

from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from tests.train.nano import BATCH, curve, interrupt, nano, weights

from isoflop import files
from isoflop.count.text import flop_per_text_token, model_flop
from isoflop.data.read import Document
from isoflop.data.shards import open_shards
from isoflop.data.sources import Sources, open_sources
from isoflop.data.tokenization import tokenize
from isoflop.errors import InputError, UsageError
from isoflop.model.build import build
from isoflop.specs.data import Data, Source, Stage
from isoflop.specs.objective import Objective
from isoflop.specs.recipe import Recipe
from isoflop.specs.recipe_file import load
from isoflop.specs.run import Run
from isoflop.specs.schedule import Schedule
from isoflop.train import record, store
from isoflop.train.continuation import Trunk, anew, anneal
from isoflop.train.learner import Learner
from isoflop.train.loop import train
from isoflop.train.repeats import repeated
from isoflop.train.task import Batches, Validation

STEPS = 36


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Words in a circle, and beside them a folder of numbers in the same tokens."""
    home = tmp_path_factory.mktemp("data")
    recipe = nano(home / "words", steps=STEPS)
    numbers = [Document(f"{i}.txt", " ".join(str(i * j % 97) for j in range(200))) for i in range(20)]
    tokenize(
        lambda: numbers, folder=home / "numbers", vocabulary=270, validation_fraction=0.3, source="numbers",
        tokenizer=open_shards(home / "words").tokenizer,
    )  # fmt: skip
    return replace(recipe, evaluations=2)


@pytest.fixture(scope="module")
def mixed(plain: Recipe) -> Recipe:
    """Three parts words to one of numbers; from step 12 on numbers alone; from step 24 on longer sequences of both."""
    folder = Path(plain.shards)
    sources = (
        Source(name="words", shards=str(folder), weight=3),
        Source(name="numbers", shards=str(folder.parent / "numbers"), weight=1),
    )
    stages = (
        Stage(at_tokens=12 * BATCH, weights={"numbers": 1}),
        Stage(at_tokens=24 * BATCH, weights={"numbers": 2, "words": 1}, context=64, rope_theta=40_000.0),
    )
    return replace(plain, shards="", data=Data(sources=sources, stages=stages))


@pytest.fixture(scope="module")
def whole(mixed: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, train(mixed, folder=folder)


def test_interrupted_before_at_and_after_each_change_it_is_uninterrupted_to_the_bit(
    mixed: Recipe, whole: tuple[Path, Run], tmp_path: Path
) -> None:
    for step in (5, 12, 17, 24, 29):
        interrupt(mixed, tmp_path / "run", step)
    again = train(mixed, folder=tmp_path / "run")
    ours, theirs = weights(tmp_path / "run"), weights(whole[0])
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert curve(tmp_path / "run") == curve(whole[0])
    assert (again.sources, again.loss_nats, again.unique_tokens) == (
        whole[1].sources, whole[1].loss_nats, whole[1].unique_tokens
    )  # fmt: skip


def test_the_run_tells_what_it_has_had_of_each_source_and_how_well_it_knows_it(
    mixed: Recipe, whole: tuple[Path, Run]
) -> None:
    run = whole[1]
    assert run.sources is not None
    words, numbers = run.sources["words"], run.sources["numbers"]
    assert words.n_tokens == 12 * BATCH * 3 / 4 + 12 * BATCH / 3
    assert words.n_tokens + numbers.n_tokens == run.n_tokens == STEPS * BATCH
    assert run.unique_tokens == words.unique_tokens + numbers.unique_tokens
    assert words.loss_nats is not None
    assert numbers.loss_nats is not None
    assert run.loss_nats == pytest.approx((words.loss_nats + numbers.loss_nats) / 2)  # equal parts of the evaluation
    rows = files.read_lines(whole[0] / store.METRICS, record.Row)
    told = [row.validation_sources for row in rows if row.validation_sources]
    assert told[-1] == {"words": words.loss_nats, "numbers": numbers.loss_nats}
    assert len(told) == mixed.evaluations


def test_the_run_ends_as_the_model_of_its_last_stage_and_its_work_is_that_of_all(
    mixed: Recipe, whole: tuple[Path, Run]
) -> None:
    run, first, last = whole[1], *(mixed.within(mixed.phases[i]) for i in (0, 2))
    assert run.architecture == last.model == replace(mixed.model, context=64, rope_theta=40_000.0)
    work = flop_per_text_token(first) * 24 * BATCH + flop_per_text_token(last) * 12 * BATCH
    assert run.model_flop == pytest.approx(work) == pytest.approx(model_flop(mixed))
    assert load(whole[0] / store.RECIPE) == mixed  # written down as it was


def test_after_a_change_of_context_the_model_is_one_built_for_it(mixed: Recipe) -> None:
    learner = Learner(mixed, peak_learning_rate=1e-3)
    for phase in mixed.phases[1:]:
        learner.enter(phase.model)
    assert learner.engine.rows == 1  # of 64 tokens, where there were 4 of 16
    fresh = build(mixed.phases[2].model, seed=mixed.seed)
    fresh.load_state_dict(learner.model.state_dict())
    tokens = torch.arange(64)[None]
    assert torch.equal(learner.model(tokens), fresh(tokens))


def trunk_at(recipe: Recipe, home: Path, step: int) -> Trunk:
    run = store.read(home)
    assert run is not None
    return Trunk(
        checkpoint=f"{home}@{step}", run=run.id, recipe=recipe, step=step, learning_rate=run.learning_rate or 0.0
    )


def test_a_cooldown_of_a_plain_trunk_on_other_data_is_the_run_of_one_go_to_the_bit(
    plain: Recipe, mixed: Recipe, tmp_path: Path
) -> None:
    saving = replace(plain.checkpoint, keep_at=(20,))
    trunk = replace(plain, schedule=Schedule(warmup_fraction=0.2, cooldown_fraction=0), checkpoint=saving)
    train(trunk, folder=tmp_path / "trunk")
    numbers = mixed.data.sources[1].shards
    branch = anneal(trunk_at(trunk, tmp_path / "trunk", 20), n_tokens=10 * BATCH, shards=numbers, replay=0.25)
    assert [phase.parts for phase in branch.phases] == [(1, 0), (1, 3)]
    run = train(branch, folder=tmp_path / "branch")
    straight = replace(branch, origin=None)
    assert train(straight, folder=tmp_path / "straight").loss_nats == run.loss_nats
    ours, theirs = weights(tmp_path / "branch"), weights(tmp_path / "straight")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    earlier = replace(
        branch, data=replace(branch.data, stages=(Stage(at_tokens=10 * BATCH, weights={"numbers": 1.0}),))
    )
    with pytest.raises(UsageError, match=r"\[data\] has other weights or contexts than it had in its 20 batches"):
        train(earlier, folder=tmp_path / "earlier")


def test_new_data_with_replay_keep_the_proportions_of_the_old(mixed: Recipe, whole: tuple[Path, Run]) -> None:
    made = anew(trunk_at(mixed, whole[0], STEPS), n_tokens=10 * BATCH, shards="shards/new.text", replay=0.3)
    assert [source.name for source in made.sources] == ["words", "numbers", "new-text"]
    assert made.phases[0].parts == (1, 2, 7)  # a third and two thirds of 0.3, as in the trunk's last stage
    assert made.model.context == 64
    assert made.data.stages == ()
    alone = anew(trunk_at(mixed, whole[0], STEPS), n_tokens=10 * BATCH, shards="shards/new")
    assert (alone.shards, alone.data) == ("shards/new", Data())
    for settings, said in (({"shards": "x", "replay": 1.0}, "below 1"), ({"replay": 0.1}, "name these with --shards")):
        with pytest.raises(UsageError, match=said):
            anew(trunk_at(mixed, whole[0], STEPS), n_tokens=10 * BATCH, **settings)


def test_a_source_without_weight_is_judged_and_not_read(plain: Recipe, mixed: Recipe) -> None:
    words, numbers = mixed.data.sources
    only = replace(plain, shards="", data=Data(sources=(words, replace(numbers, weight=0))))
    there = open_sources(only.sources)
    for number in range(4):
        np.testing.assert_array_equal(
            Batches(only, there).batch(number).inputs_ST, Batches(plain, there.first(1)).batch(number).inputs_ST
        )
    assert Validation(only, there).sources == ["words", "numbers"]


def test_runs_of_other_weights_on_the_same_sources_are_judged_by_one_text(mixed: Recipe) -> None:
    there = open_sources(mixed.sources)
    names = {Validation(mixed.within(phase), there).name for phase in mixed.phases}
    assert len(names) == 1
    assert names.pop().count("+") == 1


def test_documents_stay_apart_in_a_mixture(mixed: Recipe) -> None:
    there = open_sources(mixed.sources)
    batch = Batches(replace(mixed, objective=Objective(documents="separate")), there).batch(25)
    assert batch.documents_ST is not None
    ends = batch.inputs_ST == there.tokenizer.end_of_text
    np.testing.assert_array_equal(np.diff(batch.documents_ST, axis=1), ends[:, 1:])


def test_sources_in_other_tokens_or_twice_the_same_are_refused(mixed: Recipe, tmp_path: Path) -> None:
    words = Path(mixed.data.sources[0].shards)
    texts = [Document(f"{i}", f"other words {i} " * 20) for i in range(9)]
    tokenize(lambda: texts, folder=tmp_path, vocabulary=262, validation_fraction=0.3, source="other")
    with pytest.raises(UsageError, match=r"'words' and 'other' are written in different tokens.*--tokenizer"):
        Sources({"words": open_shards(words), "other": open_shards(tmp_path)})
    with pytest.raises(UsageError, match="'words' and 'again' hold the same text; give it one weight"):
        Sources({"words": open_shards(words), "again": open_shards(words)})


def test_damage_in_any_source_is_found_before_a_step(mixed: Recipe, tmp_path: Path) -> None:
    numbers = tmp_path / "numbers"
    numbers.mkdir()
    for file in Path(mixed.data.sources[1].shards).iterdir():
        (numbers / file.name).write_bytes(file.read_bytes())
    content = bytearray((numbers / "train-00000.bin").read_bytes())
    content[len(content) // 2] ^= 4
    (numbers / "train-00000.bin").write_bytes(content)
    words, there = mixed.data.sources
    recipe = replace(mixed, data=replace(mixed.data, sources=(words, replace(there, shards=str(numbers)))))
    with pytest.raises(InputError, match=r"numbers/train-00000\.bin: damaged"):
        train(recipe, folder=tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_text_read_more_than_four_times_is_told(mixed: Recipe) -> None:
    there = open_sources(mixed.sources)
    long = replace(mixed, n_tokens=2000 * BATCH)
    assert [said[:24] for said in repeated(Batches(long, there).read(long.steps))] == [
        "source 'words' is read 4", "source 'numbers' is read"
    ]  # fmt: skip
    assert list(repeated(Batches(mixed, there).read(mixed.steps))) == []
