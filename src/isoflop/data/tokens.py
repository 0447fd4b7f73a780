"""The tokens of several files as one long sequence, and rows of it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_ACROSS = -1  # in place of a file's number, where a row runs over its end
_TOGETHER = 8  # rows of one file from which on one index of them all is faster than a slice for each


class Tokens:
    """The tokens of several files as one sequence, mapped and not read.

    Attributes:
        arrays: the files' tokens.
        offsets: (files + 1,) position of each file's first token, and the total.
    """

    def __init__(self, arrays: Sequence[npt.NDArray[np.unsignedinteger]]) -> None:
        self.arrays = [array for array in arrays if len(array)]
        self.offsets = np.cumsum([0, *map(len, self.arrays)], dtype=np.int64)
        self._views: dict[tuple[int, int], npt.NDArray[np.unsignedinteger]] = {}

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def gather(self, starts: npt.NDArray[np.int64], *, length: int) -> npt.NDArray[np.int64]:
        """(n, length) the tokens from each of n positions on; a row may run over the end of a file."""
        out = np.empty((len(starts), length), dtype=np.int64)
        which = np.searchsorted(self.offsets, starts, side="right") - 1
        which[starts + length > self.offsets[which + 1]] = _ACROSS
        by_file = np.argsort(which, kind="stable")
        for rows in np.split(by_file, np.flatnonzero(np.diff(which[by_file])) + 1) if len(starts) else ():
            number = int(which[rows[0]])
            if number != _ACROSS and len(rows) >= _TOGETHER:
                out[rows] = self._rows(number, length)[starts[rows] - self.offsets[number]]
                continue
            for row in rows.tolist():
                out[row] = self._slice(number, int(starts[row]), length)
        return out

    def _rows(self, number: int, length: int) -> npt.NDArray[np.unsignedinteger]:
        """All rows of a length that a file holds, as one view."""
        if (number, length) not in self._views:
            self._views[number, length] = np.lib.stride_tricks.sliding_window_view(self.arrays[number], length)
        return self._views[number, length]

    def _slice(self, number: int, start: int, length: int) -> npt.NDArray[np.unsignedinteger]:
        """One row, in a file or across the ends of some."""
        if number == _ACROSS:
            return self._across(start, length)
        begin = start - int(self.offsets[number])
        return self.arrays[number][begin : begin + length]

    def _across(self, start: int, length: int) -> npt.NDArray[np.unsignedinteger]:
        parts = []
        for array, offset in zip(self.arrays, self.offsets, strict=False):
            lo, hi = max(start - int(offset), 0), start + length - int(offset)
            if lo < len(array) and hi > 0:
                parts.append(array[lo:hi])
        return np.concatenate(parts)
