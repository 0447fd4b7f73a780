"""Trunks and branches: what they cost by count, how the rules follow from a size, and what cannot be is refused."""

import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from isoflop.count.parameters import parameters
from isoflop.errors import InfeasibleError, InputError, UnknownNameError, UsageError
from isoflop.laws.source import load
from isoflop.plan import ladder_rules as rules
from isoflop.plan.ladder_designed import branched_flop, designed
from isoflop.plan.ladder_recipes import Ground, limbs, proof, separate, tuning, usual_rate
from isoflop.plan.trunks import Layout, laid, of_budget
from isoflop.specs import ladder_file
from isoflop.specs.ladder_plan import LadderPlan
from isoflop.specs.recipe import Recipe

PLAN = LadderPlan()
GROUND = Ground("x", 1, 2)
PLANS = Path(__file__).resolve().parents[2] / "recipes" / "ladders"


@pytest.fixture(scope="module")
def layout() -> Layout:
    return of_budget(PLAN, 5e14)


def test_five_points_of_a_size_cost_9_5_units_as_branches_and_15_5_apart(layout: Layout) -> None:
    """Hägele et al. 2024: 0.8 x 8 of trunk and a fifth of each point, against the points themselves."""
    for size in layout.sizes:
        unit = size.flop(20 * size.n_params / size.batch_tokens)
        assert size.branched_flop() / unit == pytest.approx(9.5, rel=0.01)
        assert size.separate_flop() / unit == pytest.approx(15.5, rel=0.01)
    assert 1 - layout.saved_fraction == pytest.approx(9.5 / 15.5, rel=0.005)
    assert 1 - layout.saved_fraction <= 0.62


def test_the_recipes_cost_what_the_layout_says(layout: Layout) -> None:
    def flop(recipe: Recipe, steps: int) -> float:
        return 6.0 * parameters(recipe.model).total * steps * recipe.batch_tokens

    rate = usual_rate(PLAN)
    branched = sum(
        flop(limb.trunk, limb.trunk.steps + sum(point.cooldown_steps for _, point in limb.points))
        for limb in limbs(layout, GROUND, rate)
    )
    apart = sum(flop(recipe, recipe.steps) for recipe in separate(layout, GROUND, rate))
    swept = sum(flop(recipe, recipe.steps) for recipe in tuning(layout, GROUND))
    kept_out = proof(layout, GROUND, rate)
    assert branched == pytest.approx(layout.points_flop)
    assert apart == pytest.approx(layout.separate_flop)
    assert branched + swept + flop(kept_out, kept_out.steps) == pytest.approx(layout.compute_flop)
    dearest = max(flop(recipe, recipe.steps) for recipe in separate(layout, GROUND, rate))
    assert flop(kept_out, kept_out.steps) == pytest.approx(4 * dearest, rel=0.01)
    assert kept_out.role == "held_out"
    assert kept_out.threads == 2


def test_the_points_of_a_trunk_and_of_separate_runs_are_the_same(layout: Layout) -> None:
    rate = usual_rate(PLAN)
    branches = [
        (limb.trunk.model, point.steps * limb.trunk.batch_tokens, limb.trunk.seed)
        for limb in limbs(layout, GROUND, rate)
        for _, point in limb.points
    ]
    assert branches == [(run.model, run.n_tokens, run.seed) for run in separate(layout, GROUND, rate)]
    assert len(branches) == 25 + 2 * 2 * 5  # two more seeds of two sizes


def test_five_rates_twice_apart_are_tried_at_the_two_smallest_sizes_and_the_middle_one(layout: Layout) -> None:
    runs = tuning(layout, GROUND)
    assert {run.role for run in runs} == {"tuning"}
    tried = sorted({parameters(run.model).total for run in runs})
    assert tried == [layout.sizes[i].n_params for i in (0, 1, 2)]
    for n_params in tried:
        rates = [run.optimizer.learning_rate or 0 for run in runs if parameters(run.model).total == n_params]
        assert [b / a for a, b in pairwise(rates)] == pytest.approx([2] * 4)
        assert rates[2] == pytest.approx(0.3 * 0.0047 * (n_params / 108e6) ** (-1 / 3))


@given(budget=st.floats(5e13, 1e20))
def test_every_ladder_of_a_budget_keeps_the_rules(budget: float) -> None:
    layout = of_budget(PLAN, budget)
    assert layout.compute_flop <= 1.01 * budget
    sizes = [size.n_params for size in layout.sizes]
    assert sizes == sorted(set(sizes))
    for size in (*layout.sizes, layout.proof):
        model = size.model
        assert model.heads >= 2
        assert model.heads * model.head_size == pytest.approx(model.width, rel=0.13)
        assert model.head_size == pytest.approx(2 * math.sqrt(model.width), rel=0.25)
        assert model.hidden == pytest.approx(8 / 3 * model.width, abs=4 if model.width < 256 else 32)
        shortest = PLAN.ratios[0] * PLAN.tokens_per_param * size.n_params
        assert size.batch_tokens == rules.batch_tokens(
            size.n_params, context=model.context, shortest_tokens=shortest, least_steps=PLAN.least_steps
        )
        sequences = size.batch_tokens // model.context
        assert sequences * model.context == size.batch_tokens
        assert math.log2(sequences) % 1 == 0
        assert size.warmup_steps >= 50
        assert 0.95 <= size.beta2 <= 0.999
        for point in size.points:
            assert not point.flag
            assert point.cooldown_steps >= 100
            assert point.steps - size.warmup_steps >= 500
    smallest = layout.sizes[0]
    assert smallest.model.vocabulary * smallest.model.width <= 0.36 * smallest.n_params
    depths = [size.model.layers for size in (*layout.sizes, layout.proof)]
    assert depths == sorted(depths)


def test_a_budget_too_small_is_refused_with_the_smallest_that_is_enough() -> None:
    with pytest.raises(InfeasibleError, match="too small for 5 sizes of 5 lengths") as refused:
        of_budget(PLAN, 1e12)
    least = float(str(refused.value).split("the smallest costs ")[1].split()[0])
    assert of_budget(PLAN, least).compute_flop <= 1.01 * least


def test_batch_warmup_and_beta2_by_hand() -> None:
    """108 million parameters are the reference: 160 sequences of 2,048 tokens, in a power of two."""
    tokens = rules.batch_tokens(108e6, context=2048, shortest_tokens=1e9, least_steps=500)
    assert tokens in (2048 * 128, 2048 * 256)
    assert rules.batch_tokens(108e6, context=2048, shortest_tokens=1e8, least_steps=500) < 1e8 / 500
    assert rules.warmup_steps(1e6, shortest_tokens=1e8, batch_tokens=1000) == 1000  # N tokens
    assert rules.warmup_steps(1e6, shortest_tokens=2e6, batch_tokens=1000) == 200  # a tenth
    assert rules.warmup_steps(1e6, shortest_tokens=1e5, batch_tokens=1000) == 50
    assert rules.beta2(sequences=64, shortest_steps=10**6) == pytest.approx(0.999**2)
    assert rules.beta2(sequences=4, shortest_steps=500) == pytest.approx(0.99)


def test_points_too_short_for_a_cooldown_are_flagged() -> None:
    short = laid(replace(PLAN, smallest_params=30_000.0, batch_tokens=4096))
    said = list(short.flagged())
    assert any("a fifth of its steps is fewer than 100" in line for line in said)
    assert any("steps after the warmup, of which 500 are the least" in line for line in said)


def test_a_designed_ladder_stays_within_its_share_and_pays_a_trunk_once(layout: Layout) -> None:
    plan = replace(layout, plan=replace(PLAN, design="designed"))
    found = designed(plan, load("besiroglu-2024"))
    assert found.points_flop <= 0.5 * layout.separate_flop * 1.001
    assert sum(len(size.points) for size in found.sizes) >= 7
    every = [(i, j) for i in range(5) for j in range(5)]
    assert branched_flop(layout, every) == pytest.approx(layout.points_flop)
    last, size = [(4, 3), (4, 4)], layout.sizes[4]
    together = size.flop(size.points[4].branches_at + size.points[3].cooldown_steps + size.points[4].cooldown_steps)
    assert branched_flop(layout, last) == pytest.approx(3 * together)  # now the smallest size, with three seeds


def test_a_plan_file_is_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "ladder.toml"
    path.write_text('sizes = 4\nratios = [1, 2, 4]\n[optimizer]\nname = "muon"\n')
    plan = ladder_file.load(path, settings=["seeds=1", "optimizer.weight_decay=0.2", "design=grid"])
    assert (plan.sizes, plan.ratios, plan.seeds, plan.design) == (4, (1.0, 2.0, 4.0), 1, "grid")
    assert (plan.optimizer.name, plan.optimizer.weight_decay) == ("muon", 0.2)
    for setting, kind, said in (
        ("size=4", UnknownNameError, "did you mean 'sizes'"),
        ("optimizer.lr=1", UnknownNameError, "optimizer.lr"),
        ("design=grids", UsageError, "Invalid enum value"),
        ("ratios=[2, 1]", UsageError, "rising"),
        ("sizes=1", UsageError, "at least 2"),
        ("swept_rates=2", UsageError, "a parabola needs 3"),
        ("seeds", UsageError, "write key=value"),
        ("held_out=nan", UsageError, "held_out is nan"),
    ):
        with pytest.raises(kind, match=said):
            ladder_file.load(None, settings=[setting])
    with pytest.raises(InputError, match="cannot be read"):
        ladder_file.load(path.with_name("none.toml"))
    path.write_text("sizes = ")
    with pytest.raises(UsageError, match="not TOML"):
        ladder_file.load(path)


def test_the_plan_we_ship_says_the_defaults() -> None:
    path = Path(__file__).resolve().parents[2] / "recipes" / "ladders" / "hour.toml"
    assert ladder_file.load(path) == PLAN


@pytest.mark.parametrize(("name", "budget", "points"), [("hour", 5e14, 25), ("minutes", 1e13, 16)])
def test_a_plan_we_ship_keeps_the_rules_within_the_budget_its_comment_names(
    name: str, budget: float, points: int
) -> None:
    found = of_budget(ladder_file.load(PLANS / f"{name}.toml"), budget)
    assert sum(len(size.points) for size in found.sizes) == points
    assert not list(found.flagged())
    assert 0.75 * budget < found.compute_flop <= 1.01 * budget
    dearest = max(size.flop(point.steps) for size in found.sizes for point in size.points)
    assert found.proof.separate_flop() >= 4 * dearest
