"""A parametrisation says what it is carried from, and nothing that it has no rule for."""

from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from isoflop.errors import UnknownNameError, UsageError
from isoflop.specs.architecture import Decoder
from isoflop.specs.parametrisation import Parametrisation, scales
from isoflop.specs.recipe_file import load

TINY = Path(__file__).resolve().parents[2] / "recipes" / "tiny.toml"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"base_width": 64},
            'base_width is set, but parametrisation.name is "standard"; set it to "mup" or "completep"',
        ),
        ({"base_layers": 2}, 'base_layers is set, but parametrisation.name is "standard"'),
        ({"name": "mup"}, 'parametrisation "mup" needs base_width, the model.width at which'),
        ({"name": "mup", "base_width": 64, "base_layers": 2}, '"mup" has no rule for depth; take "completep"'),
        ({"name": "completep"}, "needs base_width, base_layers or both"),
        ({"name": "completep", "base_head_size": 32}, "needs base_width, base_layers or both"),
        ({"name": "completep", "base_width": 0}, "base_width is 0; it must be at least 1"),
        ({"name": "completep", "base_layers": -1}, "base_layers is -1; it must be at least 1"),
    ],
)
def test_a_base_that_says_nothing_or_too_much_is_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=f"^recipe: parametrisation.*{said}|^recipe: .*{said}"):
        Parametrisation(**fields)  # type: ignore[arg-type]


def test_a_recipe_takes_it_from_the_command_line() -> None:
    settings = ["parametrisation.name=completep", "parametrisation.base_width=32", "model.width=128", "model.heads=4"]
    recipe = load(TINY, settings=settings)
    assert recipe.parametrisation == Parametrisation(name="completep", base_width=32)
    ruled = scales(recipe.parametrisation, recipe.model)
    assert (ruled.width, ruled.depth, ruled.attention) == (4.0, 1.0, None)


def test_a_name_or_key_that_is_not_known_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'completep'"):
        load(TINY, settings=["parametrisation.name=completeP", "parametrisation.base_width=32"])
    with pytest.raises(UnknownNameError, match=r"did you mean 'parametrisation\.base_width'"):
        load(TINY, settings=["parametrisation.name=mup", "parametrisation.base_with=32"])


def test_a_base_left_out_is_the_model_s_own() -> None:
    model = Decoder(layers=6, width=64, heads=2, kv_heads=2, head_size=32, hidden=192, vocabulary=64, context=16)
    ruled = scales(Parametrisation(name="completep", base_layers=3), model)
    assert (ruled.width, ruled.depth, ruled.attention) == (1.0, 2.0, None)
    smaller = scales(Parametrisation(name="completep", base_width=256, base_head_size=8), model)
    assert (smaller.width, smaller.depth) == (0.25, 1.0)
    assert smaller.attention == pytest.approx(8**0.5 / 32)


def test_a_model_that_it_has_no_rules_for_is_refused() -> None:
    model = Decoder(layers=6, width=64, heads=2, kv_heads=2, head_size=32, hidden=192, vocabulary=64, context=16)
    with pytest.raises(UsageError, match='"mup" has rules for decoders alone; take "standard"'):
        scales(Parametrisation(name="mup", base_width=64), model.transformer())


def test_it_outlives_a_file() -> None:
    ruled = Parametrisation(name="completep", base_width=64, base_layers=2)
    assert msgspec.json.decode(msgspec.json.encode(ruled), type=Parametrisation) == ruled


def test_the_page_s_large_recipe_is_four_times_as_wide_and_twice_as_deep_as_its_base() -> None:
    page = (TINY.parents[1] / "docs" / "parametrisation.md").read_text()
    base, large = page.split("```")[1].replace("\\\n", " ").strip().splitlines()
    assert base.startswith("isoflop train recipes/tiny.toml --set optimizer.learning_rate=0.01 ")
    words = large.split()
    recipe = load(TINY, settings=[value for key, value in pairwise(words) if key == "--set"])
    ruled = scales(recipe.parametrisation, recipe.model)
    assert (ruled.width, ruled.depth, ruled.attention) == (4.0, 2.0, None)
    small = load(TINY).model
    assert isinstance(small, Decoder)
    assert isinstance(recipe.model, Decoder)
    assert recipe.model.hidden / small.hidden == recipe.model.heads / small.heads == recipe.model.kv_heads == 4
