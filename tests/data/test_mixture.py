"""Mixtures: the same batches after any resume and on any number of ranks, each text read through before it repeats."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.data.loader import Loader
from isoflop.data.mixture import Mixture, Span
from isoflop.data.shards import Tokens
from isoflop.errors import InputError, UsageError

FAR = 10_000  # between the tokens of one text and those of the next, which name their places


def texts(*sizes: int) -> list[Tokens]:
    return [Tokens([np.arange(i * FAR, i * FAR + n, dtype=np.uint32)]) for i, n in enumerate(sizes)]


def span(begins: int, context: int, sequences: int, *parts: int) -> Span:
    return Span(begins=begins, context=context, sequences=sequences, parts=parts)


@st.composite
def courses(draw: st.DrawFn) -> tuple[list[Tokens], list[Span]]:
    """Up to four texts and three spans of 64 tokens a batch, whose sequences 8 ranks can share."""
    sizes = draw(st.lists(st.integers(20, 900), min_size=1, max_size=4))
    ends = draw(st.lists(st.integers(1, 30), max_size=2, unique=True))
    spans = []
    for begins in [0, *sorted(ends)]:
        parts = draw(st.lists(st.integers(0, 9), min_size=len(sizes), max_size=len(sizes)).filter(any))
        context = draw(st.sampled_from([2, 4, 8]))
        spans.append(span(begins, context, 64 // context, *parts))
    return texts(*sizes), spans


@settings(max_examples=40)
@given(course=courses(), world=st.sampled_from([1, 2, 4, 8]), seed=st.integers(0, 99), at=st.integers(0, 60))
def test_the_union_over_ranks_is_the_batch_of_one_in_every_span(
    course: tuple[list[Tokens], list[Span]], world: int, seed: int, at: int
) -> None:
    alone = Mixture(*course, seed=seed)
    ranks = [Mixture(*course, seed=seed, rank=rank, world=world) for rank in range(world)]
    for side in (0, 1):
        together = np.concatenate([one.batch(at)[side] for one in ranks])
        np.testing.assert_array_equal(together, alone.batch(at)[side])
    shares = [one.first(at) for one in ranks]
    assert shares == [rank * len(alone.batch(at)[0]) // world for rank in range(world)]


@settings(max_examples=40)
@given(course=courses(), seed=st.integers(0, 99), first=st.integers(0, 60), world=st.sampled_from([1, 2, 4, 8]))
def test_a_resume_at_any_batch_on_any_number_of_ranks_goes_on_as_if_never_stopped(
    course: tuple[list[Tokens], list[Span]], seed: int, first: int, world: int
) -> None:
    whole = Mixture(*course, seed=seed)
    told = [whole.batch(number)[0] for number in range(first + 3)]
    resumed = [Mixture(*course, seed=seed, rank=rank, world=world) for rank in range(world)]
    for number in range(first, first + 3):
        np.testing.assert_array_equal(np.concatenate([one.batch(number)[0] for one in resumed]), told[number])


@settings(max_examples=40)
@given(course=courses(), seed=st.integers(0, 99), batches=st.integers(0, 60))
def test_what_is_told_to_be_read_is_what_was_read(
    course: tuple[list[Tokens], list[Span]], seed: int, batches: int
) -> None:
    sources, spans = course
    mixture = Mixture(sources, spans, seed=seed)
    seen = [mixture.batch(number)[1].ravel() for number in range(batches)]
    tokens = np.concatenate(seen) if seen else np.empty(0, dtype=np.int64)
    for text, read in enumerate(mixture.read(batches)):
        own = tokens[tokens // FAR == text]
        assert read.n_tokens == len(own)
        if len({one.context for one in spans if one.parts[text]}) <= 1:
            assert read.unique_tokens == len(set(own.tolist()))
            windows = (len(sources[text]) - 1) // (spans[0].context if len(own) == 0 else _context(spans, text))
            assert read.epochs == (len(own) / (windows * _context(spans, text)) if len(own) else 0.0)


def _context(spans: list[Span], text: int) -> int:
    return next(one.context for one in spans if one.parts[text])


@settings(max_examples=15)
@given(seed=st.integers(0, 99), change=st.integers(0, 20), parts=st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_new_weights_let_every_text_go_on_where_it_was(seed: int, change: int, parts: tuple[int, int]) -> None:
    """So each is read through before anything of it repeats, whatever the weights were on the way."""
    mixture = Mixture(texts(401, 301), [span(0, 4, 5, 3, 1), span(change + 1, 4, 5, *parts)], seed=seed)
    read: Counter[int] = Counter()
    for number in range(100):
        read.update(mixture.batch(number)[1].ravel().tolist())
        for text, n in enumerate((400, 300)):
            times = [read[text * FAR + 1 + i] for i in range(n)]
            assert max(times) - min(times) <= 1


def test_a_text_that_joins_later_leaves_the_first_as_it_was_alone() -> None:
    alone = Loader(np.arange(500, dtype=np.uint32), context=4, sequences=8, seed=3)
    joined = Mixture(texts(500, 90), [span(0, 4, 8, 1, 0), span(20, 4, 8, 1, 1)], seed=3)
    for number in range(20):
        np.testing.assert_array_equal(joined.batch(number)[0], alone.batch(number)[0])
    later = np.concatenate([joined.batch(number)[0] for number in range(20, 30)])[:, 0]
    goes_on = np.concatenate([alone.batch(number)[0] for number in range(20, 25)])[:, 0]
    assert later[later < FAR].tolist() == goes_on.tolist()


def test_texts_of_one_length_have_orders_of_their_own() -> None:
    mixture = Mixture(texts(4001, 4001), [span(0, 1, 8, 1, 1)], seed=0)
    rows = np.concatenate([mixture.batch(number)[0] for number in range(500)])[:, 0]
    first, second = rows[rows < FAR], rows[rows >= FAR] - FAR
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / 2000**0.5


def test_where_the_context_changes_the_unique_tokens_are_those_to_be_expected() -> None:
    """Of two passes through thirds of a text that know nothing of each other, 1 - (2/3)^2 of it; over 40 seeds."""
    found = []
    for seed in range(40):
        mixture = Mixture(texts(4801), [span(0, 4, 16, 1), span(25, 16, 4, 1)], seed=seed)
        seen = np.concatenate([mixture.batch(number)[1].ravel() for number in range(50)])
        found.append(len(set(seen.tolist())))
        assert mixture.read(50)[0].unique_tokens == round(4800 * (1 - (2 / 3) ** 2))
    assert abs(np.mean(found) - 4800 * 5 / 9) < 4 * np.std(found) / 40**0.5


def test_batches_behind_are_passed_over_and_counted() -> None:
    course = (texts(900, 700), [span(0, 4, 8, 2, 1)])
    whole, rest = Mixture(*course, seed=1), Mixture(*course, seed=1, behind=7)
    np.testing.assert_array_equal(rest.batch(5)[0], whole.batch(12)[0])
    assert rest.read(5) == whole.read(12)


def test_many_files_give_the_rows_of_one() -> None:
    whole = np.arange(6000, dtype=np.uint16)
    cuts = [0, 700, 700, 720, 2500, 2503, 6000]
    several = Tokens([whole[a:b] for a, b in itertools.pairwise(cuts)])
    starts = np.random.default_rng(0).integers(0, 6000 - 65, 300)
    np.testing.assert_array_equal(several.gather(starts, length=65), starts[:, None] + np.arange(65))


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(UsageError, match="4 sequences a step cannot be shared evenly by 8 ranks"):
        Mixture(texts(900), [span(0, 4, 8, 1), span(5, 8, 4, 1)], seed=0, world=8)
    with pytest.raises(InputError, match="source 'b' has 5 tokens; one window of context 8 needs 9"):
        Mixture(texts(900, 5), [span(0, 8, 8, 1, 1)], seed=0, names=["source 'a'", "source 'b'"])
    assert Mixture(texts(900, 5), [span(0, 8, 8, 1, 0)], seed=0).batch(0)[0].max() < FAR
