"""The line through the best rates, and the noise of repeats, found again where they were planted."""

import math

import numpy as np
import pytest

from isoflop.errors import FitError
from isoflop.laws.noise import misfit, pooled, weights
from isoflop.laws.rates import SLOPE, Tried, rate_line
from isoflop.laws.table import RunTable

SIZES = (20e3, 34e3, 49e3)


def bowl(
    n_params: float, *, best: float, rates: int = 5, off: float = 1.0, noise: float = 0.0, seed: int = 0
) -> list[Tried]:
    """Runs whose log loss is a parabola in log rate around `best`."""
    random = np.random.RandomState(seed)
    tried = [best * off * 2.0 ** (i - (rates - 1) / 2) for i in range(rates)]
    return [
        Tried(
            n_params=n_params,
            learning_rate=rate,
            loss_nats=3 * math.exp(0.03 * math.log(rate / best) ** 2 + noise * random.standard_normal()),
        )
        for rate in tried
    ]


def planted(n_params: float) -> float:
    return float(0.02 * (n_params / 20e3) ** SLOPE)


def test_planted_rates_are_found_wherever_the_sweep_stood_around_them() -> None:
    for off in (0.6, 1.0, 1.7):
        line = rate_line([run for n in SIZES for run in bowl(n, best=planted(n), off=off)])
        assert not line.warnings
        assert line.b == pytest.approx(SLOPE, abs=1e-3)
        for n in (*SIZES, 1e6):
            assert line.at(n).value == pytest.approx(planted(n), rel=1e-2)


def test_intervals_cover_the_planted_rate_over_seeds() -> None:
    """90 % of 200 sweeps hold it: at a tried size, and, its slope leaning on the right prior, far beyond."""
    held = dict.fromkeys((34e3, 1e6), 0)
    for seed in range(200):
        runs = [
            run
            for i, n in enumerate(SIZES)
            for run in bowl(n, best=planted(n), off=1.2, noise=0.003, seed=3 * seed + i)
        ]
        line = rate_line(runs, noise=0.003)
        for n in held:
            found = line.at(n)
            held[n] += found.lo <= planted(n) <= found.hi
    assert 170 <= held[34e3] <= 200
    assert 170 <= held[1e6] <= 200


def test_many_sizes_far_apart_overrule_the_prior() -> None:
    sizes = [1e4 * 10**i for i in range(5)]
    line = rate_line([run for n in sizes for run in bowl(n, best=0.02 * (n / 2e4) ** -0.6)], noise=0.001)
    assert line.b == pytest.approx(-0.6, abs=0.02)


@pytest.mark.parametrize(("off", "edge"), [(8.0, "smallest"), (1 / 8, "largest")])
def test_a_best_rate_at_the_edge_is_said_and_widens_the_interval(off: float, edge: str) -> None:
    runs = bowl(2e4, best=0.02, off=off)
    line = rate_line(runs)
    assert line.best[0].edge == edge
    assert f"is the {edge} tried" in line.warnings[0]
    inner = rate_line(bowl(2e4, best=0.02)).at(2e4)
    outer = line.at(2e4)
    assert outer.hi / outer.lo > 2 * inner.hi / inner.lo


def test_runs_that_diverged_are_passed_over_and_too_few_are_refused() -> None:
    runs = bowl(2e4, best=0.02)
    lost = [*runs[:4], Tried(n_params=2e4, learning_rate=0.08, loss_nats=None)]
    assert rate_line(lost).at(2e4).value == pytest.approx(0.02, rel=0.01)
    with pytest.raises(FitError, match="2 of 5 learning rates ended well"):
        rate_line([*runs[:2], *(Tried(n_params=2e4, learning_rate=r, loss_nats=None) for r in (0.04, 0.08, 0.16))])


def repeated(*, noise: float, misfit_sd: float, repeats: int, n_points: int, seed: int) -> tuple[RunTable, np.ndarray]:
    """Points at which a law is off by so much, each run `repeats` times; and the residuals."""
    random = np.random.RandomState(seed)
    n = np.repeat(np.geomspace(1e4, 1e6, n_points), repeats)
    off = np.repeat(misfit_sd * random.standard_normal(n_points), repeats) + noise * random.standard_normal(n.size)
    table = RunTable(n, 20 * n, 3 * np.exp(off), 120 * n * n, tuple(map(str, range(n.size))))
    return table, -off


def test_noise_and_misfit_are_told_apart() -> None:
    found = [repeated(noise=0.01, misfit_sd=0.02, repeats=3, n_points=10, seed=seed) for seed in range(50)]
    noises = [pooled(table) for table, _ in found]
    assert {(n.freedom, n.n_points) for n in noises if n} == {(20, 10)}
    assert np.sqrt(np.mean([n.sd**2 for n in noises if n])) == pytest.approx(0.01, rel=0.07)
    wrong = [misfit(table, off, noise, coefficients=0) for (table, off), noise in zip(found, noises, strict=True)]
    assert np.sqrt(np.mean(np.square(wrong))) == pytest.approx(0.02, rel=0.1)


def test_repeats_count_by_what_they_tell_apart_from_each_other() -> None:
    table, _ = repeated(noise=0.01, misfit_sd=0.0, repeats=3, n_points=4, seed=0)
    noise = pooled(table)
    assert noise is not None
    assert weights(table, noise, misfit_sd=0.0) == pytest.approx([1.0] * 12)  # three runs, three times the evidence
    assert weights(table, None, misfit_sd=1.0) == pytest.approx([1 / 3] * 12)  # one point, however often run
    even = weights(table, noise, misfit_sd=noise.sd)
    assert even == pytest.approx([2 / 4] * 12)  # (t2 + s2) / (3 t2 + s2)
    alone, _ = repeated(noise=0.01, misfit_sd=0.0, repeats=1, n_points=4, seed=0)
    assert pooled(alone) is None
    assert weights(alone, None, misfit_sd=0.0) == pytest.approx([1.0] * 4)
