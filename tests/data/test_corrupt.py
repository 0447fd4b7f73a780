"""Objectives held against closed forms of their statistics, published lengths, and the text they must give back."""

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.data.corrupt import NOTHING, Place, masked, prefix, spans
from isoflop.data.corrupt.masked import Masking
from isoflop.data.corrupt.spans import Spans
from isoflop.data.draw import uniform
from isoflop.errors import UsageError
from isoflop.specs.spans import lengths, text_length

Ids = npt.NDArray[np.int64]
BERT = Masking(mask=103, vocabulary=1000, special=(0, 101, 102))
T5 = Spans(vocabulary=32_128, end=1)
places = st.builds(Place, seed=st.integers(0, 2**40), step=st.integers(0, 10**7), first_row=st.integers(0, 10**5))


def text(rows: int, columns: int, vocabulary: int = 1000, seed: int = 0) -> Ids:
    return np.random.default_rng(seed).integers(0, vocabulary, (rows, columns))


def within(share: float, expected: float, n: float) -> bool:
    """Five standard deviations of a share of n independent draws: one false alarm in two million."""
    return abs(share - expected) <= 5 * math.sqrt(expected * (1 - expected) / n)


def test_draws_are_uniform_and_no_row_or_purpose_or_step_resembles_another() -> None:
    u = uniform("a", seed=1, step=2, first_row=0, rows=400, columns=500)
    assert 0 <= u.min() <= u.max() < 1
    counts = np.histogram(u, bins=100, range=(0, 1))[0]
    chi2 = ((counts - u.size / 100) ** 2 / (u.size / 100)).sum()
    assert abs(chi2 - 99) < 5 * math.sqrt(2 * 99)
    others = [
        u[:, ::-1],
        np.roll(u, 1, 0),
        np.roll(u, 1, 1),
        uniform("b", seed=1, step=2, first_row=0, rows=400, columns=500),
        uniform("a", seed=2, step=1, first_row=0, rows=400, columns=500),
        uniform("a", seed=1, step=3, first_row=0, rows=400, columns=500),
    ]
    for other in others:
        assert abs(np.corrcoef(u.ravel(), other.ravel())[0, 1]) < 5 / math.sqrt(u.size)
    assert len(np.unique(u)) == u.size


def test_bert_masks_as_published() -> None:
    tokens = text(2000, 128)
    inputs, targets = masked.corrupt(tokens, BERT, Place(seed=3, step=5))
    free, chosen = ~np.isin(tokens, BERT.never), targets != NOTHING
    assert not (chosen & ~free).any()
    assert np.array_equal(targets[chosen], tokens[chosen])
    assert np.array_equal(inputs[~chosen], tokens[~chosen])
    # The number in a row is rounded to one of its two neighbours, so the mean is far closer than that of single draws.
    assert chosen.sum() / free.sum() == pytest.approx(0.15, abs=5 * 0.5 / math.sqrt(2000) / 128)
    assert (np.abs(chosen.sum(1) - 0.15 * free.sum(1)) < 1).all()
    n = chosen.sum()
    hidden = chosen & (inputs == BERT.mask)
    assert within(hidden.sum() / n, 0.8, n)
    # One replaced token in 996 is the token that stood there.
    assert within((chosen & (inputs == tokens)).sum() / n, 0.1 + 0.1 / 996, n)
    replaced = inputs[chosen & ~hidden & (inputs != tokens)]
    assert not np.isin(replaced, BERT.never).any()
    assert abs(replaced.mean() - np.setdiff1d(np.arange(1000), BERT.never).mean()) < 5 * 289 / math.sqrt(len(replaced))


def test_every_place_of_a_row_is_chosen_equally_often() -> None:
    _, targets = masked.corrupt(np.full((20_000, 20), 7), BERT, Place(seed=0, step=0))
    share = (targets != NOTHING).mean(0)
    assert all(within(one, 0.15, 20_000) for one in share)


def test_a_text_is_masked_anew_each_step() -> None:
    tokens = text(50, 128)
    chosen = [masked.corrupt(tokens, BERT, Place(seed=0, step=step))[1] != NOTHING for step in range(2)]
    both, n = (chosen[0] & chosen[1]).sum(), chosen[0].sum()
    assert within(both / n, 0.15, n)


@given(places, st.integers(1, 6), st.integers(1, 30), st.data())
@settings(max_examples=40)
def test_a_rank_corrupts_its_rows_as_the_whole_batch_would(
    place: Place, rows: int, columns: int, data: st.DataObject
) -> None:
    tokens, cut = text(rows, columns + 1, 100), data.draw(st.integers(0, rows - 1))
    later = Place(seed=place.seed, step=place.step, first_row=place.first_row + cut)
    whole = [masked.corrupt(tokens, BERT, place), spans.corrupt(tokens, T5, place), prefix.divide(tokens, place)]
    part = [
        masked.corrupt(tokens[cut:], BERT, later),
        spans.corrupt(tokens[cut:], T5, later),
        prefix.divide(tokens[cut:], later),
    ]
    for one, other in zip(itertools.chain(*whole), itertools.chain(*part), strict=True):
        assert np.array_equal(one[cut:], other)


def test_a_row_of_special_tokens_is_left_alone() -> None:
    tokens = np.array([[101, 0, 0, 102, 103]])
    inputs, targets = masked.corrupt(tokens, BERT, Place(seed=0, step=0))
    assert np.array_equal(inputs, tokens)
    assert (targets == NOTHING).all()


def test_t5_reads_512_tokens_of_568_and_says_114() -> None:
    assert text_length(512, T5) == 568
    sizes = lengths(568, T5)
    assert (sizes.inputs, sizes.targets) == (512, 114)


settings_of_spans = st.builds(
    Spans, vocabulary=st.just(10**6), end=st.just(1), rate=st.floats(0.01, 0.95), mean_span=st.floats(1.0, 40.0)
)


@given(settings_of_spans, st.integers(3, 3000))
def test_no_longer_text_fits_the_inputs(how: Spans, inputs: int) -> None:
    found = text_length(inputs, how)
    assert lengths(found, how).inputs <= inputs
    assert all(lengths(found + more, how).inputs > inputs for more in (1, 2, 10, 1000))


def give_back(inputs: Ids, targets: Ids, how: Spans) -> list[int]:
    """Read the targets as a dictionary from sentinel to span, and the inputs with it."""
    said: dict[int, list[int]] = {}
    floor = how.vocabulary - (len(targets) + 1)
    for token in targets[:-1]:
        if token > floor:
            said[int(token)] = []
        else:
            said[max(said, key=lambda s: -s)].append(int(token))
    assert list(said) == [how.vocabulary - 1 - i for i in range(len(said))]
    assert all(said.values())
    return [t for token in inputs[:-1] for t in said.get(int(token), [int(token)])]


@given(settings_of_spans, places, st.integers(2, 200), st.integers(0, 2**31))
@settings(max_examples=150)
def test_inputs_and_targets_give_the_text_back(how: Spans, place: Place, length: int, seed: int) -> None:
    tokens = text(3, length, 5000, seed)
    inputs, targets = spans.corrupt(tokens, how, place)
    sizes = lengths(length, how)
    assert (inputs.shape, targets.shape) == ((3, sizes.inputs), (3, sizes.targets))
    assert (inputs[:, -1] == how.end).all()
    assert (targets[:, -1] == how.end).all()
    for row in range(3):
        assert give_back(inputs[row], targets[row], how) == tokens[row].tolist()


def test_all_ways_to_place_spans_are_equally_likely() -> None:
    how = Spans(vocabulary=100, end=1, rate=0.5, mean_span=2.0)  # 8 tokens: 4 lost in 2 spans, 4 kept in 2 parts
    inputs, _ = spans.corrupt(np.tile(np.arange(10, 18), (9000, 1)), how, Place(seed=0, step=0))
    _, counts = np.unique(inputs, axis=0, return_counts=True)
    assert len(counts) == 3 * 3  # C(3, 1) ways to cut 4 in two, twice
    assert all(within(count / 9000, 1 / 9, 9000) for count in counts)


def test_a_vocabulary_without_room_for_sentinels_is_refused_with_the_one_to_take() -> None:
    tokens = np.arange(568)[None]
    with pytest.raises(UsageError, match="at least 596"):
        spans.corrupt(tokens, Spans(vocabulary=595, end=1), Place(seed=0, step=0))
    spans.corrupt(tokens, Spans(vocabulary=596, end=1), Place(seed=0, step=0))


def test_a_prefix_is_uniform_and_only_what_it_hides_is_to_be_said() -> None:
    tokens = text(12_000, 6, 50)
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    lengths, wanted = prefix.divide(targets, Place(seed=1, step=1))
    assert all(within((lengths == n).mean(), 0.2, 12_000) for n in range(1, 6))
    seen = prefix.visible(lengths, 5)
    for row in range(50):
        for query in range(5):
            shown = set(np.flatnonzero(seen[row, query]))
            assert shown == set(range(max(query + 1, lengths[row])))
            # A target is learned exactly where the query does not see it: input query + 1.
            assert (wanted[row, query] != NOTHING) == (query + 1 not in shown)
            assert wanted[row, query] in (NOTHING, targets[row, query])
    assert inputs.shape == wanted.shape


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Masking(mask=5, vocabulary=5), "special token 5 lies outside"),
        (lambda: Masking(mask=0, vocabulary=1), "are special"),
        (lambda: Masking(mask=0, vocabulary=9, rate=0.0), "masking rate is 0.0"),
        (lambda: Masking(mask=0, vocabulary=9, hidden=0.9, replaced=0.2), "together at most 1"),
        (lambda: Spans(vocabulary=9, end=1, rate=1.0), "span rate is 1.0"),
        (lambda: Spans(vocabulary=9, end=1, mean_span=0.5), "mean_span is 0.5"),
        (lambda: lengths(1, T5), "at least 2"),
        (lambda: text_length(2, T5), "need 3"),
        (lambda: Place(seed=-1, step=0), "seed is -1"),
        (lambda: masked.corrupt(np.array([[2000]]), BERT, Place(seed=0, step=0)), "vocabulary is 1000"),
        (lambda: masked.corrupt(np.array([1, 2]), BERT, Place(seed=0, step=0)), "sequences x tokens"),
        (lambda: prefix.visible(np.array([7]), 5), "prefixes of 7"),
    ],
)
def test_what_cannot_be_is_refused(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(UsageError, match=message):
        call()
