"""Span corruption: spans of the text are replaced by one sentinel each, and are to be said after their sentinels.

    text      a b c d e f g h i
    inputs    a b <0> e f g <1> END
    targets   <0> c d <1> h i END

A text of a length always gives inputs and targets of the same lengths, so that batches are full and nothing is padded.
Spans are kept apart by at least one token; a text begins with a token that is kept and ends with a span.

Source: Raffel et al. 2020 (arXiv:1910.10683), sec. 3.1.4 and 3.3.4; lengths are those of `specs.spans`.
"""

import numpy as np
import numpy.typing as npt

from isoflop.data.corrupt import Ids, Place, matrix
from isoflop.errors import UsageError
from isoflop.specs import spans as specs
from isoflop.specs.spans import Lengths, lengths


class Spans(specs.Spans, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How spans are chosen and written.

    Attributes:
        vocabulary: number of ids; sentinels are vocabulary - 1, vocabulary - 2, ... and must not be text.
        end: id that closes inputs and targets.
    """

    vocabulary: int
    end: int


def corrupt(tokens_ST: Ids, spans: Spans, place: Place) -> tuple[Ids, Ids]:
    """Inputs (S, `Lengths.inputs`) and targets (S, `Lengths.targets`).

    Raises:
        UsageError: the tokens are not sequences x tokens, or sentinels are text: the vocabulary is too small.
    """
    rows, text = matrix(tokens_ST).shape
    sizes = lengths(text, spans)
    lowest = spans.vocabulary - sizes.spans
    if tokens_ST.min() < 0 or max(int(tokens_ST.max()), spans.end) >= lowest:
        raise UsageError(
            f"objective: {sizes.spans} sentinels need the ids {lowest} to {spans.vocabulary - 1}, but text or its end "
            f"uses {max(int(tokens_ST.max()), spans.end)}; set the model's vocabulary to at least "
            f"{max(int(tokens_ST.max()), spans.end) + 1 + sizes.spans}"
        )
    lost_ST = _lost(rows, sizes, place)
    begins_ST = np.diff(lost_ST, axis=1, prepend=False) & lost_ST
    kept_ST = ~lost_ST
    resumes_ST = np.diff(kept_ST, axis=1, prepend=False) & kept_ST
    end_S1 = np.full((rows, 1), spans.end, dtype=np.int64)
    inputs = _marked(tokens_ST, begins_ST, spans)[kept_ST | begins_ST].reshape(rows, -1)
    targets = _marked(tokens_ST, resumes_ST, spans)[lost_ST | resumes_ST].reshape(rows, -1)
    return np.concatenate((inputs, end_S1), 1), np.concatenate((targets, end_S1), 1)


def shifted(targets_SU: Ids, *, start: int) -> Ids:
    """(S, U) what a decoder reads to say the targets: `start`, then each target but the last."""
    start_S1 = np.full((len(targets_SU), 1), start, dtype=np.int64)
    return np.concatenate((start_S1, targets_SU[:, :-1]), 1)


def _marked(tokens_ST: Ids, at_ST: npt.NDArray[np.bool_], spans: Spans) -> Ids:
    """The tokens, with the next sentinel at each place."""
    marked: Ids = np.where(at_ST, spans.vocabulary - at_ST.cumsum(1), tokens_ST)
    return marked


def _lost(rows: int, sizes: Lengths, place: Place) -> npt.NDArray[np.bool_]:
    """(S, T) whether a token is in a span: kept and lost parts in turn, kept first."""
    parts = np.empty((rows, 2 * sizes.spans), dtype=np.int64)
    parts[:, 0::2] = _parts(sizes.text - sizes.lost, sizes.spans, place.uniform("spans.kept", rows, sizes.text))
    parts[:, 1::2] = _parts(sizes.lost, sizes.spans, place.uniform("spans.lost", rows, sizes.text))
    is_lost = np.tile(np.arange(2 * sizes.spans) % 2 == 1, rows)
    return np.repeat(is_lost, parts.ravel()).reshape(rows, sizes.text)


def _parts(total: int, parts: int, draws: npt.NDArray[np.float64]) -> Ids:
    """(S, parts) positive numbers of sum `total`, all ways equally likely: parts - 1 of total - 1 places are cut."""
    cuts = np.sort(draws[:, : total - 1].argsort(1)[:, : parts - 1] + 1, axis=1)
    return np.diff(cuts, axis=1, prepend=0, append=total)
