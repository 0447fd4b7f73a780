"""How far to trust a classifier: what it says of held-out documents against what they are."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from isoflop.data.quality_features import Array
from isoflop.data.read import Document

_BINS = 10
_SAMPLES = 5
_SAMPLE_CHARS = 200
THRESHOLDS = (0.1, 0.25, 0.5, 0.75, 0.9, 0.97)


class Bin(Struct, frozen=True, kw_only=True):
    """Documents given about the same probability: what was said on average, and the share it was true of."""

    n: int
    predicted: float
    observed: float


class Kept(Struct, frozen=True, kw_only=True):
    """Share of each label's documents that a threshold on one label's probability keeps."""

    threshold: float
    kept: dict[str, float]


class Sample(Struct, frozen=True, kw_only=True):
    """A document and its verdict; `text` is its beginning."""

    id: str
    label: str
    probability: float
    text: str


class LabelReport(Struct, frozen=True, kw_only=True):
    """One label against all others.

    Attributes:
        auc: chance that a document of the label gets a higher probability than one of another; ties count half.
        calibration_error: mean distance between said and true over bins of equally many documents.
        calibration_noise: what `calibration_error` would be on average if every probability were exactly true.
        reliability: the bins.
        keeps: what thresholds on this label keep of each label.
        wrongly_dropped, wrongly_kept: the documents the classifier is most wrong about, at a threshold of 1/2.
    """

    n: int
    auc: float
    brier: float
    calibration_error: float
    calibration_noise: float
    reliability: list[Bin]
    keeps: list[Kept]
    wrongly_dropped: list[Sample]
    wrongly_kept: list[Sample]


class QualityReport(Struct, frozen=True, kw_only=True):
    """On documents that neither trained nor calibrated.

    Attributes:
        accuracy: share whose likeliest label is their own.
        log_loss: mean, nats.
        labels: label -> how it does against all others.
    """

    n_train: int
    n_calibrate: int
    n_judged: int
    accuracy: float
    log_loss: float
    labels: dict[str, LabelReport]


def judge(
    labels: Sequence[str],
    probabilities: Array,
    target: npt.NDArray[np.int64],
    documents: Sequence[Document],
    *,
    n_train: int,
    n_calibrate: int,
) -> QualityReport:
    """Hold (documents, labels) probabilities against the documents' labels."""
    own = probabilities[np.arange(len(target)), target]
    return QualityReport(
        n_train=n_train, n_calibrate=n_calibrate, n_judged=len(target),
        accuracy=float((probabilities.argmax(1) == target).mean()),
        log_loss=-float(np.log(np.maximum(own, 1e-300)).mean()),
        labels={
            label: _label_report(probabilities[:, number], target, number, labels, documents)
            for number, label in enumerate(labels)
        },
    )  # fmt: skip


def auc(scores: Array, positive: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve, by ranks (Mann-Whitney): ties count half.

    NaN where there is nothing to compare.
    """
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return float("nan")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle = counts.cumsum() - (counts - 1) / 2
    return float((middle[place][positive].sum() - n * (n + 1) / 2) / (n * m))


def reliability(said: Array, true: npt.NDArray[np.bool_], *, bins: int = _BINS) -> list[Bin]:
    """Bins of equally many documents, by what was said."""
    order = np.argsort(said, kind="stable")
    return [
        Bin(n=len(part), predicted=float(said[part].mean()), observed=float(true[part].mean()))
        for part in np.array_split(order, min(bins, max(len(order), 1)))
        if len(part)
    ]


def calibration_error(found: Sequence[Bin]) -> float:
    """Expected calibration error: mean of |said - true| over the bins, by their documents."""
    return sum(b.n * abs(b.predicted - b.observed) for b in found) / sum(b.n for b in found)


def calibration_noise(said: Array, *, draws: int = 200) -> float:
    """The error that documents drawn by these very probabilities would show: what is below it is luck."""
    chance = np.random.default_rng(0)
    return float(np.mean([calibration_error(reliability(said, chance.random(len(said)) < said)) for _ in range(draws)]))


def _label_report(
    said: Array, target: npt.NDArray[np.int64], number: int, labels: Sequence[str], documents: Sequence[Document]
) -> LabelReport:
    true = target == number
    bins = reliability(said, true)
    worst_dropped = [i for i in np.argsort(said, kind="stable") if true[i] and said[i] < 0.5]
    worst_kept = [i for i in np.argsort(-said, kind="stable") if not true[i] and said[i] >= 0.5]

    def sample(i: int) -> Sample:
        return Sample(
            id=documents[i].id, label=labels[target[i]], probability=float(said[i]),
            text=documents[i].text[:_SAMPLE_CHARS].encode("utf-8", "replace").decode(),
        )  # fmt: skip

    return LabelReport(
        n=int(true.sum()), auc=auc(said, true), brier=float(((said - true) ** 2).mean()),
        calibration_error=calibration_error(bins), calibration_noise=calibration_noise(said), reliability=bins,
        keeps=[
            Kept(threshold=t, kept={name: float((said[target == k] >= t).mean()) for k, name in enumerate(labels)})
            for t in THRESHOLDS
        ],
        wrongly_dropped=[sample(i) for i in worst_dropped[:_SAMPLES]],
        wrongly_kept=[sample(i) for i in worst_kept[:_SAMPLES]],
    )  # fmt: skip
