"""The recipes we ship: each is what its comment says, by published counts and our own."""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from isoflop.count.memory_peak import memory
from isoflop.count.parameters import parameters
from isoflop.errors import UnknownNameError
from isoflop.laws import hyperparameters
from isoflop.specs.layout import Training
from isoflop.specs.recipe import Recipe
from isoflop.specs.recipe_file import load
from isoflop.train.continuation import Trunk, anew
from isoflop.train.schedule import multiplier

FOLDER = Path(__file__).resolve().parents[2] / "recipes"
RECIPES = sorted(FOLDER.glob("*.toml"))
PUBLISHED = {
    "llama-1b-8gpu": 1_235_814_400,  # Llama-3.2-1B's safetensors
    "mixtral-like": 46_702_792_704,  # Mixtral-8x7B-v0.1's
    "bert-base": 109_514_298,  # BertForMaskedLM of bert-base-uncased
    "t5-base": 247_577_856,  # t5-v1_1-base
}
DEVICE_BYTES = 80e9  # of the devices that the planned ones name


def recipe(name: str) -> Recipe:
    return load(FOLDER / f"{name}.toml")


def tables(content: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, str]]:
    """The first key of each table, as text and with the table's path."""
    yield at, next(key for key, value in content.items() if not isinstance(value, dict))
    for name, value in content.items():
        if isinstance(value, dict):
            yield from tables(value, f"{at}{name}.")
        for one in value if isinstance(value, list) else ():
            if "name" in one:  # a stage is called by its number, which no nearest key needs
                yield from tables(one, f"{at}{name}.{one['name']}.")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_an_unknown_key_in_any_table_of_any_recipe_is_answered_with_the_nearest(path: Path) -> None:
    for at, key in tables(tomllib.loads(path.read_text())):
        with pytest.raises(UnknownNameError) as caught:
            load(path, settings=[f"{at}{key}x=1"])
        assert f"did you mean '{at}{key}'" in str(caught.value)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_named_for_a_published_model_has_its_parameters(name: str) -> None:
    assert parameters(recipe(name).model).total == PUBLISHED[name]
    assert f"{PUBLISHED[name]:,}" in (FOLDER / f"{name}.toml").read_text()


@pytest.mark.parametrize("path", [path for path in RECIPES if "[layout]" in path.read_text()], ids=lambda p: p.stem)
def test_a_planned_recipe_fits_its_devices_takes_the_memory_it_says_and_lays_out_its_batch(path: Path) -> None:
    found = load(path)
    layout = found.layout
    assert layout is not None
    assert found.precision != "auto"
    training = Training(precision=found.precision, optimizer=found.optimizer.name, loss_head=found.loss_head)
    need = memory(found.model, layout, training)
    assert need.hi_bytes < DEVICE_BYTES
    assert f" {need.total_bytes / 1e9:.0f} GB a device at the peak" in path.read_text()
    assert found.sequences == layout.data * layout.micro_batch * layout.accumulation
    assert found.model.context == layout.sequence
    assert found.recompute == layout.recompute
    assert f"{found.steps:,} steps" in path.read_text()
    assert f"for {layout.devices} GPUs of 80 GB" in path.read_text().replace("\n# ", " ")


@pytest.mark.parametrize("name", ["llama-1b-8gpu", "mixtral-like"])
def test_the_large_ones_take_20_tokens_for_each_parameter_that_a_token_uses(name: str) -> None:
    found = recipe(name)
    assert found.n_tokens / parameters(found.model).active == pytest.approx(20, rel=0.02)


def test_the_rates_that_the_comments_name_are_the_rules() -> None:
    names = ("tiny", "llama-1b-8gpu", "mixtral-like", "t5-base")
    tiny, llama, mixtral, t5 = (parameters(recipe(name).model) for name in names)
    assert hyperparameters.learning_rate(n_params=t5.total) == pytest.approx(0.0011, rel=0.05)
    assert hyperparameters.learning_rate(n_params=tiny.total) == pytest.approx(0.0112, rel=5e-3)
    assert hyperparameters.learning_rate(n_params=llama.total) == pytest.approx(0.00063, rel=1e-2)
    assert hyperparameters.learning_rate(n_params=mixtral.active) == pytest.approx(3e-4, rel=0.05)


@pytest.mark.parametrize(("name", "replay"), [("continue", 0.0), ("replay", 0.25)])
def test_the_continued_recipe_is_the_one_that_the_command_makes(name: str, replay: float) -> None:
    """`isoflop continue tiny --shards shards/other --replay 0.25 --tokens 300k`, its numbers rounded for people."""
    tiny, stated = recipe("tiny"), recipe(name)
    rate = hyperparameters.learning_rate(n_params=parameters(tiny.model).total)
    trunk = Trunk(checkpoint="runs/tiny", run="tiny", recipe=tiny, step=tiny.steps, learning_rate=rate)
    made = anew(trunk, n_tokens=300_000, shards="shards/other", replay=replay)
    assert made.origin == stated.origin
    assert made.model == stated.model
    for step in (0, 10, 49, 50, 300, 500, stated.steps - 1):
        ours = (made.optimizer.learning_rate or 0) * multiplier(made.schedule, step=step, steps=made.steps)
        said = (stated.optimizer.learning_rate or 0) * multiplier(stated.schedule, step=step, steps=stated.steps)
        assert said == pytest.approx(ours, rel=0.01)
    same = {"name", "n_tokens", "optimizer", "schedule"}
    assert replace(stated, **{name: getattr(made, name) for name in same}) == made
