"""The classifier: probabilities that keep their word on planted and on real text, saved and read back exactly."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from isoflop.data import read
from isoflop.data.quality import HEADER, WEIGHTS, Classifier, load, train
from isoflop.data.quality_features import BITS, PASSAGE_WORDS, passages
from isoflop.data.quality_report import auc, calibration_error, reliability
from isoflop.data.quality_solver import calibrated, calibration, minimise, softmax, softmax_regression
from isoflop.data.read import Document
from isoflop.errors import InputError, UsageError
from isoflop.files import sha256_file

WORDS = [f"word{i}" for i in range(60)]


def _planted(n: int, tilt: float, *, name: str, seed: int) -> list[Document]:
    """Texts of 40 words whose frequencies lean to one end of the vocabulary by `tilt`."""
    rng = np.random.default_rng(seed)
    share = np.exp(tilt * np.linspace(-1, 1, len(WORDS)))
    drawn = rng.choice(WORDS, size=(n, 40), p=share / share.sum())
    return [Document(f"{name}{i}", " ".join(row)) for i, row in enumerate(drawn)]


@pytest.fixture(scope="module")
def trained() -> Classifier:
    return train({"good": _planted(1500, 0.2, name="g", seed=1), "bad": _planted(3000, -0.2, name="b", seed=2)})


def test_what_is_said_to_be_likely_is_as_often_true(trained: Classifier) -> None:
    """Fresh documents, not those of the report; the truth is known to overlap, so no probability may be near 1."""
    good, bad = _planted(1000, 0.2, name="x", seed=3), _planted(2000, -0.2, name="y", seed=4)
    said = trained.probabilities([d.text for d in good + bad])[:, 0]
    true = np.arange(3000) < 1000
    # .02 is what 3,000 documents in ten bins show by luck alone.
    assert calibration_error(reliability(said, true)) < 0.04
    # The best anyone can do knows the frequencies: a text's log odds are the sum of its words' leans.
    lean = dict(zip(WORDS, np.linspace(-1, 1, len(WORDS)), strict=True))
    best = auc(np.array([sum(lean[w] for w in d.text.split()) for d in good + bad]), true)
    assert best - 0.05 < auc(said, true) <= best + 0.01 < 1


def test_the_report_is_about_documents_that_were_held_out(trained: Classifier) -> None:
    report = trained.header.report
    assert report is not None
    assert report.n_train + report.n_calibrate + report.n_judged == 4500
    assert 0.55 < report.n_train / 4500 < 0.65
    good = report.labels["good"]
    assert good.calibration_error < 2.5 * good.calibration_noise
    assert [k.threshold for k in good.keeps] == sorted(k.threshold for k in good.keeps)
    kept = [k.kept["good"] for k in good.keeps]
    assert kept == sorted(kept, reverse=True)
    assert all(sample.label == "bad" and sample.probability >= 0.5 for sample in good.wrongly_kept)
    assert all(sample.label == "good" and sample.probability < 0.5 for sample in good.wrongly_dropped)


def test_a_verdict_hangs_on_its_own_text_alone(trained: Classifier) -> None:
    texts = ["", "word1 word59", " ".join(WORDS * 20), "nothing known here"]
    together = trained.probabilities(texts)
    alone = np.concatenate([trained.probabilities([text]) for text in texts])
    assert np.array_equal(together, alone)
    assert together.sum(1) == pytest.approx(1)
    assert trained.probabilities([]).shape == (0, 2)


def test_a_prior_moves_the_odds_by_bayes_rule(trained: Classifier) -> None:
    text = [" ".join(WORDS[20:50])]
    before, after = trained.probabilities(text)[0], trained.probabilities(text, prior={"good": 0.01, "bad": 0.99})[0]
    ratio = (0.01 / 0.99) / (trained.header.shares[0] / trained.header.shares[1])
    assert after[0] / after[1] == pytest.approx(before[0] / before[1] * ratio)
    with pytest.raises(UsageError, match="positive share for each of good, bad"):
        trained.probabilities(text, prior={"good": 1.0})


def test_a_saved_classifier_says_the_same(trained: Classifier, tmp_path: Path) -> None:
    trained.save(tmp_path)
    texts = [d.text for d in _planted(20, 0, name="z", seed=5)]
    assert np.array_equal(load(tmp_path).probabilities(texts), trained.probabilities(texts))
    assert {file.name for file in tmp_path.iterdir()} == {HEADER, WEIGHTS}


def test_other_weights_or_features_are_refused(trained: Classifier, tmp_path: Path) -> None:
    trained.save(tmp_path)
    header = json.loads((tmp_path / HEADER).read_text())
    (tmp_path / HEADER).write_text(json.dumps({**header, "bits": BITS + 1}))
    with pytest.raises(InputError, match="train it again"):
        load(tmp_path)
    (tmp_path / HEADER).write_text(json.dumps(header))
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=r"weights\.npy: missing or not the weights"):
        load(tmp_path)


def test_a_header_that_does_not_fit_its_weights_and_a_pickle_are_refused(trained: Classifier, tmp_path: Path) -> None:
    trained.save(tmp_path)
    header = json.loads((tmp_path / HEADER).read_text())
    (tmp_path / HEADER).write_text(json.dumps({**header, "labels": ["good", "bad", "ugly"]}))
    with pytest.raises(InputError, match="do not fit the labels"):
        load(tmp_path)
    np.save(tmp_path / WEIGHTS, np.array([{"code": "in here"}]), allow_pickle=True)
    (tmp_path / HEADER).write_text(json.dumps({**header, "weights_sha256": sha256_file(tmp_path / WEIGHTS)}))
    with pytest.raises(InputError, match="not an array of numbers"):
        load(tmp_path)


def test_too_few_labels_or_documents_are_one_sentence() -> None:
    with pytest.raises(UsageError, match="two labels or more"):
        train({"good": []})
    with pytest.raises(InputError, match="label 'good': 3 documents with text"):
        train({"good": _planted(3, 0, name="a", seed=0), "bad": _planted(30, 0, name="b", seed=0)})


def _heads(folder: Path, name: str, *, n_words: int, most: int) -> Iterator[Document]:
    """The words 200 to 200 + n_words of documents: without titles, and short enough to be hard."""
    for document in islice(read.documents(folder / "text" / f"{name}.jsonl.gz"), most):
        if len(found := document.text.split()[200 : 200 + n_words]) == n_words:
            yield Document(document.id, " ".join(found))


def test_thirty_words_tell_api_pages_from_proposals_about_as_surely_as_said(shared_data: Path) -> None:
    names = ("webdocs_rust", "proposals_peps_rfcs")
    found = train({name: _heads(shared_data, name, n_words=30, most=1000) for name in names})
    assert found.header.report is not None
    label = found.header.report.labels["webdocs_rust"]
    assert label.auc > 0.85
    assert label.calibration_error < label.calibration_noise + 0.03


def test_four_domains_are_told_apart_by_a_hundred_words(shared_data: Path) -> None:
    names = ("encyclopedic_factbook", "webdocs_rust", "proposals_peps_rfcs", "code_python_stdlib")
    found = train({name: _heads(shared_data, name, n_words=100, most=400) for name in names})
    assert found.header.report is not None
    assert found.header.report.accuracy > 0.9
    assert min(label.auc for label in found.header.report.labels.values()) > 0.95


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=30))
def test_the_area_is_the_share_of_pairs_in_the_right_order(rows: list[tuple[int, bool]]) -> None:
    scores, true = np.array([s for s, _ in rows], float), np.array([t for _, t in rows])
    pairs = [(a > b) + (a == b) / 2 for a in scores[true] for b in scores[~true]]
    expected = sum(pairs) / len(pairs) if pairs else float("nan")
    assert auc(scores, true) == pytest.approx(expected, nan_ok=True)


def test_the_regression_is_at_the_minimum_that_scipy_finds() -> None:
    texts = [d.text for t in (0.5, -0.5) for d in _planted(30, t, name="r", seed=7)]
    features, _ = passages(texts, bits=5)
    target, each = np.repeat([0, 1], 30), np.full(60, 1 / 60)
    dense = np.zeros((60, 32))
    dense[features.rows, features.buckets] = features.values

    def loss(theta: npt.NDArray[np.float64]) -> float:
        logits = dense @ theta[:64].reshape(2, 32).T + theta[64:]
        return -float(np.log(softmax(logits)[np.arange(60), target]).mean()) + 0.005 * float(theta[:64] @ theta[:64])

    best = minimize(loss, np.zeros(66), method="BFGS", options={"gtol": 1e-7}).fun
    weights, bias = softmax_regression(features, target, each, n_labels=2, n_buckets=32, penalty=0.01)
    assert loss(np.append(weights.ravel(), bias)) == pytest.approx(best, abs=1e-6)


def test_the_solver_finds_the_minimum_of_a_narrow_valley() -> None:
    scale = np.logspace(0, 2, 20)
    found = minimise(lambda x: (float(scale @ (x - 1) ** 2) / 2, scale * (x - 1)), np.zeros(20), enough=1e-9)
    assert found == pytest.approx(np.ones(20), abs=1e-5)


def test_calibration_finds_a_planted_scale_growth_and_offset_again() -> None:
    rng = np.random.default_rng(0)
    scores, lengths = rng.normal(size=(40_000, 3)) * 1e-3, rng.integers(1, 30, 40_000).astype(float)
    logits = calibrated(scores, lengths, scale=700, growth=300, offsets=np.array([0.5, 0.0, -0.5]))
    target = (rng.random((40_000, 1)) > softmax(logits).cumsum(1)).sum(1)
    scale, growth, offsets = calibration(scores, lengths, target)
    assert scale == pytest.approx(700, abs=60)
    assert growth == pytest.approx(300, abs=30)
    assert offsets - offsets.mean() == pytest.approx([0.5, 0, -0.5], abs=0.05)


def test_documents_told_apart_without_an_error_do_not_ask_for_certainty() -> None:
    scores = np.array([[1.0, -1.0]] * 20 + [[-1.0, 1.0]] * 20)
    scale, growth, offsets = calibration(scores, np.ones(40), np.repeat([0, 1], 20))
    # Platt's smoothed targets: 21 of 22.
    said = softmax(calibrated(scores, np.ones(40), scale=scale, growth=growth, offsets=offsets))
    assert said[0, 0] == pytest.approx(21 / 22, abs=1e-3)


def test_a_long_text_is_many_passages_of_length_one_and_samples_are_spread_over_it() -> None:
    text = " ".join(f"w{i}" for i in range(10 * PASSAGE_WORDS + 50))
    features, owner = passages(["", text, "short"])
    assert owner.tolist() == [0, *[1] * 10, 2]
    norms = np.bincount(features.rows, features.values**2, features.n_rows)
    assert norms.tolist() == pytest.approx([0, *[1] * 11])
    sampled, owner = passages(["", text, "short"], most=3)
    assert owner.tolist() == [0, 1, 1, 1, 2]
    entries = {frozenset(features.buckets[features.rows == r].tolist()) for r in range(features.n_rows)}
    assert {frozenset(sampled.buckets[sampled.rows == r].tolist()) for r in range(sampled.n_rows)} < entries
