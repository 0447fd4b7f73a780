"""Would an encyclopedia cite this page? A linear classifier on hashed words, trained from folders the user gives.

One folder a label: two for a question of quality or toxicity, several for domains. Softmax regression on passages
(`quality_features`), then calibrated on documents it has not seen, then judged on others it has not seen either: the
report says how well its probabilities keep their word. Saved as a header in JSON and the weights as plain numbers.

The probabilities hold for pages mixed like the folders; where good pages are rarer than there, say so with `prior`.
"""

import hashlib
import heapq
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from isoflop.data import quality_solver as solver
from isoflop.data.quality_features import BITS, PASSAGE_WORDS, Array, passages, stacked
from isoflop.data.quality_report import QualityReport, judge
from isoflop.data.read import Document
from isoflop.data.shingles import batches
from isoflop.data.split import side
from isoflop.errors import InputError, UsageError
from isoflop.files import disk, read_json, sha256_file, write_atomic, write_json

HEADER, WEIGHTS = "classifier.json", "weights.npy"
MOST_DOCUMENTS = 50_000
MOST_CHARS = 40_000
MOST_PASSAGES = 16
LEAST_DOCUMENTS = 10
# Between 1e-4 and 1e-3 held-out areas differ by less than .01 on pages of 30 and 100 words; at 1e-5 it learns by heart.
PENALTY = 3e-4
_HELD_OUT = 0.4


class ClassifierHeader(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `classifier.json` holds.

    Attributes:
        labels: names of the folders, in order.
        bias: of each label.
        scale, growth, offsets: calibration, see `quality_solver.calibrated`.
        shares: of each label among the documents it was calibrated on.
        bits, passage_words: of the features; they must be those of the code that reads it.
    """

    labels: list[str]
    bias: list[float]
    scale: float
    growth: float
    offsets: list[float]
    shares: list[float]
    weights_sha256: str
    report: QualityReport | None = None
    bits: int = BITS
    passage_words: int = PASSAGE_WORDS
    schema: str = "isoflop/classifier@1"


class Classifier:
    """A trained classifier.

    Attributes:
        header: labels, calibration, report.
        weights: (labels, buckets).
    """

    def __init__(self, header: ClassifierHeader, weights: npt.NDArray[np.float32]) -> None:
        self.header = header
        self.weights = weights

    @property
    def labels(self) -> list[str]:
        """In the order of the columns of `probabilities`."""
        return self.header.labels

    def probabilities(self, texts: Sequence[str], *, prior: Mapping[str, float] | None = None) -> Array:
        """(texts, labels) calibrated probabilities; of a text they hang on that text alone.

        Args:
            prior: share of each label among the pages to be judged, where it is not that of the folders.

        Raises:
            UsageError: a prior that does not name every label, or is not positive.
        """
        scored = [_document_scores(batch, self.weights, np.array(self.header.bias)) for batch in batches(texts, len)]
        scores = np.concatenate([np.empty((0, len(self.labels))), *(scores for scores, _ in scored)])
        lengths = np.concatenate([np.empty(0), *(lengths for _, lengths in scored)])
        logits = solver.calibrated(
            scores, lengths, scale=self.header.scale, growth=self.header.growth, offsets=np.array(self.header.offsets)
        )
        return solver.softmax(logits + (self._shift(prior) if prior else 0))

    def _shift(self, prior: Mapping[str, float]) -> Array:
        """Bayes' rule in logs: the new share over the one calibrated on."""
        if set(prior) != set(self.labels) or min(prior.values()) <= 0:
            raise UsageError(f"prior {dict(prior)}: give a positive share for each of {', '.join(self.labels)}")
        return np.log([prior[label] for label in self.labels]) - np.log(self.header.shares)

    def save(self, folder: Path) -> None:
        """Write weights, then header.

        Raises:
            ResourceError: no room, or no permission to write.
        """
        with disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(folder / WEIGHTS, _npy(self.weights))
        write_json(folder / HEADER, msgspec.structs.replace(self.header, weights_sha256=sha256_file(folder / WEIGHTS)))


def load(folder: Path) -> Classifier:
    """Read a saved classifier. Nothing in it is executed.

    Raises:
        InputError: no header, features of another version, or weights that are not those of the header.
    """
    header = read_json(folder / HEADER, ClassifierHeader)
    if (header.bits, header.passage_words) != (BITS, PASSAGE_WORDS):
        raise InputError(f"{folder / HEADER}: made for other features than this version's; train it again")
    file = folder / WEIGHTS
    if not file.is_file() or sha256_file(file) != header.weights_sha256:
        raise InputError(f"{file}: missing or not the weights that {HEADER} names; copy or train it again")
    try:
        weights = np.load(file)
    except ValueError as error:
        raise InputError(f"{file}: not an array of numbers ({error})") from error
    n_labels = {len(header.labels), len(header.bias), len(header.offsets), len(header.shares)}
    if n_labels != {len(weights)} or weights.shape[1:] != (1 << BITS,):
        raise InputError(f"{file}: {weights.shape} weights do not fit the labels of {HEADER}; train it again")
    return Classifier(header, weights)


def train(examples: Mapping[str, Iterable[Document]], *, penalty: float = PENALTY) -> Classifier:
    """Learn to tell the labels apart, calibrate, and judge on documents held out by a hash of their ids.

    60 % of the documents train, 20 % calibrate, 20 % judge. Of each label at most MOST_DOCUMENTS are taken (those of
    the smallest hash), of each the first MOST_CHARS characters, which bounds memory, and of these MOST_PASSAGES
    passages for training. Every label weighs the same in training.

    Args:
        examples: label -> its documents, read once.
        penalty: of the squared weights, beside the mean loss of a passage.

    Raises:
        UsageError: fewer than two labels.
        InputError: a label with too few documents to hold some out.
    """
    if len(examples) < 2:
        raise UsageError(f"a classifier needs two labels or more, each with a folder of examples; got {len(examples)}")
    labels = list(examples)
    parts: dict[str, list[tuple[Document, int]]] = {"train": [], "calibrate": [], "judge": []}
    for number, label in enumerate(labels):
        for part, documents in _parts(label, examples[label]).items():
            parts[part] += [(document, number) for document in documents]
    weights, bias = _fit([d.text for d, _ in parts["train"]], _numbers(parts["train"]), len(labels), penalty)
    held = _numbers(parts["calibrate"])
    scored = [_document_scores(batch, weights, bias) for batch in batches((d.text for d, _ in parts["calibrate"]), len)]
    scores, lengths = (np.concatenate([found[part] for found in scored]) for part in (0, 1))
    scale, growth, offsets = solver.calibration(scores, lengths, held)
    shares = np.bincount(held, minlength=len(labels)) / len(held)
    header = ClassifierHeader(
        labels=labels, bias=bias.tolist(), scale=scale, growth=growth, offsets=offsets.tolist(), shares=shares.tolist(),
        weights_sha256="",
    )  # fmt: skip
    found = Classifier(header, weights)
    judged = parts["judge"]
    probabilities = found.probabilities([document.text for document, _ in judged])
    report = judge(
        labels, probabilities, _numbers(judged), [d for d, _ in judged],
        n_train=len(parts["train"]), n_calibrate=len(held),
    )  # fmt: skip
    return Classifier(msgspec.structs.replace(header, report=report), weights)


def _parts(label: str, documents: Iterable[Document]) -> dict[str, list[Document]]:
    """Documents with text, by the part their id puts them in."""
    full = (Document(each.id, each.text[:MOST_CHARS]) for each in documents if each.text.strip())
    taken = heapq.nsmallest(MOST_DOCUMENTS, full, key=lambda document: (_mixed(document.id), document.id))
    parts: dict[str, list[Document]] = {"train": [], "calibrate": [], "judge": []}
    for document in taken:
        held = side(f"quality:{document.id}", validation_fraction=_HELD_OUT) == "validation"
        last = side(f"judge:{document.id}", validation_fraction=0.5) == "validation"
        parts["train" if not held else "judge" if last else "calibrate"].append(document)
    if len(taken) < LEAST_DOCUMENTS or not all(parts.values()):
        raise InputError(
            f"label {label!r}: {len(taken)} documents with text, too few to train on, calibrate with and hold out; "
            f"give {LEAST_DOCUMENTS} or more, better hundreds"
        )
    return parts


def _fit(
    texts: Sequence[str], labels: npt.NDArray[np.int64], n_labels: int, penalty: float
) -> tuple[npt.NDArray[np.float32], Array]:
    """Softmax regression on passages, every label of the same weight."""
    found = [passages(batch, most=MOST_PASSAGES) for batch in batches(texts, len)]
    features = stacked([part for part, _ in found])
    n_texts = np.cumsum([0, *(len(batch) for batch in batches(texts, len))])
    target = labels[np.concatenate([owner + first for (_, owner), first in zip(found, n_texts, strict=False)])]
    counts = np.bincount(target, minlength=n_labels)
    each = 1 / (n_labels * counts[target])
    return solver.softmax_regression(features, target, each, n_labels=n_labels, n_buckets=1 << BITS, penalty=penalty)


def _document_scores(texts: Sequence[str], weights: npt.NDArray[np.float32], bias: Array) -> tuple[Array, Array]:
    """(texts, labels) mean score of a text's passages, and (texts,) how many it has."""
    features, owner = passages(texts)
    scores = features.scores(weights) + bias
    counts = np.bincount(owner, minlength=len(texts)).astype(np.float64)
    return np.stack([np.bincount(owner, column, len(texts)) / counts for column in scores.T], axis=1), counts


def _npy(weights: npt.NDArray[np.float32]) -> bytes:
    """The array in numpy's own format, which holds numbers and nothing else."""
    out = io.BytesIO()
    np.save(out, weights)
    return out.getvalue()


def _mixed(document_id: str) -> bytes:
    """What decides which documents of a large folder are taken."""
    return hashlib.blake2b(document_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _numbers(part: Sequence[tuple[Document, int]]) -> npt.NDArray[np.int64]:
    return np.array([number for _, number in part], np.int64)
