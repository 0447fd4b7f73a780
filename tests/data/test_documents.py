"""Documents packed into one sequence are told apart by their ends."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from isoflop.data.documents import numbers


def test_an_end_of_text_opens_the_document_behind_it() -> None:
    tokens = np.array([[5, 6, 9, 7, 9, 9], [9, 5, 5, 5, 5, 9]])
    assert numbers(tokens, end=9).tolist() == [[0, 0, 1, 1, 2, 3], [1, 1, 1, 1, 1, 2]]


@given(st.lists(st.lists(st.integers(0, 8), max_size=5), min_size=1, max_size=6))
def test_documents_packed_are_told_apart_again(documents: list[list[int]]) -> None:
    packed = [token for document in documents for token in (9, *document)]
    found = numbers(np.array([packed]), end=9)[0]
    assert [[t for t, n in zip(packed, found, strict=True) if n == k][1:] for k in range(1, found[-1] + 1)] == documents
