"""Rates of whole steps and of collectives: of the right size, and refused where there is nothing to measure."""

import threading
from pathlib import Path

import pytest
from msgspec.structs import replace

from isoflop.errors import UsageError
from isoflop.specs.architecture import Decoder
from isoflop.specs.objective import Objective
from isoflop.specs.recipe import Recipe
from isoflop.specs.recipe_file import load
from isoflop.train.crew import Crew
from isoflop.train.protocol import Gather, Steps
from isoflop.train.rate import measure_gather, measure_steps

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
TINY = Recipe(
    name="tiny", shards="", n_tokens=64, batch_tokens=64,
    model=Decoder(layers=1, width=16, heads=2, kv_heads=2, head_size=8, hidden=32, vocabulary=32, context=32),
)  # fmt: skip


def test_steps_of_a_model_are_timed_without_data() -> None:
    assert measure_steps(TINY, seconds=0.1) > 0


@pytest.mark.parametrize("name", ["tiny", "mixture", "bert-like", "t5-like"])
@pytest.mark.parametrize("objective", [None, "prefix"])
def test_steps_of_every_family_are_timed_on_what_its_objective_makes_of_text(name: str, objective: str | None) -> None:
    recipe = load(RECIPES / f"{name}.toml")
    if objective is not None and name == "bert-like":
        with pytest.raises(UsageError, match="masked"):
            _learning(recipe, objective)
        return
    small = _learning(recipe, objective)
    assert measure_steps(small, seconds=0.01) > 0


def _learning(recipe: Recipe, objective: str | None) -> Recipe:
    learned = Objective(name=objective)  # type: ignore[arg-type]
    text = learned.settled(recipe.family).row(recipe.model.context, recipe.family).text
    return replace(recipe, objective=learned, batch_tokens=text, n_tokens=text)


def test_a_crew_finds_itself_in_a_file_and_gathers(tmp_path: Path) -> None:
    with Crew.of_processes(2, threads=1) as crew:
        crew.all_ready()
        rates = crew.ask(Gather(meeting=str(tmp_path / "meeting"), ranks=2, seconds=0.2))
        steps = crew.ask(Steps(recipe=TINY, seconds=0.1), of=1)
    assert len(rates) == 2
    assert min(rates) > 0
    assert len(steps) == 1
    assert threading.active_count() < 20


def test_one_process_has_nobody_to_gather_from(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nobody"):
        measure_gather(tmp_path / "meeting", ranks=1, seconds=0.1)


def test_no_time_to_measure_is_refused() -> None:
    with pytest.raises(UsageError, match="positive"):
        measure_steps(TINY, seconds=0.0)
