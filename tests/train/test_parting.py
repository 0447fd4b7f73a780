"""Where two curves part, held against curves whose parting is planted."""

import numpy as np
import pytest

from isoflop.train.parting import parting, scatter


def curve(seed: int, *, noise: float = 0.02, lines: int = 200) -> np.ndarray:
    steps = np.arange(1, lines + 1)
    return 3.0 + 4.0 * steps**-0.3 + noise * np.random.default_rng(seed).standard_normal(lines)


def as_points(values: np.ndarray) -> list[tuple[int, float]]:
    return [(5 * (i + 1), float(value)) for i, value in enumerate(values)]


def test_equal_curves_do_not_part() -> None:
    same = as_points(curve(0))
    found = parting(same, same)
    assert found is not None
    assert (found.first_unequal, found.beyond_noise) == (None, None)
    assert "equal to the bit" in found.sentence()


def test_the_scatter_planted_is_found_again_whatever_the_curve_beneath() -> None:
    found = [scatter(curve(seed, noise=0.05)) for seed in range(200)]
    assert np.mean(found) == pytest.approx(0.05, rel=0.05)


def test_two_seeds_of_one_run_differ_at_once_and_hardly_ever_beyond_noise() -> None:
    pairs = [parting(as_points(curve(seed)), as_points(curve(seed + 1000))) for seed in range(200)]
    assert all(pair is not None and pair.first_unequal == 5 for pair in pairs)
    assert sum(pair is not None and pair.beyond_noise is not None for pair in pairs) <= 2


def test_a_planted_parting_is_found_where_it_was_planted() -> None:
    first = curve(0)
    second = first.copy()
    second[120:] += 0.3 * (1 - np.exp(-np.arange(80) / 5.0)) + 0.001 * np.random.default_rng(1).standard_normal(80)
    found = parting(as_points(first), as_points(second))
    assert found is not None
    assert found.first_unequal == 5 * 121
    assert found.beyond_noise is not None
    assert 5 * 121 <= found.beyond_noise <= 5 * 123
    assert found.mean_nats == pytest.approx(0.3, abs=0.01)


def test_curves_without_a_common_step_are_not_compared() -> None:
    assert parting([(1, 2.0)], [(2, 2.0)]) is None
