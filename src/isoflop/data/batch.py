"""The examples of one step, whose rows ranks and micro-batches share.

Legend: S sequences, T tokens read, U tokens said.
"""

from collections.abc import Iterator

import numpy as np
from msgspec import Struct

from isoflop.data.corrupt import NOTHING, Ids


class Batch(Struct, frozen=True, kw_only=True):
    """What is read and what is to be said.

    Attributes:
        inputs_ST: tokens read.
        targets_SU: tokens to say; `NOTHING` where there is none.
    """

    inputs_ST: Ids
    targets_SU: Ids

    @property
    def said(self) -> int:
        """Targets there are: what the mean loss is a mean over."""
        return int(np.count_nonzero(self.targets_SU != NOTHING))

    def parts(self, rows: int) -> Iterator["Batch"]:
        """The same in parts of so many sequences, the last perhaps of fewer."""
        for start in range(0, len(self.inputs_ST), rows):
            some = slice(start, start + rows)
            yield Batch(inputs_ST=self.inputs_ST[some], targets_SU=self.targets_SU[some])
