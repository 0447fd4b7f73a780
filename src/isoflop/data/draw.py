"""Random numbers as a pure function of where they are used: (purpose, seed, step, row, column).

Nothing is drawn before anything else, so a resume, another world size or another order of work finds the same numbers,
and they are this code's own, not those of one release of a random library.
"""

import hashlib

import numpy as np
import numpy.typing as npt


def uniform(purpose: str, *, seed: int, step: int, first_row: int, rows: int, columns: int) -> npt.NDArray[np.float64]:
    """(rows, columns) numbers, uniform in [0, 1).

    Args:
        purpose: what they are for; each purpose has numbers of its own.
        seed: of the run.
        step: of the run.
        first_row: place of the first row in the batch of all ranks.
    """
    digest = hashlib.sha512(f"{purpose}:{seed}:{step}".encode()).digest()
    row_key, column_key = np.frombuffer(digest, dtype="<u8")[:2]
    row_R1 = mixed(np.arange(first_row, first_row + rows, dtype=np.uint64), row_key)[:, None]
    # Two rounds: one would give row r, column c what row r', column c' has wherever their sums agree.
    bits_RC = mixed(mixed(np.arange(columns, dtype=np.uint64), column_key) ^ row_R1, row_key)
    return (bits_RC >> np.uint64(11)).astype(np.float64) * 2.0**-53


def mixed(x: npt.NDArray[np.uint64], key: np.uint64 | npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele et al. 2014) on x + key: every bit out hangs on every bit in."""
    z = x + key
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
