"""A batch's parts are its rows, and what they say of themselves adds up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.data.batch import Batch
from isoflop.data.corrupt import NOTHING


@given(st.integers(1, 9), st.integers(1, 10), st.integers(0, 2**31))
def test_parts_put_together_are_the_batch(sequences: int, rows: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    ids = random.integers(0, 50, (sequences, 6))
    batch = Batch(
        inputs_ST=ids,
        targets_SU=np.where(random.random((sequences, 6)) < 0.5, ids, NOTHING),
        prefix_S=ids[:, 0],
        documents_ST=ids + 1,
    )
    parts = list(batch.parts(rows))
    for name in ("inputs_ST", "targets_SU", "prefix_S", "documents_ST"):
        np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(batch, name))
    assert all(part.outputs_SU is None for part in parts)
    assert sum(part.said for part in parts) == batch.said
    if batch.said:
        # Weighted by what parts say, what they read adds up to all but the parts that say nothing.
        read = sum(part.read_per_said * part.said / batch.said for part in parts)
        assert read == pytest.approx(sum(len(part.inputs_ST) for part in parts if part.said) / sequences)
