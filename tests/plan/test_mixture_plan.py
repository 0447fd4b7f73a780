"""The runs that a mixture is chosen from: where they lie, what they cost, what they are held against."""

import re

import numpy as np
import pytest

from isoflop.errors import InfeasibleError, UsageError
from isoflop.laws.mixture import bounded
from isoflop.plan.ladder_recipes import Ground
from isoflop.plan.mixture_design import EPSILON, designed
from isoflop.plan.mixture_plan import CHOSEN, laid
from isoflop.units import parse

SIZES = {"books": 8_000_000, "code": 3_000_000, "letters": 200_000}
NATURAL = np.array(list(SIZES.values())) / sum(SIZES.values())


def to_nearest(mixtures: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Distance of each mixture to the nearest run on the law's axes."""
    ends = [np.log1p(each / EPSILON) for each in (mixtures, runs)]
    return np.asarray(np.sqrt(((ends[0][:, None] - ends[1]) ** 2).sum(axis=2)).min(axis=1))


def test_the_design_fills_what_is_allowed_with_no_two_runs_alike() -> None:
    most = np.array([1.0, 0.6, 0.3])
    found = designed(NATURAL, runs=20, most=most, seed=0)
    assert found[0] == pytest.approx(NATURAL, abs=1e-4)
    assert found.sum(axis=1) == pytest.approx(1, abs=1e-12)
    assert found * 1e4 == pytest.approx(np.rint(found * 1e4))
    assert (found <= most + 2e-4).all()
    assert (found.min(axis=0) > 0.004).all()
    assert (found.max(axis=0) > 0.9 * most).all()
    random = np.random.default_rng(0)
    drawn, asked = (bounded(random.dirichlet(np.ones(3), size=count), found.min(axis=0), most) for count in (20, 500))
    ours, theirs = to_nearest(asked, found), to_nearest(asked, drawn)
    assert ours.max() < 0.7 * theirs.max()


def test_more_runs_keep_those_before_so_that_a_choice_can_go_on() -> None:
    few, many = (designed(NATURAL, runs=runs, most=np.ones(3), seed=1) for runs in (10, 16))
    assert (many[:10] == few).all()


@pytest.mark.parametrize("budget", [1e12, 1e13, 3e15])
def test_runs_cost_no_more_than_the_budget_and_not_much_less(budget: float) -> None:
    sizes = {name: 1000 * size for name, size in SIZES.items()}
    plan = laid(sizes, vocabulary=512, budget_flop=budget, runs=24)
    assert 0.8 * budget <= plan.compute_flop <= budget
    assert plan.compute_flop == pytest.approx(29 * 6 * plan.n_params * plan.run_tokens)
    assert [trial.kind for trial in plan.trials].count("repeat") == 3


def test_a_budget_too_small_is_refused_with_one_that_is_enough() -> None:
    with pytest.raises(InfeasibleError) as refused:
        laid(SIZES, vocabulary=512, budget_flop=1e9, runs=24)
    named = re.search(r"smallest is (\S+ FLOP)", str(refused.value))
    assert named is not None
    assert laid(SIZES, vocabulary=512, budget_flop=parse(named[1], "FLOP", name="budget"), runs=24).trials


def test_no_domain_is_read_too_often_in_the_run_the_mixture_is_for() -> None:
    plan = laid(SIZES, vocabulary=512, budget_flop=1e13, runs=16, for_tokens=16e6)
    assert plan.most == pytest.approx([1.0, 0.75, 0.05])
    shares = np.array([trial.shares for trial in plan.trials])
    assert (shares <= np.array(plan.most) + 2e-4).all()
    with pytest.raises(InfeasibleError, match="raise --epochs"):
        laid(SIZES, vocabulary=512, budget_flop=1e13, runs=16, for_tokens=1e9)


def test_the_check_has_seeds_of_its_own_and_trains_no_mixture_twice() -> None:
    plan = laid(SIZES, vocabulary=512, budget_flop=1e13, runs=16, check_seeds=2)
    checks = plan.checks(plan.natural)
    assert list(checks) == [CHOSEN, "natural", "uniform", "temperature", "unimax"]
    assert checks["natural"] == checks[CHOSEN]
    assert not {trial.seed for trial in plan.trials} & {trial.seed for each in checks.values() for trial in each}
    recipe = plan.recipe(checks["uniform"][0], dict.fromkeys(SIZES, "x") | {"code": "y"}, Ground("", 1, 1))
    assert recipe.role == "held_out"
    assert [source.weight for source in recipe.sources] == pytest.approx([1 / 3] * 3, abs=1e-4)


def test_too_few_runs_are_refused() -> None:
    with pytest.raises(UsageError, match="Raise --proxies"):
        laid(SIZES, vocabulary=512, budget_flop=1e13, runs=8)
