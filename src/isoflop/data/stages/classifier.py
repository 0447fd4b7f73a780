"""Keeps documents by the probability that a trained classifier gives to a label: quality, toxicity, or what it was
trained on.

With `least` or `most` each document is judged for itself; with `share` the best of the corpus stay.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from msgspec import Struct

from isoflop.data.document import Document, Dropped
from isoflop.data.quality import Classifier, load
from isoflop.data.shingles import batches
from isoflop.data.stages import Corpus, Fate, PerDocument
from isoflop.errors import UsageError
from isoflop.files import disk
from isoflop.specs.data_recipe import Limits

VERSION = 1
PATHS = ("model",)
_SCORE = np.dtype("<f8")


class Options(Struct, frozen=True, kw_only=True):
    """A folder that `isoflop data classifier train` made, one of its labels, and who stays.

    Attributes:
        least, most: bounds of the label's probability.
        share: of the corpus' documents those of the highest probability stay; equal ones stay together.
        prior: share of each label among the documents to be judged, where it is not that of the training folders.
    """

    model: str
    label: str
    least: float | None = None
    most: float | None = None
    share: float | None = None
    prior: dict[str, float] = {}

    def __post_init__(self) -> None:
        given = [each for each in (self.least, self.most, self.share) if each is not None]
        if not given or (self.share is not None and len(given) > 1):
            raise ValueError("give least, most or both, or share alone")
        if not all(0 <= each <= 1 for each in given):
            raise ValueError(f"least, most and share are between 0 and 1; got {', '.join(map(str, given))}")


class _Judge:
    """Probabilities of the one label."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.model: Classifier = load(Path(options.model))
        if options.label not in self.model.labels:
            raise UsageError(f"{options.model}: no label {options.label!r}; there are {', '.join(self.model.labels)}")
        self.column = self.model.labels.index(options.label)
        self.probabilities([""])  # A wrong prior is told now.

    def probabilities(self, texts: Sequence[str]) -> list[float]:
        found = self.model.probabilities(texts, prior=self.options.prior or None)[:, self.column]
        return [float(each) for each in found]

    def dropped(self, said: str, probability: float, bound: str) -> Dropped:
        return Dropped(reason=f"{self.options.label}: {said}", detail=f"probability {probability:.3f}, {bound}")


class BestShare(_Judge):
    """Notes the probability of each document; the judgement finds the one above which the share lies."""

    def note(self, documents: Iterable[Document], path: Path) -> Sequence[Path]:
        """8 bytes a document."""
        file = _beside(path)
        with disk(file), ExitStack() as stack:
            file.parent.mkdir(parents=True, exist_ok=True)
            out = stack.enter_context(file.open("wb"))
            for batch in batches((document.text for document in documents), len):
                out.write(np.array(self.probabilities(batch), _SCORE).tobytes())
        return [file]

    def judge(self, notes: Sequence[Path], scratch: Path) -> Iterator[bytes]:
        """For one that goes, its probability and the least of those that stay."""
        each = np.concatenate([np.fromfile(_beside(path), _SCORE) for path in notes])
        kept = round((self.options.share or 0) * len(each))
        bound = np.partition(each, len(each) - kept)[len(each) - kept] if kept else np.inf
        for probability in each:
            yield b"" if probability >= bound else np.array([probability, bound], _SCORE).tobytes()

    def apply(self, document: Document, verdict: bytes) -> Fate:
        """Drop what lies below."""
        if not verdict:
            return document
        probability, bound = np.frombuffer(verdict, _SCORE)
        return self.dropped("not among the best", float(probability), f"the best begin at {bound:.3f}")


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.probabilities.bin")


def start(options: Options, limits: Limits) -> PerDocument | Corpus:
    """Texts by `isoflop.data.quality`.

    Raises:
        InputError: no classifier there, or a damaged one.
        UsageError: it has no such label, or the prior does not name its labels.
    """
    if options.share is not None:
        return BestShare(options)
    asked = _Judge(options)

    def judge(document: Document) -> Fate:
        (probability,) = asked.probabilities([document.text])
        if options.least is not None and probability < options.least:
            return asked.dropped("too unlikely", probability, f"least {options.least:g}")
        if options.most is not None and probability > options.most:
            return asked.dropped("too likely", probability, f"most {options.most:g}")
        return document

    return judge
