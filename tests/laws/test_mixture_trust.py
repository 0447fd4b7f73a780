"""How far a law of mixtures is to be trusted, against planted losses, brute force and another library."""

import numpy as np
import pytest

from isoflop.laws.law import Array
from isoflop.laws.mixture import MixtureLaw, fit_mixture
from isoflop.laws.mixture_advice import advise, target_weights
from isoflop.laws.mixture_table import MixtureTable
from isoflop.laws.mixture_trust import as_good, left_out, new_runs, noise_of_repeats, rank_correlation

BOTH = {"loss 1": 0.5, "loss 2": 0.5}


def planted(shares: Array) -> Array:
    """Two losses, each falling with the log of its own domain; the third domain helps neither."""
    return 2 + 0.1 * np.log(0.02 / (shares[:, :2] + 0.02)) + 0.05 * shares[:, [2, 2]]


def sample(seed: int, *, runs: int = 24, noise: float = 0.004, repeats: int = 4) -> tuple[Array, Array]:
    """Mixtures, the first one repeated, and their losses, whose noise is common to both."""
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.ones(3), size=runs)
    shares[:repeats] = shares[0]
    scatter = noise * (random.standard_normal((runs, 1)) + 0.3 * random.standard_normal((runs, 2)))
    return shares, planted(shares) * np.exp(scatter)


def test_nine_in_ten_new_runs_of_the_choice_lie_in_the_forecast() -> None:
    inside = []
    for seed in range(24):
        shares, losses = sample(seed)
        law = fit_mixture(shares, losses)
        chosen = np.array([each.value for each in law.best(BOTH, draws=2, seed=seed).proportions.values()])[None]
        said = new_runs(law, BOTH, chosen)[0]
        random = np.random.default_rng(1000 + seed)
        truth = float(planted(chosen).mean()) * np.exp(0.004 * random.standard_normal(20))
        inside += [said.lo <= loss <= said.hi for loss in truth]
    assert 0.8 <= np.mean(inside) <= 0.99  # 24 laws: a standard error is 0.06


def test_a_run_told_from_the_others_is_what_a_fit_without_it_says() -> None:
    shares, losses = sample(1, runs=16)
    law = fit_mixture(shares, losses)
    found = left_out(law, {"loss 2": 1.0})
    surface = law.surfaces[1]
    covariance = surface.root_RR @ surface.root_RR.T
    for run in (0, 7):
        rest = np.arange(16) != run
        pulls = np.linalg.solve(covariance[np.ix_(rest, rest)], np.log(losses[rest, 1]) - surface.level)
        assert found.predicted_R[run] == pytest.approx(np.exp(surface.level + covariance[run, rest] @ pulls), rel=1e-9)


def test_the_noise_of_seeds_is_found_from_repeats_alone() -> None:
    random = np.random.default_rng(0)
    groups = [f"{i // 4}" for i in range(800)] + ["alone"]
    levels = np.repeat(random.uniform(1, 5, 200), 4)
    losses = [*(levels * np.exp(0.01 * random.standard_normal(800))), 3.0]
    noise = noise_of_repeats(groups, losses)
    assert noise is not None
    assert noise[0] == pytest.approx(0.01, rel=0.1)
    assert noise[1] == 600
    assert noise_of_repeats(["a", "b"], [1.0, 2.0]) is None


def test_what_is_as_good_is_what_the_planted_law_says() -> None:
    shares, losses = sample(3, runs=60, noise=1e-5, repeats=1)
    law = fit_mixture(shares, losses)
    chosen = np.array([each.value for each in law.best(BOTH, draws=2).proportions.values()])
    low, high = as_good(law, BOTH, chosen, within=0.01)
    grid = np.array([(a, b, 1 - a - b) for a in np.linspace(0, 1, 201) for b in np.linspace(0, 1 - a, 201)])
    grid = np.maximum(grid, 0)
    loss = planted(grid).mean(axis=1)
    flat = grid[loss <= loss.min() * np.exp(0.01)]
    assert low == pytest.approx(flat.min(axis=0), abs=0.03)
    assert high == pytest.approx(flat.max(axis=0), abs=0.03)


def test_ranks_correlate_as_scipy_has_them() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    random = np.random.default_rng(5)
    a, b = random.integers(0, 6, 50).astype(float), random.standard_normal(50)
    assert rank_correlation(a, b + a) == pytest.approx(float(stats.spearmanr(a, b + a).statistic), abs=1e-12)


def table(shares: Array, losses: Array) -> MixtureTable:
    return MixtureTable(("a", "b", "c"), ("a", "b"), shares, losses, tuple(map(str, range(len(shares)))), (), "", "")


def test_advice_stays_within_what_is_allowed_and_says_that_it_is_at_the_edge() -> None:
    shares, losses = sample(4, runs=40)
    _, advice = advise(table(shares, losses), {"a": 1.0}, most=np.array([0.5, 1.0, 1.0]))
    assert advice.domains["a"].share.value <= 0.5 + 1e-9
    assert any("largest share" in warning for warning in advice.warnings)
    assert advice.noise.freedom == 3


def test_advice_says_where_the_mixture_does_not_matter() -> None:
    random = np.random.default_rng(6)
    shares = random.dirichlet(np.ones(3), size=30)
    shares[1:6] = shares[0]
    _, advice = advise(table(shares, 3 * np.exp(0.01 * random.standard_normal((30, 2)))), {"a": 0.5, "b": 0.5})
    assert any("hardly" in warning for warning in advice.warnings)


def test_targets_are_an_average_or_named_by_any_part_that_is_clear() -> None:
    names = ["metric/pile_cc_val_loss", "metric/arxiv_val_loss"]
    assert target_weights([], names) == dict.fromkeys(names, 0.5)
    assert target_weights(["pile_cc=3", "arxiv"], names) == {names[0]: 0.75, names[1]: 0.25}
    with pytest.raises(LookupError, match="known"):
        target_weights(["val_loss"], names)
    for wrong in ("arxiv=-1", "arxiv=x"):
        with pytest.raises(ValueError, match="positive weight"):
            target_weights([wrong], names)


def test_a_law_has_no_opinion_beyond_what_was_tried() -> None:
    shares, losses = sample(7, runs=30)
    inner = 0.2 + 0.4 * shares
    law: MixtureLaw = fit_mixture(inner, losses)
    for each in law.best(BOTH, draws=2).proportions.values():
        assert each.value >= 0.2 - 1e-9
