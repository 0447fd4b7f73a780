"""A branch is the run of one go to the bit; what goes on otherwise says how, and what cannot go on is refused."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from isoflop import files
from isoflop.data.read import Document
from isoflop.data.shards import open_shards
from isoflop.data.tokenization import tokenize
from isoflop.errors import InputError, StoppedError, UsageError
from isoflop.laws.table import table
from isoflop.specs.architecture import Decoder, EncoderDecoder
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.origin import Origin
from isoflop.specs.parametrisation import Parametrisation
from isoflop.specs.recipe import Recipe
from isoflop.specs.run import Run
from isoflop.specs.schedule import Schedule
from isoflop.train import checkpoint, record, store
from isoflop.train.continuation import Trunk, anew, anneal, more, ntk_theta
from isoflop.train.loop import train
from isoflop.train.schedule import multiplier

CONTEXT = 16
BATCH = 4 * CONTEXT
MODEL = Decoder(layers=1, width=16, heads=2, kv_heads=1, head_size=8, hidden=32, vocabulary=270, context=CONTEXT)
WORDS = ["law", "run", "token", "shard", "ladder", "fit", "plan", "loss", "model", "data", "step", "rate", "heat"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [" ".join(WORDS[(i * j) % len(WORDS)] for j in range(1, 120)) + "\n" for i in range(1, 30)]
    documents = [Document(f"{i}.txt", text) for i, text in enumerate(texts)]
    folder = tmp_path_factory.mktemp("shards")
    tokenize(lambda: documents, folder=folder, vocabulary=270, validation_fraction=0.3, source="words in a circle")
    return folder


@pytest.fixture(scope="module")
def others(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another text in the same tokens."""
    texts = [" ".join(WORDS[(i + j) % len(WORDS)][::-1] for j in range(1, 120)) + "\n" for i in range(1, 30)]
    documents = [Document(f"{i}.txt", text) for i, text in enumerate(texts)]
    folder = tmp_path_factory.mktemp("others")
    tokenize(
        lambda: documents,
        folder=folder,
        vocabulary=270,
        validation_fraction=0.3,
        source="words backwards",
        tokenizer=open_shards(shards).tokenizer,
    )
    return folder


@pytest.fixture(scope="module")
def recipe(shards: Path) -> Recipe:
    """A trunk of 30 steps: it warms up over 3 and then stays."""
    return Recipe(
        name="trunk",
        shards=str(shards),
        model=MODEL,
        n_tokens=30 * BATCH,
        batch_tokens=BATCH,
        optimizer=Optimizer(learning_rate=3e-3),
        schedule=Schedule(warmup_fraction=0.1, cooldown_fraction=0),
        device="cpu",
        validation_tokens=512,
        evaluations=3,
    )


@pytest.fixture(scope="module")
def home(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trunk's run; it keeps its checkpoints of steps 20 and 30."""
    folder = tmp_path_factory.mktemp("runs") / "trunk"
    train(recipe, folder=folder)
    return folder


def at(recipe: Recipe, home: Path, step: int) -> Trunk:
    return Trunk(checkpoint=f"{home}@{step}", run=home.name, recipe=recipe, step=step, learning_rate=3e-3)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    found = checkpoint.load(max((folder / record.CHECKPOINTS).glob("step-*"))).tensors
    return {f"{group}/{name}": value for group, rows in found.items() for name, value in rows.items()}


def assert_equal_bits(a: Path, b: Path) -> None:
    ours, theirs = tensors(a), tensors(b)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("step", [20, 30])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("shape", ["1-sqrt", "linear"])
def test_a_cooldown_branch_equals_the_run_of_one_go_to_the_bit(
    recipe: Recipe, optimizer: str, shape: Any, step: int, tmp_path: Path
) -> None:
    rule = Optimizer(name=optimizer, learning_rate=3e-3)  # type: ignore[arg-type]
    trunk = replace(recipe, optimizer=rule)
    train(trunk, folder=tmp_path / "trunk")
    branch = anneal(at(trunk, tmp_path / "trunk", step), n_tokens=8 * BATCH, shape=shape)
    whole = Recipe(
        **{name: getattr(trunk, name) for name in trunk.__struct_fields__ if name not in {"n_tokens", "schedule"}},
        n_tokens=(step + 8) * BATCH,
        schedule=Schedule(warmup_fraction=3 / (step + 8), cooldown_fraction=8 / (step + 8), cooldown_shape=shape),
    )
    once, twice = train(whole, folder=tmp_path / "once"), train(branch, folder=tmp_path / "twice")
    assert_equal_bits(tmp_path / "once", tmp_path / "twice")
    assert (once.loss_nats, once.n_tokens, once.compute_flop) == (twice.loss_nats, twice.n_tokens, twice.compute_flop)
    assert once.unique_tokens == twice.unique_tokens
    assert once.compute_flop is not None
    assert twice.spent_flop == pytest.approx(once.compute_flop * 8 / (step + 8), rel=1e-12)


def test_more_of_a_trunk_is_the_longer_trunk_to_the_bit_and_so_is_a_branch_of_that(
    recipe: Recipe, home: Path, tmp_path: Path
) -> None:
    longer = more(at(recipe, home, 20), n_tokens=25 * BATCH)
    train(longer, folder=tmp_path / "longer")
    train(replace(longer, origin=None), folder=tmp_path / "once")
    assert_equal_bits(tmp_path / "longer", tmp_path / "once")
    branch = anneal(at(longer, tmp_path / "longer", 45), n_tokens=9 * BATCH)
    run = train(branch, folder=tmp_path / "branch")
    train(replace(branch, origin=None), folder=tmp_path / "branch-once")
    assert_equal_bits(tmp_path / "branch", tmp_path / "branch-once")
    assert run.origin is not None
    assert (run.origin.fresh, run.origin.n_tokens, run.n_tokens) == (True, 45 * BATCH, 54 * BATCH)


def test_five_points_of_one_trunk_cost_9_5_units_where_five_runs_cost_15_5(recipe: Recipe) -> None:
    """Lengths 0.5, 1, 2, 4, 8 times 20 N, a fifth of each a cooldown: the trunk ends where the last one begins."""
    spent, trunk_ends = 0, 0
    for length in (500, 1000, 2000, 4000, 8000):
        begins = length * 4 // 5
        trunk = replace(recipe, n_tokens=begins * BATCH)
        branch = anneal(
            Trunk(checkpoint="x", run="x", recipe=trunk, step=begins, learning_rate=1e-3),
            n_tokens=length // 5 * BATCH,
        )
        assert branch.steps == length
        spent, trunk_ends = spent + branch.steps - begins, begins
    assert spent + trunk_ends == 9500


def test_a_branch_cut_off_anywhere_goes_on_to_the_bit_even_without_its_trunk(recipe: Recipe, tmp_path: Path) -> None:
    train(recipe, folder=tmp_path / "trunk")
    branch = anneal(at(recipe, tmp_path / "trunk", 20), n_tokens=10 * BATCH)
    train(branch, folder=tmp_path / "whole")
    folder, asked = tmp_path / "cut", 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 4

    with pytest.raises(StoppedError):
        train(branch, folder=folder, should_stop=stop)
    (tmp_path / "trunk").rename(tmp_path / "gone")
    train(branch, folder=folder)
    assert_equal_bits(tmp_path / "whole", folder)
    with pytest.raises(InputError, match="no such checkpoint"):
        train(branch, folder=tmp_path / "new")


@pytest.mark.parametrize(("steps", "usual"), [(30, 100), (1000, 200)])
def test_a_cooldown_is_a_fifth_of_what_went_before_and_at_least_100_steps(
    recipe: Recipe, steps: int, usual: int
) -> None:
    trunk = replace(recipe, n_tokens=steps * BATCH)
    branch = anneal(Trunk(checkpoint="x", run="x", recipe=trunk, step=steps, learning_rate=1e-3))
    assert branch.steps == steps + usual
    rates = [multiplier(branch.schedule, step=step, steps=branch.steps) for step in range(branch.steps)]
    assert rates[:steps] == [multiplier(trunk.schedule, step=step, steps=steps) for step in range(steps)]
    assert rates[steps] < 1
    assert rates[-1] == pytest.approx(1 - math.sqrt(usual / (usual + 1)))


def test_a_branch_off_the_last_step_of_a_warmup_is_a_schedule_too(recipe: Recipe) -> None:
    for warmup in range(1, 60):
        trunk = replace(recipe, n_tokens=warmup * BATCH, schedule=Schedule(warmup_fraction=1.0, cooldown_fraction=0))
        branch = anneal(
            Trunk(checkpoint="x", run="x", recipe=trunk, step=warmup, learning_rate=1e-3), n_tokens=7 * BATCH
        )
        assert branch.steps == warmup + 7


def test_a_decayed_run_is_not_branched_and_its_rate_rises_again_from_where_it_was(recipe: Recipe, home: Path) -> None:
    decayed = replace(recipe, schedule=Schedule(warmup_fraction=0.1, cooldown_fraction=0.5))
    trunk = at(decayed, home, 30)
    with pytest.raises(UsageError, match=r"stable from step 3 to 15 only.*--rewarm"):
        anneal(trunk)
    with pytest.raises(UsageError, match="stable from step 3 to 15 only"):
        more(trunk, n_tokens=BATCH)
    again = anew(trunk, n_tokens=10_000 * BATCH, peak_share=0.5)
    assert again.optimizer.learning_rate == 1.5e-3
    last = 3e-3 * multiplier(decayed.schedule, step=29, steps=30)
    rates = [1.5e-3 * multiplier(again.schedule, step=step, steps=10_000) for step in range(10_000)]
    assert rates.index(max(rates)) == 100  # 1 % of the steps
    assert max(rates) == 1.5e-3
    rise = (1.5e-3 - last) / 101
    assert rates[:100] == pytest.approx([last + rise * (step + 1) for step in range(100)])
    assert rates[-1] < rates[0]


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_a_schedule_that_falls_all_along_has_nothing_to_branch_off(recipe: Recipe, home: Path, name: Any) -> None:
    falling = replace(recipe, schedule=Schedule(name=name))
    with pytest.raises(UsageError, match=f'"{name}" has no stable part'):
        anneal(at(falling, home, 20))


def test_a_stable_rate_has_nothing_to_rise_to(recipe: Recipe, home: Path) -> None:
    again = anew(at(recipe, home, 20), n_tokens=100 * BATCH, shards="elsewhere")
    rates = [multiplier(again.schedule, step=step, steps=100) for step in range(100)]
    assert rates[:80] == [1.0] * 80
    assert rates[-1] < 0.1


def test_other_data_begin_anew_on_the_weights_and_no_law_takes_that_for_a_fresh_run(
    recipe: Recipe, home: Path, others: Path, tmp_path: Path
) -> None:
    again = anew(at(recipe, home, 30), n_tokens=40 * BATCH, shards=str(others))
    run = train(again, folder=tmp_path / "again")
    assert run.origin is not None
    assert (run.origin.run, run.origin.step, run.origin.fresh, run.origin.skipped_steps) == ("trunk", 30, False, 0)
    assert run.n_tokens == 70 * BATCH
    assert run.unique_tokens is None
    assert run.compute_flop == pytest.approx(6 * run.n_params * 70 * BATCH)
    assert run.spent_flop == pytest.approx(6 * run.n_params * 40 * BATCH)
    assert run.stamp is not None
    assert run.stamp.inputs["origin"] == run.origin.sha256
    rows = files.read_lines(tmp_path / "again" / store.METRICS, record.Row)
    measured = {row.step: row.validation_loss_nats for row in rows if row.validation_loss_nats is not None}
    assert min(measured) == 0  # what was taken up is measured before the first step
    assert measured[40] < measured[0] - 0.5
    branch = train(anneal(at(recipe, home, 20), n_tokens=8 * BATCH), folder=tmp_path / "branch")
    theirs = table([replace(run, validation=branch.validation), branch])
    assert theirs.labels == ("branch",)
    assert theirs.dropped[0].reason == "continued from trunk: its tokens are not of one run"


def test_the_weights_on_the_same_data_go_on_in_their_order(recipe: Recipe, home: Path, tmp_path: Path) -> None:
    trunk = replace(recipe, schedule=Schedule(warmup_fraction=0.1, cooldown_fraction=0.5))
    train(trunk, folder=tmp_path / "trunk")
    run = train(anew(at(trunk, tmp_path / "trunk", 30), n_tokens=10 * BATCH), folder=tmp_path / "again")
    assert run.origin is not None
    assert run.origin.skipped_steps == 30
    seeded = anew(at(trunk, tmp_path / "trunk", 30), n_tokens=10 * BATCH)
    other = train(replace(seeded, seed=1), folder=tmp_path / "seeded")
    assert other.origin is not None
    assert other.origin.skipped_steps == 0


def test_a_longer_context_raises_theta_so_that_the_slowest_frequency_is_stretched_as_far(
    recipe: Recipe, home: Path, tmp_path: Path
) -> None:
    def theta(found: Recipe) -> float:
        assert isinstance(found.model, Decoder)
        return found.model.rope_theta

    again = anew(at(recipe, home, 30), n_tokens=10 * BATCH, context=4 * CONTEXT)
    size = MODEL.head_size
    slowest, before = theta(again) ** -((size - 2) / size), MODEL.rope_theta ** -((size - 2) / size)
    assert before / slowest == pytest.approx(4)
    assert train(again, folder=tmp_path / "long").status == "finished"
    assert theta(anew(at(recipe, home, 30), n_tokens=10 * BATCH, context=64, rope_theta=5e5)) == 5e5
    assert theta(anew(at(recipe, home, 30), n_tokens=10 * BATCH, context=8)) == MODEL.rope_theta
    with pytest.raises(UsageError, match="head_size 2 has one rotary frequency"):
        ntk_theta(1e4, stretch=2.0, head_size=2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": replace(MODEL, hidden=64)}, r"model.hidden is 64, and was 32; its weights are of that shape"),
        ({"model": replace(MODEL, context=8)}, r'model.context is 8, and was 16; only take = "weights" may change it'),
        ({"optimizer": Optimizer(learning_rate=3e-3, weight_decay=0.2)}, "optimizer.weight_decay is 0.2, and was 0.1"),
        ({"optimizer": Optimizer(name="muon", learning_rate=3e-3)}, "optimizer.name is muon, and was adamw"),
        ({"seed": 5}, "seed is 5, and was 0"),
        ({"batch_tokens": 2 * BATCH}, "batch_tokens is 128, and was 64"),
        ({"n_tokens": 20 * BATCH}, "and 20 are done"),
        ({"schedule": Schedule(warmup_fraction=0.5)}, "at step 0 its rate was 0.25 of the peak"),
    ],
)
def test_what_cannot_go_on_with_its_state_is_refused_with_the_reason(
    recipe: Recipe, home: Path, change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    branch = anneal(at(recipe, home, 20), n_tokens=8 * BATCH)
    with pytest.raises(UsageError, match=said):
        train(replace(branch, **change), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_weights_under_other_multipliers_are_another_model_and_are_refused(
    recipe: Recipe, home: Path, tmp_path: Path
) -> None:
    """muP at its base sizes multiplies by 1, and only that may be taken up from the standard parametrisation."""
    again = anew(at(recipe, home, 20), n_tokens=8 * BATCH)
    for parametrisation, said in (
        (Parametrisation(name="mup", base_width=8), "'mup' multiplies its logits by other numbers than 'standard'"),
        (Parametrisation(name="mup", base_width=16, base_head_size=4), "'mup' multiplies its attention scores"),
        (Parametrisation(name="completep", base_layers=2), "'completep' multiplies its blocks' outputs"),
    ):
        with pytest.raises(UsageError, match=said):
            train(replace(again, parametrisation=parametrisation), folder=tmp_path / "run")
    same = replace(again, parametrisation=Parametrisation(name="mup", base_width=16))
    assert train(same, folder=tmp_path / "run").status == "finished"


def test_the_work_before_a_branch_is_counted_as_its_trunk_counted_it(recipe: Recipe, tmp_path: Path) -> None:
    """Of an encoder-decoder that is not 6 N D, as no token passes all of it."""
    size: dict[str, Any] = {
        "layers": 1,
        "width": 16,
        "heads": 2,
        "head_size": 8,
        "hidden": 32,
        "vocabulary": 380,
        "context": CONTEXT,
    }
    text = CONTEXT + 1  # of a sequence that spans are cut out of
    trunk = replace(recipe, model=EncoderDecoder(**size), n_tokens=4 * text * 30, batch_tokens=4 * text)
    before = train(trunk, folder=tmp_path / "trunk")
    after = train(anneal(at(trunk, tmp_path / "trunk", 30), n_tokens=4 * text * 8), folder=tmp_path / "branch")
    assert before.compute_flop is not None
    assert after.compute_flop == pytest.approx(before.compute_flop * 38 / 30, rel=1e-12)


def test_other_parts_than_the_trunk_s_are_taken_where_the_branch_asks_for_them(recipe: Recipe, tmp_path: Path) -> None:
    trunk = replace(recipe, micro_tokens=CONTEXT)
    train(trunk, folder=tmp_path / "trunk")
    branch = anneal(at(trunk, tmp_path / "trunk", 20), n_tokens=8 * BATCH)
    for micro_tokens, rows in ((CONTEXT, 1), (2 * CONTEXT, 2)):
        run = train(replace(branch, micro_tokens=micro_tokens), folder=tmp_path / str(rows))
        assert run.engine is not None
        assert run.engine.rows == rows


def test_other_data_are_refused_with_its_state_and_another_tokenizer_always(
    recipe: Recipe, home: Path, others: Path, tmp_path: Path
) -> None:
    branch = anneal(at(recipe, home, 20), n_tokens=8 * BATCH)
    with pytest.raises(UsageError, match="holds other data"):
        train(replace(branch, shards=str(others)), folder=tmp_path / "run")
    texts = [Document(f"{i}.txt", f"{'xyz' * 40} {i} zzz yyy {'ab' * i}\n" * 9) for i in range(30)]
    foreign = tmp_path / "foreign"
    tokenize(lambda: texts, folder=foreign, vocabulary=262, validation_fraction=0.3, source="x")
    with pytest.raises(UsageError, match=rf"another tokenizer.*data tokenize --tokenizer {recipe.shards}"):
        train(anew(at(recipe, home, 20), n_tokens=8 * BATCH, shards=str(foreign)), folder=tmp_path / "run")


def test_a_checkpoint_that_is_not_there_or_not_whole_is_no_origin(recipe: Recipe, tmp_path: Path) -> None:
    train(recipe, folder=tmp_path / "trunk")
    branch = anneal(at(recipe, tmp_path / "trunk", 20), n_tokens=8 * BATCH)
    for name, said in (
        (f"{tmp_path}/trunk@7", "no checkpoint of step 7; there are: .*20, 30"),
        (f"{tmp_path}/none", "no such checkpoint"),
    ):
        lost = replace(branch, origin=Origin(checkpoint=name, take="state"))
        with pytest.raises(InputError, match=said):
            train(lost, folder=tmp_path / "run")
    stated = replace(branch, origin=Origin(checkpoint=f"{tmp_path}/trunk@20", take="state", sha256="a" * 64))
    with pytest.raises(UsageError, match="another checkpoint"):
        train(stated, folder=tmp_path / "run")
    weights = tmp_path / "trunk" / record.CHECKPOINTS / "step-00000020" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        train(branch, folder=tmp_path / "run")


def test_the_key_knows_what_was_taken_and_not_where_it_lay(recipe: Recipe, home: Path) -> None:
    def key(origin: Origin | None) -> str:
        return replace(recipe, origin=origin).key(data_sha256="a" * 64)

    keys = {
        key(None),
        key(Origin(checkpoint="a", sha256="1" * 64)),
        key(Origin(checkpoint="a", sha256="2" * 64)),
        key(Origin(checkpoint="a", sha256="1" * 64, take="state")),
    }
    assert len(keys) == 4
    assert key(Origin(checkpoint="b", sha256="1" * 64)) in keys


def test_the_story_survives_the_file(recipe: Recipe, home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "branch"
    run = train(anneal(at(recipe, home, 20), n_tokens=8 * BATCH), folder=folder)
    assert files.read_json(folder / store.RUN, Run) == run
    written = (folder / store.RECIPE).read_text()
    assert run.origin is not None
    assert f'sha256 = "{run.origin.sha256}"' in written
