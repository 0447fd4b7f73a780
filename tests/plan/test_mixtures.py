"""Mixtures by rule, against published shares and what they come to in closed form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.errors import InfeasibleError, UsageError
from isoflop.laws.forms.data_constrained import FORM
from isoflop.laws.source import load
from isoflop.plan.mixtures import most_shares, natural, rules, temperature, uniform, unimax, worth

# Xue et al. 2021 (mT5, arXiv:2010.11934), table 6: millions of pages and per cent of training, of 101 languages.
MT5 = {
    "en": (3067, 5.67), "ru": (756, 3.71), "es": (416, 3.09), "de": (397, 3.05), "fr": (333, 2.89), "it": (186, 2.43),
    "pt": (169, 2.36),
}  # fmt: skip

sizes = st.lists(st.floats(1e3, 1e12), min_size=2, max_size=20).map(np.array)


def test_the_temperature_of_mt5_gives_its_published_shares() -> None:
    pages, percent = np.array(list(MT5.values())).T
    assert temperature(pages) == pytest.approx(percent / percent.sum(), rel=5e-3)  # percentages have three digits


@given(sizes)
def test_temperature_lies_between_natural_and_uniform(tokens: np.ndarray) -> None:
    assert temperature(tokens, degree=1.0) == pytest.approx(natural(tokens))
    assert temperature(tokens, degree=1e9) == pytest.approx(uniform(tokens), rel=1e-6)
    assert (
        np.abs(temperature(tokens) - uniform(tokens)).max() <= np.abs(natural(tokens) - uniform(tokens)).max() + 1e-12
    )


def test_unimax_gives_small_domains_their_epochs_and_shares_the_rest_evenly() -> None:
    tokens = np.array([1000.0, 10.0, 400.0])
    # of 900 tokens at one epoch: 10 from the smallest, then 445 of 890 would be each, but the middle has 400 only
    assert unimax(tokens, n_tokens=900, epochs=1) == pytest.approx(np.array([490, 10, 400]) / 900)
    assert unimax(tokens, n_tokens=30, epochs=1) == pytest.approx(uniform(tokens))
    assert unimax(tokens, n_tokens=1e6, epochs=1) == pytest.approx(natural(tokens))


@given(sizes, st.floats(0.01, 0.99), st.floats(0.5, 10))
def test_unimax_fills_the_run_within_its_epochs_and_no_uncapped_domain_has_less_than_another(
    tokens: np.ndarray, part: float, epochs: float
) -> None:
    n_tokens = part * epochs * tokens.sum()
    given_tokens = unimax(tokens, n_tokens=n_tokens, epochs=epochs) * n_tokens
    assert given_tokens.sum() == pytest.approx(n_tokens)
    assert (given_tokens <= epochs * tokens * (1 + 1e-9)).all()
    uncapped = given_tokens < epochs * tokens * (1 - 1e-9)
    assert given_tokens[uncapped] == pytest.approx(given_tokens.max(), rel=1e-6)


def test_the_largest_shares_read_a_domain_so_many_times() -> None:
    tokens = np.array([100.0, 1000.0])
    assert most_shares(tokens, n_tokens=1000, epochs=4) == pytest.approx([0.4, 1.0])
    with pytest.raises(InfeasibleError, match="raise --epochs"):
        most_shares(tokens, n_tokens=5000, epochs=4)


def test_repeated_tokens_are_worth_what_the_data_constrained_law_says() -> None:
    coefficients = load("muennighoff-2023").law.coefficients
    decay = coefficients["R_D"]
    assert worth(np.array([0.3, 1.0]), decay=decay) == pytest.approx(1.0)
    assert worth(np.array([1e9]), decay=decay)[0] * 1e9 == pytest.approx(1 + decay)
    # N below what U suits: only the worth of tokens tells 4 passes from as many fresh tokens
    n, unique = 1e5, 1e9
    equal = float(worth(np.array([4.0]), decay=decay)[0]) * 4 * unique
    values = np.array(list(coefficients.values()))
    repeated = FORM.loss(values, n_params=n, n_tokens=4 * unique, unique_tokens=unique)
    assert repeated == pytest.approx(FORM.loss(values, n_params=n, n_tokens=equal), rel=1e-9)


def test_every_rule_has_a_source_and_what_makes_no_mixture_is_refused() -> None:
    assert all(rule.source and rule.shares.sum() == pytest.approx(1) for rule in rules(np.ones(3), n_tokens=10))
    for wrong in (np.array([5.0]), np.array([5.0, 0.0]), np.array([5.0, np.nan])):
        with pytest.raises(UsageError):
            natural(wrong)
    with pytest.raises(UsageError, match="at least 1"):
        temperature(np.ones(2), degree=0.5)
