"""Batches: every window once an epoch, the same for any number of ranks, nothing to remember but the step."""

from collections import Counter
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.data.loader import Loader, Windows
from isoflop.data.order import shuffled
from isoflop.data.shards import Tokens
from isoflop.errors import InputError, UsageError


def stream(n: int) -> npt.NDArray[np.uint16]:
    """Tokens that name their own position."""
    return np.arange(n, dtype=np.uint16)


def joined(loader: Loader, steps: int) -> npt.NDArray[np.int64]:
    return np.concatenate([loader.batch(step)[0] for step in range(steps)])


@given(n=st.integers(1, 3000), seed=st.integers(0, 2**63), epoch=st.integers(0, 10**6))
def test_an_epoch_is_a_permutation(n: int, seed: int, epoch: int) -> None:
    assert np.array_equal(np.sort(shuffled(np.arange(n), n, seed=seed, epoch=epoch)), np.arange(n))


def test_a_place_is_found_without_the_others_even_among_a_trillion() -> None:
    n = 10**12
    places = np.array([0, 1, 2, n - 1, n // 2])
    found = shuffled(places, n, seed=1, epoch=0)
    assert ((found >= 0) & (found < n)).all()
    assert len(set(found.tolist())) == 5
    for i, place in enumerate(places):
        assert shuffled(np.array([place]), n, seed=1, epoch=0)[0] == found[i]


def test_the_order_is_uniform_over_seeds() -> None:
    """Each of 12 places must hold each of 12 windows equally often: chi-square over 132 cells, at 5 sigma."""
    n, seeds = 12, 6000
    orders = np.array([shuffled(np.arange(n), n, seed=seed, epoch=0) for seed in range(seeds)])
    counts = np.array([np.bincount(orders[:, place], minlength=n) for place in range(n)])
    chi = ((counts - seeds / n) ** 2 / (seeds / n)).sum()
    freedom = (n - 1) ** 2
    assert abs(chi - freedom) < 5 * (2 * freedom) ** 0.5


def test_neighbours_do_not_stay_neighbours() -> None:
    """In a random order of n the number of adjacent pairs kept is Poisson with mean 1, whatever n."""
    kept = 0
    for epoch in range(200):
        order = shuffled(np.arange(5000), 5000, seed=3, epoch=epoch)
        kept += int((np.diff(order) == 1).sum())
    assert abs(kept - 200) < 5 * 200**0.5


def test_epochs_and_seeds_differ_without_correlation() -> None:
    orders = [shuffled(np.arange(4000), 4000, seed=s, epoch=e).astype(float) for s in (0, 1) for e in (0, 1)]
    for i in range(4):
        for j in range(i):
            assert abs(np.corrcoef(orders[i], orders[j])[0, 1]) < 5 / 4000**0.5


@given(
    n=st.integers(20, 400),
    context=st.integers(1, 19),
    sequences=st.sampled_from([4, 8, 12]),
    seed=st.integers(0, 100),
    world=st.sampled_from([1, 2, 4]),
)
def test_the_union_over_ranks_is_the_batch_of_one(n: int, context: int, sequences: int, seed: int, world: int) -> None:
    settings = {"context": context, "sequences": sequences, "seed": seed}
    alone = Loader(stream(n), **settings)
    ranks = [Loader(stream(n), **settings, rank=rank, world=world) for rank in range(world)]
    for step in (0, 1, 7):
        for side in (0, 1):
            together = np.concatenate([loader.batch(step)[side] for loader in ranks])
            np.testing.assert_array_equal(together, alone.batch(step)[side])


@given(n=st.integers(20, 400), context=st.integers(1, 19), seed=st.integers(0, 100))
def test_each_epoch_predicts_every_token_once(n: int, context: int, seed: int) -> None:
    loader = Loader(stream(n), context=context, sequences=1, seed=seed)
    for epoch in range(2):
        steps = range(epoch * loader.n_windows, (epoch + 1) * loader.n_windows)
        targets = np.concatenate([loader.batch(step)[1] for step in steps]).ravel()
        assert np.array_equal(np.sort(targets), np.arange(1, loader.n_windows * context + 1))
        assert n - loader.n_windows * context <= context


def test_targets_are_the_inputs_one_token_on() -> None:
    inputs, targets = Loader(stream(1000), context=16, sequences=8, seed=0).batch(3)
    assert inputs.shape == targets.shape == (8, 16)
    assert inputs.dtype == targets.dtype == np.int64
    np.testing.assert_array_equal(targets, inputs + 1)


def test_a_step_is_the_same_whatever_was_asked_before() -> None:
    first = Loader(stream(5000), context=32, sequences=4, seed=7)
    for step in (5, 0, 100, 99):
        first.batch(step)
    resumed = Loader(stream(5000), context=32, sequences=4, seed=7)
    np.testing.assert_array_equal(resumed.batch(1234)[0], first.batch(1234)[0])


def test_the_order_of_seed_0_is_written_down() -> None:
    """Resuming an old run needs the order of the old code: a change here breaks every unfinished run."""
    assert shuffled(np.arange(10), 10, seed=0, epoch=0).tolist() == [9, 5, 2, 3, 6, 7, 4, 1, 0, 8]
    assert shuffled(np.arange(5), 10**9, seed=42, epoch=3).tolist() == [
        197252700,
        842419429,
        662356334,
        667212135,
        508155848,
    ]


def test_several_files_load_as_one_array() -> None:
    whole = stream(3000)
    cut = Tokens([whole[:700], whole[700:700], whole[700:720], whole[720:]])
    one = Loader(whole, context=64, sequences=6, seed=1)
    several = Loader(cut, context=64, sequences=6, seed=1)
    np.testing.assert_array_equal(joined(several, 20), joined(one, 20))


def test_repetition_is_told() -> None:
    loader = Loader(stream(1025), context=64, sequences=4, seed=0)
    assert loader.n_windows == 16
    assert [loader.read(steps)[0].epochs for steps in (0, 4, 6)] == [0.0, 1.0, 1.5]
    assert [loader.read(steps)[0].unique_tokens for steps in (0, 1, 4, 400)] == [0, 256, 1024, 1024]
    assert [loader.read(steps)[0].n_tokens for steps in (0, 1, 4, 400)] == [0, 256, 1024, 102_400]
    seen = Counter(joined(loader, 3)[:, 0].tolist())
    assert len(seen) * 64 == loader.read(3)[0].unique_tokens


def test_a_batch_may_span_epochs() -> None:
    loader = Loader(stream(7), context=2, sequences=8, seed=0)  # 3 windows, 8 sequences: 2.67 epochs a step
    inputs, _ = loader.batch(0)
    assert sorted(Counter(inputs[:, 0].tolist()).values()) == [2, 3, 3]


@pytest.mark.parametrize(
    "change",
    [{"context": 0}, {"sequences": 0}, {"world": 3}, {"rank": 2, "world": 2}, {"rank": -1}, {"seed": -1}],
)
def test_numbers_that_do_not_go_together_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="loader"):
        Loader(stream(100), **({"context": 4, "sequences": 8, "seed": 0} | change))
    with pytest.raises(UsageError, match="negative"):
        Loader(stream(100), context=4, sequences=8, seed=0).batch(-1)


def test_a_split_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(InputError, match="has 16 tokens; one window of context 16 needs 17"):
        Loader(stream(16), context=16, sequences=1, seed=0)
    with pytest.raises(InputError, match="has 0 tokens"):
        Windows(stream(0), context=16, limit_tokens=100, token_bytes=np.zeros(1, dtype=np.int64))
    with pytest.raises(UsageError, match="less than one context"):
        Windows(stream(100), context=16, limit_tokens=15, token_bytes=np.zeros(100, dtype=np.int64))


@given(n=st.integers(20, 300), context=st.integers(1, 19), limit=st.integers(19, 400), sequences=st.integers(1, 9))
def test_validation_is_spread_evenly_in_order_and_counts_its_bytes(
    n: int, context: int, limit: int, sequences: int
) -> None:
    token_bytes = np.arange(n, dtype=np.int64) % 5
    windows = Windows(stream(n), context=context, limit_tokens=limit, token_bytes=token_bytes)
    batches = list(windows.batches(sequences))
    targets = np.concatenate([batch[1] for batch in batches]).ravel()
    starts = targets[::context] - 1
    assert np.array_equal(targets, (starts[:, None] + np.arange(1, context + 1)).ravel())
    assert (starts % context == 0).all()
    gaps = np.diff(np.append(starts // context, windows.n_there))
    assert gaps.min(initial=windows.n_there) >= 1
    assert gaps.max() - gaps.min() <= 1
    assert windows.n_tokens == min(limit, n - 1) // context * context
    assert windows.n_bytes == token_bytes[targets].sum()
    assert all(len(one[0]) == sequences for one, _ in pairwise(batches))
