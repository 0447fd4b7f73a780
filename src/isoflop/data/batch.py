"""The examples of one step, whose rows ranks and micro-batches share.

Legend: S sequences, T tokens read, U tokens said.
"""

from collections.abc import Iterator

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from isoflop.data.corrupt import NOTHING, Ids


class Batch(Struct, frozen=True, kw_only=True):
    """What is read and what is to be said.

    Attributes:
        inputs_ST: tokens read.
        targets_SU: tokens to say; `NOTHING` where there is none.
        outputs_SU: what the decoder of an encoder-decoder reads, its targets one place on; None elsewhere.
        prefix_S: tokens of each sequence that are read both ways; None where none are.
        documents_ST: number of the document that each token is of, where documents are apart; None where they are not.
        read_per_said: share of the whole batch that is read here over the share that is said here: 1 in the whole.
            Parts are weighted by what they say, so this is the weight of what is a mean over tokens read.
    """

    inputs_ST: Ids
    targets_SU: Ids
    outputs_SU: Ids | None = None
    prefix_S: Ids | None = None
    documents_ST: Ids | None = None
    read_per_said: float = 1.0

    @property
    def said(self) -> int:
        """Targets there are: what the mean loss is a mean over."""
        return int(np.count_nonzero(self.targets_SU != NOTHING))

    def parts(self, rows: int) -> Iterator["Batch"]:
        """The same in parts of so many sequences, the last perhaps of fewer."""
        for start in range(0, len(self.inputs_ST), rows):
            yield self.rows(slice(start, start + rows))

    def rows(self, some: slice) -> "Batch":
        """Some of its sequences."""
        picked = {name: value[some] for name in _ARRAYS if (value := getattr(self, name)) is not None}
        part = Batch(**picked)
        share = len(part.inputs_ST) / len(self.inputs_ST)
        return replace(part, read_per_said=share * self.said / part.said if part.said else 0.0)


_ARRAYS = tuple(name for name in Batch.__struct_fields__ if name != "read_per_said")
