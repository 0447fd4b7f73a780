"""Sources take turns: every stretch of samples holds each of them by its share, found without the samples before."""

import math
from fractions import Fraction

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from isoflop.data.turns import Turns

PARTS = st.lists(st.integers(0, 10**6), min_size=1, max_size=12).filter(any)


@given(parts=PARTS, first=st.integers(0, 10**12), n=st.integers(1, 300))
def test_each_source_counts_its_own_samples_without_a_gap(parts: list[int], first: int, n: int) -> None:
    turns = Turns(parts)
    which, place = turns.of(np.arange(first, first + n))
    before, behind = turns.taken(first), turns.taken(first + n)
    assert sum(before) == first
    for source, part in enumerate(parts):
        assert place[which == source].tolist() == list(range(before[source], behind[source]))
        assert part or behind[source] == 0


@given(parts=PARTS, samples=st.integers(0, 10**13))
@example(parts=[2**k for k in range(12)], samples=4095)
@example(parts=[1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144], samples=1000)  # the tree of the bound
def test_no_source_is_ever_two_samples_off_its_share(parts: list[int], samples: int) -> None:
    total = sum(parts)
    for part, taken in zip(parts, Turns(parts).taken(samples), strict=True):
        assert abs(taken - Fraction(samples * part, total)) < Fraction(17, 10)


@given(parts=PARTS, periods=st.integers(0, 10**5))
def test_in_the_long_run_shares_are_exact(parts: list[int], periods: int) -> None:
    smallest = [part // math.gcd(*parts) for part in parts]
    assert Turns(parts).taken(periods * sum(smallest)) == [periods * part for part in smallest]


@given(parts=PARTS, first=st.integers(0, 10**9), sequences=st.integers(1, 64))
def test_a_batch_holds_every_source_to_less_than_four_sequences(parts: list[int], first: int, sequences: int) -> None:
    """Both ends of a stretch are off by less than 1.7."""
    which, _ = Turns(parts).of(np.arange(first, first + sequences))
    for source, part in enumerate(parts):
        assert abs((which == source).sum() - sequences * part / sum(parts)) < 3.4


def test_of_two_sources_a_batch_is_off_by_one_at_most() -> None:
    """round(m p) at both ends."""
    which, _ = Turns([7, 3]).of(np.arange(1000))
    assert {int(batch.sum()) for batch in which.reshape(-1, 10)} == {3}
    assert {int(batch.sum()) for batch in which.reshape(-1, 8)} <= {2, 3}
