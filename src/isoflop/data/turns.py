"""Which source each sample comes from, so that every stretch of them holds every source by its share.

Sources are joined two by two, the smallest first, into a tree. At each fork, of the first m samples that reach it,
round(m p) go left, p being the left side's share of the two: a low-discrepancy sequence at every fork, found for any
sample without those before it. So the count of a source among the first n samples, wherever n lies, differs from n
times its share by less than 1.7 for any number of sources, and by nothing where n is a multiple of the parts.

The bound: an error at a fork is at most 1/2, and reaches a leaf multiplied by the leaf's share of the fork's branch.
In such a tree (Huffman's) the branches above a leaf weigh at least 1, 1, 2, 3, 5, ... times as much as it, and the
Fibonacci numbers' reciprocals sum to 3.36.
"""

import heapq
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class _Fork(NamedTuple):
    """Two branches, of which the left one has `left_parts` of `parts`."""

    left: "_Fork | int"
    right: "_Fork | int"
    left_parts: int
    parts: int

    def split(self, m: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Of the first m samples, how many go left, round(m left_parts / parts), and whether the next one does.

        In periods and a rest, so that 64 bits hold the product whatever m.
        """
        periods = m // self.parts
        twice = (m - periods * self.parts) * (2 * self.left_parts) + self.parts
        rest = twice // (2 * self.parts)
        over = twice - rest * (2 * self.parts)
        return periods * self.left_parts + rest, over >= 2 * (self.parts - self.left_parts)


class Turns:
    """The order in which sources take turns.

    Args:
        parts: of each source, whole numbers whose sum is at most 2^31; 0 for one that has no turn.
    """

    def __init__(self, parts: Sequence[int]) -> None:
        self._n_sources = len(parts)
        self._root = _tree(parts)

    def of(self, samples: Ints) -> tuple[Ints, Ints]:
        """(n,) the source of each sample, counted from 0, and how many samples of that source lie before it."""
        which, place = np.empty_like(samples), np.empty_like(samples)
        todo: list[tuple[_Fork | int, Ints, Ints]] = [(self._root, np.arange(len(samples)), samples)]
        while todo:
            node, rows, before = todo.pop()
            if isinstance(node, int):
                which[rows], place[rows] = node, before
                continue
            left, goes_left = node.split(before)
            for side, chosen, count in ((node.left, goes_left, left), (node.right, ~goes_left, before - left)):
                todo.append((side, rows[chosen], count[chosen]))
        return which, place

    def taken(self, samples: int) -> list[int]:
        """(sources,) how many of the first so many samples each source has."""
        found = [0] * self._n_sources
        for source, count in _counts(self._root, samples):
            found[source] = count
        return found


def _tree(parts: Sequence[int]) -> _Fork | int:
    """Sources by parts, the two smallest joined until there is one; equal ones in their order."""
    heap: list[tuple[int, int, _Fork | int]] = [(part, i, i) for i, part in enumerate(parts) if part]
    heapq.heapify(heap)
    number = len(parts)
    while len(heap) > 1:
        small, large = heapq.heappop(heap), heapq.heappop(heap)
        joined = small[0] + large[0]
        heapq.heappush(heap, (joined, number, _Fork(large[2], small[2], large[0], joined)))
        number += 1
    return heap[0][2]


def _counts(node: _Fork | int, samples: int) -> Iterator[tuple[int, int]]:
    if isinstance(node, int):
        yield node, samples
        return
    left = int(node.split(np.array([samples]))[0][0])
    yield from _counts(node.left, left)
    yield from _counts(node.right, samples - left)
