"""Windows of a text in an order of their own in each epoch, found one by one: no list of them is ever made."""

import hashlib

import numpy as np
import numpy.typing as npt

from isoflop.data.draw import mixed
from isoflop.errors import InputError

_ROUNDS = 6


def n_windows(n_tokens: int, *, context: int, of: str = "the split") -> int:
    """Whole windows of `context` tokens, each with the one behind it, that do not overlap.

    Raises:
        InputError: not even one.
    """
    found = (n_tokens - 1) // context
    if found < 1:
        raise InputError(
            f"{of} has {n_tokens} tokens; one window of context {context} needs {context + 1}. "
            "Give more text, or a shorter context"
        )
    return found


def in_order(
    places: npt.NDArray[np.int64], n: int, *, seed: int, stream: int = 0, epoch: int = 0
) -> npt.NDArray[np.int64]:
    """The windows at these places of an endless reading that passes through all n again and again.

    Args:
        places: from 0; place p lies in pass p // n.
        n: windows there are.
        stream: of several texts, which; they have orders of their own.
        epoch: number of the first pass.
    """
    passes, inside = np.divmod(places, n)
    different, which = np.unique(passes, return_inverse=True)
    keys = np.stack([_round_keys(seed, epoch + int(one), stream) for one in different], axis=1)
    return _permuted(inside, n, keys[:, which] if len(different) > 1 else keys)


def shuffled(places: npt.NDArray[np.int64], n: int, *, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Where a permutation of 0..n-1, chosen by (seed, epoch), puts `places`."""
    return _permuted(places, n, _round_keys(seed, epoch, 0)[:, None])


def _permuted(places: npt.NDArray[np.int64], n: int, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Places under the permutation that the keys choose.

    A Feistel network on pairs (left < a, right < b) with a*b just above n; what lands outside n is sent through
    again until it lands inside. So no list of n windows is ever built or kept (8 GB at a trillion tokens), any place
    is found in the same time, and the order is this code's own, not that of one release of a random library.

    Args:
        keys: (rounds, places), or (rounds, 1) where all have the same.

    Source: Black and Rogaway 2002, "Ciphers with arbitrary finite domains", generalised Feistel and cycle walking.
    """
    a = int(np.ceil(np.sqrt(n)))
    b = -(-n // a)
    out = places.astype(np.uint64)
    todo = np.arange(len(out))
    while len(todo):
        here, own = out[todo], keys if keys.shape[1] == 1 else keys[:, todo]
        left = here // np.uint64(b)
        right = here - left * np.uint64(b)
        for one, two in zip(own[::2], own[1::2], strict=True):
            left = _modulo(left + _modulo(mixed(right, one), a), a)
            right = _modulo(right + _modulo(mixed(left, two), b), b)
        here = left * np.uint64(b) + right
        out[todo] = here
        todo = todo[here >= n]
    return out.astype(np.int64)


def _modulo(x: npt.NDArray[np.uint64], n: int) -> npt.NDArray[np.uint64]:
    """x % n, in a third of the time: numpy has a fast quotient by one number, and no fast remainder."""
    return x - x // np.uint64(n) * np.uint64(n)


def _round_keys(seed: int, epoch: int, stream: int) -> npt.NDArray[np.uint64]:
    """(rounds,) 64-bit keys out of a sha512; stream 0 has those from before there were more."""
    digest = hashlib.sha512((f"{seed}:{epoch}:{stream}" if stream else f"{seed}:{epoch}").encode()).digest()
    return np.frombuffer(digest, dtype="<u8")[:_ROUNDS]
