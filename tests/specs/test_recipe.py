"""A recipe refuses what cannot be trained; its key changes with what decides the run and with nothing else."""

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import fields, replace

from isoflop.errors import UnknownNameError, UsageError
from isoflop.specs.architecture import Decoder, Encoder, EncoderDecoder, Routing
from isoflop.specs.data import Data, Source, Stage
from isoflop.specs.divergence import Divergence
from isoflop.specs.layout import Layout
from isoflop.specs.objective import Objective
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.origin import Origin
from isoflop.specs.parametrisation import Parametrisation
from isoflop.specs.recipe import Recipe
from isoflop.specs.recipe_file import load, parse
from isoflop.specs.rotary import Linear
from isoflop.specs.schedule import Schedule

MODEL = Decoder(layers=2, width=64, heads=2, kv_heads=2, head_size=32, hidden=192, vocabulary=1024, context=128)
RECIPE = Recipe(name="rung-1", shards="shards", model=MODEL, n_tokens=100_000, batch_tokens=1024)
MASKED = replace(
    RECIPE, model=Encoder(layers=2, width=64, heads=2, head_size=32, hidden=256, vocabulary=1025, context=128)
)
SPAN = replace(
    RECIPE,
    model=EncoderDecoder(layers=2, width=64, heads=2, head_size=32, hidden=256, vocabulary=1044, context=64),
    batch_tokens=4480,
)
DATA = "a" * 64
CODE, PROSE = (
    Source(name=name, shards=f"shards/{name}", weight=weight) for name, weight in (("code", 7), ("prose", 3))
)
MIXED = replace(RECIPE, shards="", data=Data(sources=(CODE, PROSE)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_tokens": 0}, "n_tokens is 0; it must be at least 1"),
        ({"threads": -1}, "threads is -1; it must be at least 1"),
        ({"batch_tokens": 1000}, "batch_tokens 1000 is not a multiple of the context 128"),
        ({"n_tokens": 1023}, "n_tokens 1023 is less than one batch of 1024 tokens"),
        ({"seed": -1}, "seed is -1; it must be 0 or more"),
    ],
)
def test_what_cannot_be_trained_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=f"^recipe: {said}"):
        replace(RECIPE, **change)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.0), ("learning_rate", -1e-3), ("learning_rate", float("nan")),
        ("learning_rate", float("inf")), ("beta1", 1.0), ("beta2", -0.1), ("epsilon", 0.0), ("weight_decay", -0.1),
        ("weight_decay", float("nan")), ("clip_norm", 0.0), ("muon_learning_rate", 0.0),
        ("muon_momentum", 1.0), ("z_loss", -1e-5), ("z_loss", float("inf")),
    ],
)  # fmt: skip
def test_an_optimizer_that_cannot_work_is_refused(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"^recipe: optimizer.{name} is {value}; it must be"):
        Optimizer(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"active": 5}, "5 active of 4 experts"), ({"active": 0}, "0 active of 4 experts"),
        ({"shared": -1}, "experts.shared is -1"), ({"balance_loss": -0.1}, "experts.balance_loss is -0.1"),
        ({"router_z_loss": float("nan")}, "experts.router_z_loss is nan"),
    ],
)  # fmt: skip
def test_experts_that_cannot_be_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=f"^architecture: {said}"):
        replace(Routing(count=4, active=2), **change)


def test_selective_recomputation_of_experts_is_refused() -> None:
    with pytest.raises(UsageError, match="knows no experts"):
        replace(RECIPE, model=replace(MODEL, experts=Routing(count=4, active=2)), recompute="selective")


@pytest.mark.parametrize("shares", [(-0.1, 0.2), (0.1, -0.2), (0.6, 0.5), (float("nan"), 0.2), (0.1, float("nan"))])
def test_a_schedule_longer_than_the_run_is_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="shares of the run, together at most 1"):
        Schedule(warmup_fraction=shares[0], cooldown_fraction=shares[1])
    assert Schedule(warmup_fraction=0.5, cooldown_fraction=0.5)


def test_tokens_are_rounded_down_to_whole_steps() -> None:
    assert RECIPE.steps == 97
    assert RECIPE.sequences == 8


# For every field of a recipe, and of what lies in it, another value.
OTHER: dict[str, object] = {
    "n_tokens": 200_000, "batch_tokens": 2048, "seed": 1, "precision": "bf16", "device": "cpu", "threads": 2,
    "validation_tokens": 1000, "evaluations": 3, "role": "held_out", "divergence": Divergence(rollbacks=1),
    "recompute": "full", "loss_head": "eager", "compile": "auto", "micro_tokens": 512,
    "layout": Layout(sharding="zero3", recompute="full", devices=8, micro_batch=1, sequence=64),
    "origin": Origin(checkpoint="runs/trunk@800", sha256="c" * 64),
    "parametrisation": Parametrisation(name="mup", base_width=32),
}  # fmt: skip
OTHER_MODEL: dict[str, object] = {
    "layers": 3, "width": 96, "heads": 4, "kv_heads": 1, "head_size": 64, "hidden": 256, "vocabulary": 2048,
    "context": 256, "tied": False, "qk_norm": False, "rope_theta": 5e5, "norm_epsilon": 1e-5,
    "experts": Routing(count=4, active=2), "window": 32, "rope_scaling": Linear(factor=2.0),
}  # fmt: skip
OTHER_OPTIMIZER: dict[str, object] = {
    "learning_rate": 1e-3, "beta1": 0.8, "beta2": 0.99, "epsilon": 1e-10, "weight_decay": 0.0, "clip_norm": 0.5,
    "z_loss": 0.0, "decay_on": "all", "name": "muon",
}  # fmt: skip
OTHER_MUON: dict[str, object] = {"muon_learning_rate": 0.01, "muon_momentum": 0.9, "muon_scale": "adamw-rms"}
OTHER_SCHEDULE: dict[str, object] = {
    "warmup_fraction": 0.0, "cooldown_fraction": 0.5, "name": "inverse-sqrt", "cooldown_shape": "linear",
    "final_fraction": 0.1, "warmup_from": 0.1,
}  # fmt: skip


OTHER_PARAMETRISATION: dict[str, object] = {
    "name": "completep", "base_width": 64, "base_layers": 4, "base_head_size": 16,
}  # fmt: skip
OTHER_OBJECTIVE: dict[str, object] = {"name": "prefix", "documents": "separate"}
OTHER_MASKING: dict[str, object] = {"documents": "separate", "rate": 0.3, "hidden": 0.5, "replaced": 0.2}
OTHER_SPANS: dict[str, object] = {"name": "prefix", "rate": 0.151, "mean_span": 3.01}
OTHER_ROUTING: dict[str, object] = {"count": 8, "active": 1, "shared": 64, "balance_loss": 0.02, "router_z_loss": 0.0}


OTHER_STAGE: dict[str, object] = {
    "at_tokens": 61_440, "weights": {"prose": 1.0}, "context": 512, "rope_theta": 5e5,
    "rope_scaling": Linear(factor=2.0),
}  # fmt: skip


def changed() -> dict[str, Recipe]:
    found = {name: replace(RECIPE, **{name: value}) for name, value in OTHER.items()}
    for name, value in OTHER_MODEL.items():
        found[f"model.{name}"] = replace(RECIPE, model=replace(MODEL, **{name: value}))
    found["model.full_every"] = replace(RECIPE, model=replace(MODEL, window=32, full_every=2))
    for name, value in OTHER_OPTIMIZER.items():
        found[f"optimizer.{name}"] = replace(RECIPE, optimizer=replace(RECIPE.optimizer, **{name: value}))
    for name, value in OTHER_MUON.items():
        found[f"optimizer.{name}"] = replace(RECIPE, optimizer=Optimizer(name="muon", **{name: value}))  # type: ignore[arg-type]
    for name, value in OTHER_SCHEDULE.items():
        found[f"schedule.{name}"] = replace(RECIPE, schedule=replace(RECIPE.schedule, **{name: value}))
    for name, value in OTHER_PARAMETRISATION.items():
        ruled = replace(Parametrisation(name="completep", base_width=32, base_layers=1), **{name: value})
        found[f"parametrisation.{name}"] = replace(RECIPE, parametrisation=ruled)
    del found["parametrisation.name"]  # of the others "completep" is one
    for name, value in OTHER_OBJECTIVE.items():
        found[f"objective.{name}"] = replace(RECIPE, objective=Objective(**{name: value}))  # type: ignore[arg-type]
    for name, value in OTHER_MASKING.items():
        found[f"masked.{name}"] = replace(MASKED, objective=Objective(**{name: value}))  # type: ignore[arg-type]
    for name, value in OTHER_SPANS.items():
        found[f"span.{name}"] = replace(SPAN, objective=Objective(**{name: value}))  # type: ignore[arg-type]
    for name, value in OTHER_STAGE.items():
        stage = Stage(**{"at_tokens": 51_200, "context": 256, name: value})  # type: ignore[arg-type]
        found[f"data.stages.{name}"] = replace(MIXED, data=replace(MIXED.data, stages=(stage,)))
    found["data.stages"] = replace(MIXED, data=replace(MIXED.data, stages=(Stage(at_tokens=51_200, context=256),)))
    found["data.sources.weight"] = replace(MIXED, data=Data(sources=(CODE, replace(PROSE, weight=4))))
    found["data.sources in another order"] = replace(MIXED, data=Data(sources=(PROSE, CODE)))
    for name, value in OTHER_ROUTING.items():
        routing = replace(Routing(count=4, active=2), **{name: value})
        found[f"model.experts.{name}"] = replace(RECIPE, model=replace(MODEL, experts=routing))
    return found


def test_this_file_knows_every_field_of_a_recipe() -> None:
    undecisive, fixed = {"name", "shards", "checkpoint"}, {"schema"}
    inner = {"model", "optimizer", "schedule", "objective", "data"}
    assert {f.name for f in fields(Recipe)} == set(OTHER) | undecisive | inner | fixed
    assert {f.name for f in fields(Decoder)} == set(OTHER_MODEL) | {"full_every"}
    assert {f.name for f in fields(Objective)} == set(OTHER_OBJECTIVE) | set(OTHER_MASKING) | set(OTHER_SPANS)
    assert {f.name for f in fields(Routing)} == set(OTHER_ROUTING)
    assert {f.name for f in fields(Optimizer)} == set(OTHER_OPTIMIZER) | set(OTHER_MUON)
    assert {f.name for f in fields(Schedule)} == set(OTHER_SCHEDULE)
    assert {f.name for f in fields(Parametrisation)} == set(OTHER_PARAMETRISATION)
    assert {f.name for f in fields(Stage)} == set(OTHER_STAGE)
    assert {f.name for f in fields(Source)} == {"name", "shards", "weight"}


def test_the_key_changes_with_everything_that_decides_the_run() -> None:
    keys = {name: recipe.key(data_sha256=DATA) for name, recipe in changed().items()}
    keys["data"] = RECIPE.key(data_sha256="b" * 64)
    keys["mixed"] = MIXED.key(data_sha256=DATA)
    keys["masked"], keys["span"] = MASKED.key(data_sha256=DATA), SPAN.key(data_sha256=DATA)
    keys[""] = RECIPE.key(data_sha256=DATA)
    assert len(set(keys.values())) == len(keys)


def test_a_recipe_that_asks_for_nothing_new_keeps_the_key_of_runs_that_exist() -> None:
    """The key of version 0.1.0, when recipes had neither `recompute` nor `loss_head`."""
    assert RECIPE.key(data_sha256=DATA) == "40b8011c916004e8"


def test_a_cooldown_left_out_is_the_run_of_the_usual_cooldown() -> None:
    said = replace(RECIPE, schedule=Schedule(cooldown_fraction=0.2))
    assert said.key(data_sha256=DATA) == RECIPE.key(data_sha256=DATA) == "40b8011c916004e8"


@pytest.mark.parametrize(
    ("name", "value"), [("muon_learning_rate", 0.02), ("muon_momentum", 0.9), ("muon_scale", "spectral")]
)
def test_what_is_said_of_muon_is_not_passed_over_where_adamw_trains(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=f'optimizer.{name} is set, but optimizer.name is "adamw"; set it to "muon"'):
        Optimizer(**{name: value})  # type: ignore[arg-type]


def test_a_spectral_step_needs_a_learning_rate_of_its_own() -> None:
    with pytest.raises(UsageError, match=r'muon_scale "spectral" needs a muon_learning_rate of its own'):
        Optimizer(name="muon", muon_scale="spectral")
    assert Optimizer(name="muon", muon_scale="spectral", muon_learning_rate=0.02)


@pytest.mark.parametrize("name", ["cosine", "linear"])
@pytest.mark.parametrize("field", [{"cooldown_fraction": 0.2}, {"cooldown_shape": "linear"}])
def test_a_decay_over_the_whole_run_has_no_cooldown(name: str, field: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f'schedule "{name}" decays over the whole run and has no cooldown'):
        Schedule(name=name, **field)  # type: ignore[arg-type]
    assert Schedule(name=name, cooldown_fraction=0).cooldown == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("field", [{"final_fraction": 0.1}, {"cooldown_shape": "linear"}])
@pytest.mark.parametrize("name", ["wsd", "inverse-sqrt"])
def test_the_end_of_a_cooldown_that_is_not_there_is_refused(name: str, field: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f'schedule "{name}" has no cooldown that'):
        Schedule(name=name, cooldown_fraction=0, **field)  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_warmup_rises_from_a_share(share: float) -> None:
    with pytest.raises(UsageError, match=r"schedule.warmup_from is .*; it is a share of the peak, 0 to 1"):
        Schedule(warmup_from=share)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_decay_ends_at_a_share(share: float) -> None:
    with pytest.raises(UsageError, match=r"schedule.final_fraction is .*; it is a share, 0 to 1"):
        Schedule(final_fraction=share)


def test_the_key_does_not_change_with_the_name_or_where_the_shards_lie() -> None:
    elsewhere = replace(RECIPE, name="rung-2", shards="/elsewhere/shards")
    assert elsewhere.key(data_sha256=DATA) == RECIPE.key(data_sha256=DATA)


def test_the_key_outlives_our_own_changes() -> None:
    """Written on 2026-11-21: runs of that day are still found by their recipes."""
    assert replace(RECIPE, n_tokens=1_000_000, batch_tokens=2048).key(data_sha256=DATA) == "47dec4235c0735b7"


def test_the_key_outlives_a_file() -> None:
    recipe = replace(RECIPE, schedule=Schedule(warmup_fraction=0), optimizer=Optimizer(weight_decay=0))
    read = msgspec.json.decode(msgspec.json.encode(recipe), type=Recipe)
    assert read == recipe
    assert read.key(data_sha256=DATA) == recipe.key(data_sha256=DATA)


def test_a_field_that_is_not_known_is_refused_and_not_ignored() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `learning_rate`"):
        msgspec.convert({**msgspec.to_builtins(RECIPE), "learning_rate": 1e-3}, Recipe)


@pytest.mark.parametrize(
    ("table", "key", "value", "said"),
    [
        ("optimizer", "name", "muonn", "no optimizer.name in here named 'muonn'; did you mean 'muon'?"),
        ("optimizer", "muon_scale", "rms", "no optimizer.muon_scale in here named 'rms'; did you mean 'adamw-rms'?"),
        ("schedule", "name", "wds", "no schedule.name in here named 'wds'; did you mean 'wsd'?"),
        (
            "optimizer",
            "name",
            "lion",
            "no optimizer.name in here named 'lion'; did you mean 'muon'? known: adamw, adamw-8bit, muon",
        ),
    ],
)
def test_a_name_that_a_field_does_not_know_is_answered_with_those_it_does(
    table: str, key: str, value: str, said: str
) -> None:
    content = msgspec.to_builtins(RECIPE)
    content[table][key] = value
    with pytest.raises(UnknownNameError) as caught:
        parse(content, where="here")
    assert said in str(caught.value)


def test_names_at_the_top_are_known_too_and_those_that_may_be_left_out_stay_out() -> None:
    content = msgspec.to_builtins(RECIPE)
    assert parse(content, where="here") == RECIPE
    with pytest.raises(UnknownNameError, match="no precision in here named 'fp9'"):
        parse({**content, "precision": "fp9"}, where="here")


RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_that_we_ship_can_be_read_and_is_called_as_its_file(path: Path) -> None:
    assert load(path).name == path.stem


def test_an_unknown_key_is_answered_with_the_nearest_in_every_table_of_a_recipe() -> None:
    path = next(path for path in RECIPES if path.stem == "mixture")
    for wrong, near in (("experts.cuont", "experts.count"), ("lairs", "layers"), ("familly", "family")):
        with pytest.raises(UnknownNameError, match=f"model.{wrong}.*did you mean 'model.{near}'"):
            load(path, settings=[f"model.{wrong}=3"])


@pytest.mark.parametrize("key", ["seed", "checkpoint.keep", "divergence.window", "model.experts.count"])
def test_a_whole_number_beyond_what_toml_holds_is_refused(key: str) -> None:
    path = next(path for path in RECIPES if path.stem == "mixture")
    with pytest.raises(UsageError, match=f"{key} is 9223372036854775808; the whole numbers of TOML end at 9.2e18"):
        load(path, settings=[f"{key}={2**63}"])


def test_threads_beyond_any_machine_are_refused() -> None:
    with pytest.raises(UsageError, match="threads is 10000; it must be at most 1024"):
        replace(RECIPE, threads=10_000)


@pytest.mark.parametrize(
    ("key", "near"),
    [("layers", "model.layers"), ("learning_rate", "optimizer.learning_rate"), ("vocabulary", "model.vocabulary")],
)
def test_a_key_set_without_its_table_is_answered_with_its_place(key: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match=f"did you mean '{near}'"):
        load(RECIPES[0], settings=[f"{key}=3"])


def test_a_table_that_is_a_number_is_told_in_the_words_of_toml() -> None:
    content = msgspec.to_builtins(RECIPE)
    with pytest.raises(UsageError, match=r"here: checkpoint: expected table, got int$"):
        parse({**content, "checkpoint": 3}, where="here")
    with pytest.raises(UsageError, match=r"here: divergence.patience: expected int, got str$"):
        parse({**content, "divergence": {"patience": "x"}}, where="here")
